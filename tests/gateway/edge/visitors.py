"""Requests from outside as the edge sees them, without a server; and how their refusals are compared."""

import base64
import json
from typing import Any

from gateway.edge.address import External
from gateway.edge.call import Visit
from gateway.oci.errors import RegistryError

HERE = External("http", "registry.test:8080")


def visit(*authorization: str, at: External = HERE, user_agent: str = "test/1") -> Visit:
    """A request with these Authorization headers."""
    return Visit("0123456789abcdef", authorization, at, "192.0.2.7", user_agent)


def basic(user: str, password: str) -> str:
    """The header of a user name and a password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer(token: str) -> str:
    """The header of a token."""
    return f"Bearer {token}"


def as_sent(error: RegistryError) -> tuple[int, dict[str, str], dict[str, Any]]:
    """All that a client sees of an error."""
    return error.status, dict(error.headers), json.loads(error.document())
