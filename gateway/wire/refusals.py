"""Answers that the server gives by itself, before or instead of the application: always JSON, always closing.

The form is that of the OCI distribution specification's errors, so that every client can show the message.
"""

import json
from email.utils import formatdate
from http import HTTPStatus


class Refused(Exception):
    """A request that the server does not pass on; except after 408 and 500, retrying it unchanged is useless."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def refusal(status: int, message: str, *, without_body: bool = False) -> bytes:
    """A complete HTTP/1.1 answer after which the connection is closed; `without_body` for HEAD."""
    code = "UNAVAILABLE" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "UNSUPPORTED"
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode("ascii")
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"date: {formatdate(usegmt=True)}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append("retry-after: 1")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if without_body else body)
