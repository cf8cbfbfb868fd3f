"""How the head of an answer is written: status line, fields, and the few that the server adds. Pure.

head = opening(status) + fields + DATE + [CLOSE] + empty line
"""

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

CLOSE: Final = b"connection: close\r\n"
END: Final = b"\r\n"
_OPENINGS: Final = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\n".encode("ascii") for each in HTTPStatus}
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({b"transfer-encoding", b"date"})
"""What the server decides; an application that sends them would contradict it."""


def opening(status: int) -> bytes:
    """The status line; an answer with an unknown status has an empty reason."""
    return _OPENINGS.get(status) or b"HTTP/1.1 %d \r\n" % status


def field_lines(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Header fields as lines; ValueError for what would be something else on the wire (a CR LF within a value)."""
    lines = []
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None or name.lower() in _OURS:
            raise ValueError(f"{name!r} is no header field that an application may send")
        lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


class _Date:
    """The date line, made once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def __call__(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._line = f"date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._line


date_line: Final = _Date()
"""The field that tells when the answer was made (RFC 9110, 6.6.1)."""
