"""The raw head of a request, judged as bytes and taken apart by the same grammar. Pure: bytes in, a verdict out.

Parsers are lenient in different ways, and two that read one request differently are how requests get smuggled past a
proxy. So there is one reader, and it is strict: bare LF, folded fields, `Content-Length: 4, 4`, Content-Length beside
Transfer-Encoding, HTTP/1.9 and HTTP/2.0 are refused; what passes has exactly one meaning (RFC 9112), and tests hold it
to llhttp's and h11's reading of the same bytes. Refused too is what the gateway does not speak: HTTP/2 (its preface and
its upgrade), WebSocket, CONNECT, TRACE, and targets that are not a path.

A head in order costs two regular expressions (5 us for nine fields); words are looked for only when it is not.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from gateway.wire.refusals import Refused

END: Final = b"\r\n\r\n"
_TLS_RECORD: Final = 0x16
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"
_FIRST: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z\r]")
_LONE_LINE_END: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_HEAD: Final = re.compile(
    rb"(%s{1,32}) ([\x21-\x7e]+) HTTP/(1\.[01])\r\n((?:%s+:%s*\r\n)*)\r\n" % (_TOKEN, _TOKEN, _TEXT)
)
_FIELD: Final = re.compile(rb"(%s+):[ \t]*(%s*)\r\n" % (_TOKEN, _TEXT))
_REQUEST_LINE: Final = re.compile(rb"%s{1,32} [\x21-\x7e]+ HTTP/(\d\.\d)" % _TOKEN)
_NAME: Final = re.compile(rb"%s+" % _TOKEN)
_LENGTH: Final = re.compile(rb"\d{1,18}")  # 18 digits fit every 64-bit reader, and no blob is larger
_LABEL: Final = rb"[A-Za-z0-9_-]{1,63}"  # frameworks fail on longer and on empty ones when they look the host up
_HOST: Final = re.compile(rb"(?:(?:%s(?:\.%s)*\.?)?|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?" % (_LABEL, _LABEL))
_HOST_BYTES: Final = 260  # a name of 253 with a port (RFC 1035, 2.3.4)
_REFUSED_METHODS: Final = frozenset({b"CONNECT", b"TRACE", b"PRI"})
_KNOWN: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect", b"connection", b"upgrade"})

Fields = list[tuple[bytes, bytes]]
"""In order; names in lower case, values without surrounding blanks."""


class Head(NamedTuple):
    """A request but for its body. `body_bytes` is None when the body is chunked.

    `closes`: the client wants the connection closed after the answer, as every client of HTTP/1.0 does.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    body_bytes: int | None
    expects_continue: bool
    closes: bool


def find_end(unread: bytes, *, searched: int, limit: int) -> int | None:
    """Where the head that `unread` begins with ends, or None while more is needed.

    The first `searched` bytes were looked at in an earlier call. Raises `Refused` as soon as unfinished bytes cannot
    become a head any more: a TLS hello on a plain port (row GEN-23), a lone CR or LF, more than `limit` bytes (431).
    """
    end = unread.find(END, max(searched - len(END) + 1, 0))
    if 0 <= end <= limit:
        return end + len(END)
    if unread[0] == _TLS_RECORD:
        raise Refused("this port speaks plain HTTP; the client began with TLS")
    if _FIRST.match(unread) is None:
        raise Refused("this is not HTTP")
    if end > limit or len(unread) > limit:
        raise Refused(f"the request's head is larger than {limit} bytes", status=431)
    if _LONE_LINE_END.search(unread, max(searched - 1, 0)):
        raise Refused("lines end with CR LF, never with one of them alone")
    return None


def judge(head: bytes, *, max_fields: int) -> Head:
    """The meaning of a complete raw head (with its empty line); raises `Refused` for every head with a second one."""
    match = _HEAD.fullmatch(head)
    if match is None:
        _complain(head)
    method, target, version, text = match.groups()
    if not method.isupper():  # they are case-sensitive (RFC 9110, 9.1), and frameworks make `delete` a DELETE
        raise Refused("methods are written in capital letters")
    if method in _REFUSED_METHODS:
        raise Refused(f"{method.decode('ascii')} is not supported")
    if not target.startswith(b"/") or b"#" in target:
        raise Refused("the request target must be a path")
    fields = [(name.lower(), value.rstrip(b" \t")) for name, value in _FIELD.findall(text)]
    if len(fields) > max_fields:
        raise Refused(f"more than {max_fields} header fields", status=431)
    known = _known(fields)
    _check_host(known.get(b"host"), version)
    is_new = version == b"1.1"
    return Head(
        method=method,
        target=target,
        version=version,
        fields=fields,
        body_bytes=_body_bytes(known, version),
        expects_continue=is_new and b"expect" in known and known[b"expect"].lower() == b"100-continue",
        closes=not is_new or (b"connection" in known and b"close" in _options(known[b"connection"])),
    )


def _known(fields: Fields) -> dict[bytes, bytes]:
    """The fields that decide about framing, routing and the connection; each at most once, but for lists."""
    known: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in _KNOWN:
            continue
        if name == b"upgrade":
            raise Refused("upgrading to another protocol is not supported")
        if name in known:
            if name != b"connection":
                raise Refused(f"several {name.decode('ascii')} fields")
            known[name] += b"," + value
        else:
            known[name] = value
    return known


def _options(value: bytes) -> list[bytes]:
    return [option.strip(b" \t") for option in value.lower().split(b",")]


def _check_host(host: bytes | None, version: bytes) -> None:
    if host is None:
        if version == b"1.1":
            raise Refused("the Host field is missing")
    elif len(host) > _HOST_BYTES or not _is_host(host):
        raise Refused("the Host field is malformed")


@lru_cache(maxsize=256)  # clients use a handful of names
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


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


def _complain(head: bytes) -> NoReturn:
    """Refuse a head that does not follow the grammar, and say where it does not."""
    if head[0] == _TLS_RECORD:
        raise Refused("this port speaks plain HTTP; the client began with TLS")
    if _FIRST.match(head) is None:
        raise Refused("this is not HTTP")
    if _LONE_LINE_END.search(head):
        raise Refused("lines end with CR LF, never with one of them alone")
    line, *fields = head[: -len(END)].split(b"\r\n")
    start = _REQUEST_LINE.fullmatch(line)
    if start is None:
        raise Refused("the request line is malformed")
    if start[1] not in {b"1.0", b"1.1"}:
        raise Refused("only HTTP/1.1 and HTTP/1.0 are spoken here")
    for field in fields:
        name, colon, _ = field.partition(b":")
        if not colon or _NAME.fullmatch(name) is None:  # a folded line and a space before the colon end here
            raise Refused("a header field is malformed")
    raise Refused("a header field contains control characters")
