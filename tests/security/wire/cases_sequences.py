"""Attacks on the order of things: pipelines, ends, Expect, HTTP/1.0. A table."""

from typing import Final

from tests.security.wire.cases import (
    BODY,
    CHUNKED,
    CHUNKS,
    GET,
    LAST,
    SMUGGLED,
    UPLOADS,
    Case,
    Outcome,
    ask,
    closed,
    either,
    intrude,
    length,
    push,
    refused,
    served,
)

_EXPECT: Final = b"Expect: 100-continue\r\n"
_BAD: Final = b"GET /health HTTP/1.1\r\nHost: localhost\r\nA\r\n\r\n"
_HEAD: Final = GET.replace(b"GET", b"HEAD")
_OLD: Final = GET.replace(b"HTTP/1.1", b"HTTP/1.0")
_OLD_STAYS: Final = ask(b"Connection: keep-alive\r\n").replace(b"HTTP/1.1", b"HTTP/1.0")
_CL: Final = length(b"12")
_LAYER: Final = b"GET /v2/attacked/images/app/blobs/@LAYER@ HTTP/1.1\r\nHost: localhost\r\n@BEARER@\r\n"
_NOTHING: Final = SMUGGLED.replace(b"smuggled", b"nothing")

PIPELINES: Final = (
    served("pipe-2", "two at once", GET * 2, *[200] * 2),
    served("pipe-100", "100 at once", GET * 100, *[200] * 100),
    served("pipe-1000", "1,000 at once", GET * 1000, *[200] * 1000),
    served("pipe-100-heads", "100 answers without bodies", _HEAD * 100, *[200] * 100, heads=True),
    served(
        "pipe-pushes",
        "20 uploads at once, in both framings",
        (push(_CL, BODY) + push(CHUNKED, CHUNKS)) * 10,
        *[201] * 20,
    ),
    served("pipe-after-404", "an error is no end", _NOTHING + GET, 404, 200),
    served("pipe-after-401", "neither is a refused upload whose body came", intrude(_CL, BODY) + GET, 401, 200),
    served("pipe-after-401-chunked", "also in chunks", intrude(CHUNKED, CHUNKS) + GET, 401, 200),
    served("pipe-after-wrong-digest", "nor an upload of wrong bytes", push(_CL, BODY[::-1]) + GET, 400, 200),
    served("pipe-50-intruders", "50 refused uploads in a row", intrude(_CL, BODY) * 50, *[401] * 50),
    closed("pipe-after-400", "a malformed request is the end", GET + _BAD + SMUGGLED, 200, 400),
    closed("pipe-after-400s", "also after 99 good ones", GET * 99 + _BAD + SMUGGLED * 10, *[200] * 99, 400),
    closed("pipe-after-close", "nothing after Connection: close", LAST + SMUGGLED, 200),
    closed("pipe-after-close-many", "not even very much", LAST + SMUGGLED * 1000, 200),
    closed("pipe-after-close-case", "options know no case", ask(b"Connection: CLOSE\r\n") + SMUGGLED, 200),
    closed("pipe-after-close-list", "close among other options", ask(b"Connection: x, close\r\n") + SMUGGLED, 200),
    closed(
        "pipe-after-close-field",
        "close in the second field",
        ask(b"Connection: x\r\nConnection: close\r\n") + SMUGGLED,
        200,
    ),
    closed("pipe-after-close-and-keep", "close wins", ask(b"Connection: keep-alive, close\r\n") + SMUGGLED, 200),
    closed(
        "pipe-after-close-push",
        "nothing after an upload that closes",
        push(b"Connection: close\r\n" + _CL, BODY) + SMUGGLED,
        201,
    ),
    closed(
        "pipe-after-big",
        "nothing after a refused body too large to be waited for",
        intrude(length(b"9999999"), SMUGGLED),
        401,
    ),
    closed("pipe-garbage", "what follows a good request and is none", GET + b"\xff\xfe" + SMUGGLED, 200, 400),
    closed("pipe-nul", "one NUL between two requests", GET + b"\0" + SMUGGLED, 200, 400),
    closed("pipe-space", "one space between two requests", GET + b" " + SMUGGLED, 200, 400),
    served("pipe-crlf", "one empty line between two requests", GET + b"\r\n" + GET, 200, 200),
    closed(
        "pipe-body-unannounced", "a body that was not announced is the next request", ask(b"") + BODY, 200, ends=True
    ),
    served(
        "pipe-head-length",
        "a body of HEAD is taken",
        (ask(length(b"%d" % len(SMUGGLED))) + SMUGGLED).replace(b"GET", b"HEAD", 1),
        200,
        heads=True,
    ),
    closed("pipe-layers", "a download, and the next, and a close", _LAYER * 2 + LAST, 200, 200, 200),
)

