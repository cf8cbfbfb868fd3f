"""What the security tests share: the tenant B's secret layer, and the token endpoint asked by a form."""

from typing import Final
from urllib.parse import urlencode

from tests.served import Reply, Served

SECRET_LAYER: Final = b"a layer that only the tenant B may read" * 50
EVERY_WORKER: Final = range(12)
"""So many new connections reach both workers, but for one chance in thousands."""


def post_form(gateway: Served, **fields: str) -> Reply:
    """POST to the token endpoint."""
    body = urlencode({"service": "sluice", **fields}).encode()
    return gateway.request("POST", "/v2/token", body, {"Content-Type": "application/x-www-form-urlencoded"})


def tokens_by_form(gateway: Served, **fields: str) -> dict[str, str]:
    """The answer to a form that is accepted."""
    reply = post_form(gateway, **fields)
    assert reply.status == 200, reply
    value: dict[str, str] = reply.json()
    return value
