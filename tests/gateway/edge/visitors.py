"""Requests from outside as the edge sees them, without a server; and how what they are told is compared."""

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from quart_trio import QuartTrio

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


@dataclass(frozen=True)
class Answer:
    """An answer as the server is told to send it; header names in lower case."""

    status: int
    all_headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers, of repeated ones the last."""
        return dict(self.all_headers)

    @property
    def codes(self) -> list[str]:
        """The codes of an error document."""
        return [each["code"] for each in json.loads(self.body)["errors"]]


async def ask(
    app: QuartTrio,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes = b"",
    receive: Callable[[], Awaitable[Any]] | None = None,
) -> Answer:
    """One request to an application, by the interface that servers call it by; `receive` in place of a body."""
    raw_path, _, query = path.partition("?")
    framing = {} if receive else {"Content-Length": str(len(body))}
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path, "latin-1"),
        "raw_path": raw_path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "root_path": "",
        "headers": _fields({**framing, "Host": HERE.host, **(headers or {})}),
        "client": ("192.0.2.7", 50000),
        "server": ("127.0.0.1", 8080),
        "extensions": {},
        "state": {},
    }
    sent: list[Any] = []

    async def receive_body() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive or receive_body, send)
    start, *rest = sent
    return Answer(start["status"], _texts(start["headers"]), b"".join(message.get("body", b"") for message in rest))


def _fields(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def _texts(fields: list[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode().lower(), value.decode("latin-1")) for name, value in fields)
