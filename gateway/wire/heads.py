"""The raw head of a request, judged before any parser sees it. Pure: bytes in, a verdict out.

Parsers are lenient in different ways, and two that read one request differently are how requests get smuggled past a
proxy. h11 (0.16) takes bare LF, folded fields, `Content-Length: 4, 4`, Content-Length beside Transfer-Encoding,
HTTP/1.9 and HTTP/2.0; here each of these is refused, so what h11 is given has exactly one meaning (RFC 9112).
Refused too is what the gateway does not speak: HTTP/2 (its preface and its upgrade), WebSocket, CONNECT, TRACE, and
targets that are not a path.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.wire.refusals import Refused

END: Final = b"\r\n\r\n"
_TLS_RECORD: Final = 0x16
_FIRST: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z\r]")
_LONE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([\x21-\x7e]+) HTTP/(\d\.\d)")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH: Final = re.compile(rb"\d{1,18}")  # 18 digits fit every 64-bit reader, and no blob is larger
_LABEL: Final = rb"[A-Za-z0-9_-]{1,63}"  # frameworks fail on longer and on empty ones when they look the host up
_HOST: Final = re.compile(rb"(?:(?:%s(?:\.%s)*\.?)?|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?" % (_LABEL, _LABEL))
_REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE", b"PRI"})
_ONCE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})


@dataclass(frozen=True, slots=True)
class Head:
    """What the server itself has to know of a request. `body_bytes` is None when the body is chunked."""

    method: bytes
    target: bytes
    version: bytes
    body_bytes: int | None
    expects_continue: bool


def find_end(unread: bytes, *, searched: int, limit: int) -> int | None:
    """Where the head that `unread` begins with ends, or None while more is needed.

    The first `searched` bytes were looked at in an earlier call. Raises `Refused` as soon as the bytes cannot become a
    head any more: a TLS hello on a plain port (row GEN-23), a lone CR or LF, more than `limit` bytes (431).
    """
    if unread[0] == _TLS_RECORD:
        raise Refused("this port speaks plain HTTP; the client began with TLS")
    if _FIRST.match(unread) is None:
        raise Refused("this is not HTTP")
    end = unread.find(END, max(searched - len(END) + 1, 0))
    stop = len(unread) if end < 0 else end
    if _LONE_LINE_END.search(unread, max(searched - 1, 0), stop):
        raise Refused("lines end with CR LF, never with one of them alone")
    if stop > limit:
        raise Refused(f"the request's head is larger than {limit} bytes", status=431)
    return None if end < 0 else end + len(END)


def judge(head: bytes, *, max_fields: int) -> Head:
    """The meaning of a complete raw head (with its empty line); raises `Refused` for every head with a second one."""
    line, *fields = head[: -len(END)].split(b"\r\n")
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise Refused("the request line is malformed")
    method, target, version = parts.groups()
    if version not in {b"1.0", b"1.1"}:
        raise Refused("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if method in _REFUSED_METHODS:
        raise Refused(f"{method.decode('ascii')} is not supported")
    if not target.startswith(b"/") or b"#" in target:
        raise Refused("the request target must be a path")
    if len(fields) > max_fields:
        raise Refused(f"more than {max_fields} header fields", status=431)
    known = _known_fields(fields)
    _check_host(known, version)
    expects = version == b"1.1" and known.get(b"expect", b"").lower() == b"100-continue"
    return Head(method, target, version, _body_bytes(known, version), expects)


def _known_fields(fields: list[bytes]) -> dict[bytes, bytes]:
    """The fields that decide about framing and routing, by lower-case name; everything else is only checked."""
    known: dict[bytes, bytes] = {}
    for field in fields:
        name, colon, value = field.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:  # a folded line and a space before the colon end here
            raise Refused("a header field is malformed")
        if _CONTROL.search(value):
            raise Refused("a header field contains control characters")
        name = name.lower()
        if name == b"upgrade":
            raise Refused("upgrading to another protocol is not supported")
        if name in _ONCE:
            if name in known:
                raise Refused(f"several {name.decode('ascii')} fields")
            known[name] = value.strip(b" \t")
    return known


def _check_host(known: dict[bytes, bytes], version: bytes) -> None:
    host = known.get(b"host")
    if host is None:
        if version == b"1.1":
            raise Refused("the Host field is missing")
    elif _HOST.fullmatch(host) is None:
        raise Refused("the Host field is malformed")


def _body_bytes(known: dict[bytes, bytes], version: bytes) -> int | None:
    length, coding = known.get(b"content-length"), known.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise Refused("Content-Length and Transfer-Encoding together")
        if version == b"1.0" or coding.lower() != b"chunked":
            raise Refused("the only transfer coding is chunked, in HTTP/1.1")
        return None
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise Refused("Content-Length is not a number of bytes")
    return int(length)
