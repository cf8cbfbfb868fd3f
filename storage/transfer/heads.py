"""Heads of HTTP/1.1: the request's in bytes, the answer's judged. Pure: no socket, no clock.

One strict reader with bounds, as the server of the gateway has for requests: an answer with two possible meanings (two
lengths, a length beside a transfer coding, folded fields, bare LF) is `Broken`, because whoever mistakes where one body
ends takes its rest for the answer to the next request.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from storage.transfer.errors import Broken
from storage.transfer.origin import Origin

HEAD_BYTES: Final = 64 * 1024
"""The largest head of an answer; S3's and registries' have 1 KiB."""

END: Final = b"\r\n\r\n"
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
_HEAD: Final = re.compile(rb"HTTP/(1\.[01]) ([1-9]\d\d)(?: %s*)?\r\n((?:%s+:%s*\r\n)*)\r\n" % (_TEXT, _TOKEN, _TEXT))
_FIELD: Final = re.compile(rb"(%s+):[ \t]*(%s*)\r\n" % (_TOKEN, _TEXT))
_LENGTH: Final = re.compile(r"[0-9]{1,18}")  # 18 digits fit every 64-bit reader
_METHOD: Final = re.compile(r"[A-Z]{1,16}")
_TARGET: Final = re.compile(r"/[\x21-\x7e]*")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({"content-length", "transfer-encoding", "connection", "expect", "upgrade", "te", "trailer"})
_WITH_BODY: Final = frozenset({"PUT", "POST", "PATCH"})
"""Methods whose empty body is said aloud (RFC 9110, 8.6); S3 answers 411 without."""
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304
_SWITCHING: Final = 101
_FIRST_FINAL: Final = 200


@dataclass(frozen=True, slots=True)
class Head:
    """An answer but for its body.

    `size_bytes`: of the body as framed, None when only its end tells; then `chunked` says whether in chunks, or until
    the connection ends. `keeps`: the connection may serve again after exactly this body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    size_bytes: int | None
    chunked: bool
    keeps: bool

    @property
    def interim(self) -> bool:
        """Whether the real answer is still to come (1xx)."""
        return self.status < _FIRST_FINAL


def request_head(
    method: str, origin: Origin, target: str, headers: Sequence[tuple[str, str]], *, size_bytes: int
) -> bytes:
    """The request up to its payload. `Host` is added where `headers` have none, and so is the length.

    Raises ValueError for what would not be one request: a target that is no path in ASCII, control characters, fields
    that frame the message.
    """
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise ValueError(f"not a request line: {method!r} {target!r}")
    names = {name.lower() for name, _ in headers}
    if not names.isdisjoint(_OURS):
        raise ValueError(f"the client itself sets {', '.join(sorted(names & _OURS))}")
    fields = list(headers)
    if "host" not in names:
        fields.insert(0, ("Host", origin.authority))
    if size_bytes or method in _WITH_BODY:
        fields.append(("Content-Length", str(size_bytes)))
    for name, value in fields:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise ValueError(f"not a header field: {name!r}")  # its value may be a secret
    lines = [f"{name}: {value}" for name, value in fields]
    return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode("latin-1")


def find_end(unread: bytes, *, searched: int) -> int | None:
    """Where the head that `unread` begins with ends, None while more is needed; the first `searched` bytes have no end.

    Raises `Broken` as soon as it cannot become a head of `HEAD_BYTES`.
    """
    end = unread.find(END, max(searched - len(END) + 1, 0))
    if 0 <= end <= HEAD_BYTES:
        return end + len(END)
    if not unread.startswith(b"HTTP/1."[: len(unread)]):
        raise Broken("what the server sent is not HTTP/1.1")
    if len(unread) > HEAD_BYTES:
        raise Broken(f"the head of the answer is larger than {HEAD_BYTES} bytes")
    return None


def judge(head: bytes, method: str) -> Head:
    """The meaning of a complete head (with its empty line) that answers `method`; raises `Broken` if it has not one."""
    match = _HEAD.fullmatch(head)
    if match is None:
        raise Broken("the head of the answer is malformed")
    version, status = match[1], int(match[2])
    if status == _SWITCHING:
        raise Broken("the server switches to a protocol that nobody asked for")
    headers = tuple(
        (name.decode("ascii").lower(), value.decode("latin-1").rstrip(" \t"))
        for name, value in _FIELD.findall(match[3])
    )
    size_bytes, chunked = _framing(method, status, version, headers)
    keeps = version == b"1.1" and (size_bytes is not None or chunked) and "close" not in _options(headers)
    return Head(status, headers, size_bytes, chunked, keeps)


def _framing(method: str, status: int, version: bytes, headers: Sequence[tuple[str, str]]) -> tuple[int | None, bool]:
    """Size and whether chunked, in the order of RFC 9112, section 6.3."""
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if method == "HEAD" or status < _FIRST_FINAL or status in {_NO_CONTENT, _NOT_MODIFIED}:
        return 0, False
    if codings:
        if lengths:
            raise Broken("the answer has Content-Length and Transfer-Encoding")
        if version == b"1.0" or [coding.lower() for coding in codings] != ["chunked"]:
            raise Broken("the answer has another transfer coding than chunked")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise Broken("the answer's Content-Length is not one number of bytes")
    return int(lengths[0]), False


def _options(headers: Sequence[tuple[str, str]]) -> set[str]:
    return {
        option.strip(" \t") for name, value in headers if name == "connection" for option in value.lower().split(",")
    }