ENDS: Final = (
    closed("end-at-once", "a client that connects and leaves", b"", ends=True),
    closed("end-after-crlf", "or says next to nothing", b"\r\n", ends=True),
    closed("end-in-method", "an end within the method", b"GE", ends=True),
    closed("end-in-line", "an end within the request line", GET[:20], ends=True),
    closed("end-after-line", "an end after the request line", GET[: GET.index(b"\r\n") + 2], ends=True),
    closed("end-in-field", "an end within a field", GET[:-6], ends=True),
    closed("end-in-head", "an end before the empty line", GET[:-2], ends=True),
    closed("end-in-empty-line", "an end within the empty line", GET[:-1], ends=True),
    closed("end-after-request", "an end before the answer: it is still given", GET, 200, ends=True),
    closed("end-after-pipeline", "all answers are still given", GET * 20, *[200] * 20, ends=True),
    closed("end-after-half", "the answers to what was complete", GET * 2 + GET[:30], 200, 200, ends=True),
    closed("end-after-push", "an upload is still stored", push(_CL, BODY), 201, ends=True),
    closed("end-after-chunks", "also in chunks", push(CHUNKED, CHUNKS), 201, ends=True),
    closed("end-after-download", "a whole download is still given", _LAYER, 200, ends=True),
    closed("end-before-body", "an end where the body begins", push(_CL), 400, ends=True),
    closed("end-in-body", "an end within the body", push(_CL, BODY[:-1]), 400, ends=True),
    closed("end-in-size", "an end within a chunk's size", push(CHUNKED, b"c"), 400, ends=True),
    closed("end-after-size", "an end after a chunk's size", push(CHUNKED, b"c\r\n"), 400, ends=True),
    closed("end-in-chunk", "an end within a chunk", push(CHUNKED, CHUNKS[:8]), 400, ends=True),
    closed("end-after-chunk", "an end between chunks", push(CHUNKED, CHUNKS[:17]), 400, ends=True),
    closed("end-in-last", "an end within the last chunk", push(CHUNKED, CHUNKS[:-2]), 400, ends=True),
    closed("end-in-trailer", "an end within a trailer", push(CHUNKED, CHUNKS[:-2] + b"A: "), 400, ends=True),
    closed("end-of-intruder", "an end within a refused body", intrude(_CL, BODY[:5]), 401, ends=True),
    closed("end-of-intruder-chunked", "an end within refused chunks", intrude(CHUNKED, CHUNKS[:8]), 401, ends=True),
    refused("end-of-bad", "a half-close does not hide a refusal", _BAD, ends=True),
)

EXPECT: Final = (
    closed(
        "expect-intruder",
        "401 and never 100, and what follows is not a request",
        intrude(_EXPECT + length(b"%d" % len(SMUGGLED)), SMUGGLED),
        401,
    ),
    closed("expect-intruder-empty-handed", "401 and never 100, before the body", intrude(_EXPECT + _CL), 401),
    closed("expect-intruder-chunked", "the same in chunks", intrude(_EXPECT + CHUNKED), 401),
    closed(
        "expect-bad-path",
        "no 100 for what does not exist",
        b"PUT /nothing HTTP/1.1\r\nHost: localhost\r\n" + _EXPECT + _CL + b"\r\n",
        404,
    ),
    closed("expect-too-large", "413 and never 100", push(_EXPECT + length(b"9" * 18)), 413),
    either(
        "expect-sent-anyway",
        "a body that does not wait may make 100 superfluous, and is taken once",
        push(_EXPECT + _CL, BODY),
        Outcome((201,), stays=True),
        Outcome((100, 201), stays=True),
    ),
    served("expect-no-body", "nothing is expected of no body", ask(_EXPECT), 200),
    served("expect-length-0", "nor of an empty one", ask(_EXPECT + length(b"0")), 200),
    either(
        "expect-other",
        "an expectation that nobody can meet",
        push(b"Expect: 200-ok\r\n" + _CL, BODY),
        Outcome((201,), stays=True),
        Outcome((417,)),
        Outcome((400,)),
    ),
    either(
        "expect-nonsense",
        "an expectation of no letters",
        push(b"Expect: \xff\r\n" + _CL, BODY),
        Outcome((201,), stays=True),
        Outcome((417,)),
        Outcome((400,)),
    ),
    closed("expect-1.0", "HTTP/1.0 knows no 100", push(_EXPECT + _CL, BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), 201),
    closed("expect-leaves", "100, and then nothing", push(_EXPECT + _CL), 100, 400, ends=True),
    refused("expect-cl-te", "a refusal needs no 100", push(_EXPECT + _CL + CHUNKED)),
)

OLD: Final = (
    closed("old", "HTTP/1.0 is answered and closed", _OLD, 200),
    closed("old-pipeline", "and nothing after it", _OLD + SMUGGLED, 200),
    closed("old-push", "an upload in HTTP/1.0", push(_CL, BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), 201),
    closed("old-close", "with Connection: close", LAST.replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
    either(
        "old-keep-alive",
        "it may ask to stay, and may be refused",
        _OLD_STAYS,
        Outcome((200,), stays=True),
        Outcome((200,)),
    ),
    closed("old-intruder", "a refused upload in HTTP/1.0", intrude(_CL, BODY).replace(b"HTTP/1.1", b"HTTP/1.0"), 401),
    closed(
        "old-no-length",
        "a body without a length is none",
        b"POST " + UPLOADS + b" HTTP/1.0\r\nHost: localhost\r\n\r\n" + BODY,
        401,
    ),
)

SEQUENCES: Final[tuple[Case, ...]] = (*PIPELINES, *ENDS, *EXPECT, *OLD)
