"""Attacks on answers that are remembered: what differs from a request that was answered is not answered alike. A table.

Each asks for the same blob often enough for any memory to hold it, and then for something almost the same.
"""

from typing import Final

from tests.security.wire.cases import (
    CHUNKED,
    DIGEST,
    HOST,
    SMUGGLED,
    SMUGGLED_CHUNKS,
    Case,
    Outcome,
    closed,
    either,
    length,
    served,
)
from tests.security.wire.fortress import NAME

_BLOB: Final = f"/v2/{NAME}/blobs/sha256:".encode() + DIGEST
_TIMES: Final = 4
_CLOSE: Final = b"Connection: close\r\n"


def _ask(
    more: bytes = b"", *, path: bytes = _BLOB, host: bytes = HOST, auth: bytes = b"@BEARER@", version: bytes = b"1.1"
) -> bytes:
    return b"GET " + path + b" HTTP/" + version + b"\r\n" + host + auth + more + b"\r\n"


_WARM: Final = _ask() * _TIMES


def _same(name: str, why: str, send: bytes, *says: int) -> Case:
    """Served after the warm ones, and the connection goes on."""
    return served(f"recall-{name}", why, _WARM + send, *[200] * _TIMES, *says)


def _refused(name: str, why: str, send: bytes) -> Case:
    """Refused after the warm ones, whatever is remembered."""
    return closed(f"recall-{name}", why, _WARM + send + SMUGGLED, *[200] * _TIMES, 400)


RECALL: Final[tuple[Case, ...]] = (
    _same("again", "the same gets the same", _WARM, *[200] * _TIMES),
    _same("no-account", "the same without an account", _ask(auth=b""), 401),
    _same("no-account-often", "with and without, in turns", (_ask(auth=b"") + _ask()) * 50, *[401, 200] * 50),
    _same("two-accounts", "two credentials", _ask(b"Authorization: Basic Og==\r\n"), 401),
    _same("empty-account", "credentials of nothing", _ask(auth=b"Authorization: Bearer \r\n"), 401),
    _same("other-account", "another token", _ask(auth=b"Authorization: Bearer a.b.c\r\n"), 401),
    _same("host-evil", "the same under a name that is not ours", _ask(host=b"Host: evil\r\n"), 421),
    _same("host-empty", "the same under no name", _ask(host=b"Host:\r\n"), 400),
    _same(
        "forwarded", "the same, forwarded by nobody", _ask(b"X-Forwarded-Host: evil\r\nForwarded: host=evil\r\n"), 200
    ),
    _same("other-digest", "a blob that is not there", _ask(path=_BLOB[:-1] + b"x"), 400),
    _same("dots", "a path that only looks the same", _ask(path=b"/v2/./" + _BLOB[4:]), 400),
    _same("query", "the same with a query", _ask(path=_BLOB + b"?x=1"), 200),
    _same("body", "the same with a body: it is taken", _ask(length(b"%d" % len(SMUGGLED))) + SMUGGLED, 200),
    _same("chunks", "the same with chunks", _ask(CHUNKED) + SMUGGLED_CHUNKS, 200),
    _same("empty-body", "the same with an empty body", _ask(length(b"0")), 200),
    _same("range", "a part of it", _ask(b"Range: bytes=0-1\r\n"), 206),
    _same("range-end", "its end", _ask(b"Range: bytes=-3\r\n"), 206),
    _same("range-beyond", "what it does not have", _ask(b"Range: bytes=99-\r\n"), 416),
    _same("range-nonsense", "a range that is none", _ask(b"Range: bytes=x-y\r\n"), 200),
    _same("range-high", "a range of no letters", _ask(b"Range: bytes=\xff-\r\n"), 200),
    _same("range-unit", "a range of other things", _ask(b"Range: lines=0-1\r\n"), 200),
    _same("match-other", "not if it is something else", _ask(b'If-None-Match: "x"\r\n'), 200),
    _same("match-high", "not if it is unspeakable", _ask(b"If-None-Match: \xff\r\n"), 200),
    _same("match", "not if it is the same", _ask(b'If-None-Match: "sha256:' + DIGEST + b'"\r\n'), 304),
    closed("recall-close", "the same and goodbye", _WARM + _ask(_CLOSE) + SMUGGLED, *[200] * (_TIMES + 1)),
    closed("recall-1.0", "the same in HTTP/1.0", _WARM + _ask(version=b"1.0") + SMUGGLED, *[200] * (_TIMES + 1)),
    closed("recall-ends", "the same, and an end", _WARM, *[200] * _TIMES, ends=True),
    either(
        "recall-ranges",
        "very many parts of it",
        _ask(b"Range: bytes=" + b",".join([b"0-0"] * 2000) + b"\r\n"),
        Outcome((200,), stays=True),
        Outcome((206,), stays=True),
        Outcome((416,), stays=True),
        Outcome((400,), stays=True),
    ),
    _refused("upgrade", "the same, upgraded", _ask(b"Upgrade: websocket\r\nConnection: Upgrade\r\n")),
    _refused("cl-te", "the same with two framings", _ask(length(b"4") + CHUNKED)),
    _refused("two-hosts", "the same under two names", _ask(HOST)),
    _refused("no-host", "the same under none", _ask(host=b"")),
    _refused("obs-fold", "the same, folded", _ask(b"A: b\r\n c\r\n")),
    _refused("bare-lf", "the same with a bare LF", _ask(b"A: b\nC: d\r\n")),
    _refused("bare-cr", "the same with a bare CR", _ask(b"A: b\rC: d\r\n")),
    _refused("nul", "the same with a NUL", _ask(b"A: \0\r\n")),
    _refused("nul-account", "a NUL in the token", _ask(auth=b"Authorization: Bearer \0\r\n")),
    _refused("fragment", "the same with a fragment", _ask(path=_BLOB + b"#x")),
    _refused("absolute", "the same in absolute form", _ask(path=b"http://localhost" + _BLOB)),
    _refused("version", "the same in HTTP/1.2", _ask(version=b"1.2")),
    _refused("fields", "the same with a space before a colon", _ask(b"A : b\r\n")),
)
