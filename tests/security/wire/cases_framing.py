"""Attacks on where a body ends: lengths, codings, chunks and trailers (RFC 9112 sections 6 and 7). A table."""

from typing import Final

from tests.security.wire.cases import (
    BODY,
    CHUNKED,
    CHUNKS,
    GET,
    OR_REFUSED,
    SMUGGLED,
    SMUGGLED_CHUNKS,
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

_CL: Final = length(b"12")
_MAY_STAY: Final = (Outcome((201,), stays=True), OR_REFUSED)


def _te(value: bytes) -> bytes:
    return push(b"Transfer-Encoding:" + value + b"\r\n", CHUNKS + SMUGGLED)


def _chunked(body: bytes) -> bytes:
    return push(CHUNKED, body)


def _chunk(line: bytes) -> bytes:
    return push(CHUNKED, line + b"\r\nhello, layer\r\n0\r\n\r\n")


BOTH: Final = (
    refused("cl-te", "Content-Length before Transfer-Encoding", push(length(b"4") + CHUNKED, CHUNKS + SMUGGLED)),
    refused("te-cl", "Transfer-Encoding before Content-Length", push(CHUNKED + length(b"4"), CHUNKS + SMUGGLED)),
    refused("te-cl-0", "a length of nothing beside chunks", push(CHUNKED + length(b"0"), CHUNKS + SMUGGLED)),
    refused("te-cl-equal", "both, even where they agree", push(CHUNKED + length(b"22"), CHUNKS)),
    refused("te-cl-far", "both, with fields between", push(CHUNKED + b"A: b\r\n" * 50 + length(b"4"), CHUNKS)),
    refused("te-cl-get", "both, on a method without body", ask(length(b"4") + CHUNKED) + CHUNKS + SMUGGLED),
    refused(
        "te-cl-intruder", "both, before anybody asks who it is", intrude(length(b"4") + CHUNKED, CHUNKS + SMUGGLED)
    ),
    refused(
        "te-odd-cl", "an unknown coding does not make the length count", push(b"Transfer-Encoding: x\r\n" + _CL, BODY)
    ),
    refused(
        "te-identity-cl",
        "the coding that is none, beside a length",
        push(b"Transfer-Encoding: identity\r\n" + _CL, BODY),
    ),
)

CODINGS: Final = (
    refused("te-x", "a coding that is almost chunked", _te(b" xchunked")),
    refused("te-chunkedx", "a coding that begins with chunked", _te(b" chunkedx")),
    refused("te-twice", "chunked twice in a list", _te(b" chunked, chunked")),
    refused("te-identity", "identity, which no RFC has any more", _te(b" identity")),
    refused("te-identity-chunked", "identity, then chunked", _te(b" identity, chunked")),
    refused("te-chunked-identity", "chunked, but not last", _te(b" chunked, identity")),
    refused("te-gzip-chunked", "a coding that nobody here undoes", _te(b" gzip, chunked")),
    refused("te-gzip", "a coding whose end cannot be known", _te(b" gzip")),
    refused("te-parameter", "chunked has no parameters", _te(b" chunked;q=1")),
    refused("te-quoted", "a quoted coding is none", _te(b' "chunked"')),
    refused("te-vt", "vertical tab is no white space", _te(b" \x0bchunked")),
    refused("te-ff", "form feed is no white space", _te(b" chunked\x0c")),
    refused("te-nul", "NUL after the coding", _te(b" chunked\0")),
    refused("te-nbsp", "a space of Latin-1 is none", _te(b" \xa0chunked")),
    refused("te-high", "a letter with its high bit set", _te(b" chun\xebed")),
    refused("te-empty", "an empty coding", _te(b"")),
    refused("te-comma", "a list that ends with nothing", _te(b" chunked,")),
    refused("te-leading-comma", "a list that begins with nothing", _te(b" , chunked")),
    refused("te-fields", "two fields that agree", push(CHUNKED + CHUNKED, CHUNKS + SMUGGLED)),
    refused(
        "te-fields-differ", "two fields, chunked first", push(CHUNKED + b"Transfer-Encoding: x\r\n", CHUNKS + SMUGGLED)
    ),
    refused(
        "te-fields-last", "two fields, chunked last", push(b"Transfer-Encoding: x\r\n" + CHUNKED, CHUNKS + SMUGGLED)
    ),
    refused("te-fields-case", "two fields of different spelling", push(CHUNKED + CHUNKED.upper(), CHUNKS + SMUGGLED)),
    refused("te-space-colon", "a space before the colon", push(b"Transfer-Encoding : chunked\r\n", CHUNKS + SMUGGLED)),
    refused("te-tab-colon", "a tab before the colon", push(b"Transfer-Encoding\t: chunked\r\n", CHUNKS + SMUGGLED)),
    refused("te-nul-name", "NUL in the name", push(b"Transfer-Encoding\0: chunked\r\n", CHUNKS + SMUGGLED)),
    refused("te-fold", "the value on a folded line", _te(b"\r\n chunked")),
    refused("te-fold-tab", "the value on a line folded by a tab", _te(b"\r\n\tchunked")),
    refused("te-hidden-lf", "the field behind a bare LF", push(b"A: b\nTransfer-Encoding: chunked\r\n" + _CL, BODY)),
    refused("te-hidden-cr", "the field behind a bare CR", push(b"A: b\rTransfer-Encoding: chunked\r\n" + _CL, BODY)),
    refused("te-hidden-nul", "the field behind a NUL", push(b"A: b\0Transfer-Encoding: chunked\r\n" + _CL, BODY)),
    refused("te-1-0", "chunks in HTTP/1.0", push(CHUNKED, CHUNKS).replace(b"HTTP/1.1", b"HTTP/1.0")),
    served("te-upper", "codings know no case", push(b"TRANSFER-ENCODING: CHUNKED\r\n", CHUNKS), 201),
    served(
        "te-spaces",
        "white space around a value is none of it",
        push(b"Transfer-Encoding: \t chunked \t\r\n", CHUNKS),
        201,
    ),
    served(
        "te-underscore", "another field of a similar name", push(b"Transfer_Encoding: chunked\r\n" + _CL, BODY), 201
    ),
    served(
        "te-content-encoding",
        "a content coding frames nothing",
        push(b"Content-Encoding: chunked\r\n" + _CL, BODY),
        201,
    ),
    served("te-te", "TE is no Transfer-Encoding", push(b"TE: chunked\r\n" + _CL, BODY), 201),
)

_NOT_LENGTHS: Final = {
    "list": b"12, 12",
    "list-tight": b"12,12",
    "list-differ": b"12, 5",
    "spaced": b"1 2",
    "plus": b"+12",
    "minus": b"-1",
    "minus-0": b"-0",
    "hex": b"0x0c",
    "octal": b"0o14",
    "exponent": b"1e1",
    "fraction": b"12.0",
    "underscore": b"1_2",
    "empty": b"",
    "blank": b" \t",
    "arabic": "١٢".encode(),
    "superscript": b"1\xb2",
    "nul": b"12\0",
    "vt": b"12\x0b",
    "semicolon": b"12;",
    "quoted": b'"12"',
    "word": b"NaN",
    "wraps-32": b"4294967308",
    "wraps-64": b"18446744073709551628",
    "wraps-negative": b"9223372036854775820",
    "5000-digits": b"9" * 5000,
    "5000-zeros": b"0" * 5000 + b"12",
}
_BIG: Final = frozenset({"wraps-32", "5000-zeros"})
"""Numbers after all; see below."""

LENGTHS: Final = (
    *(
        refused(f"cl-{name}", "a Content-Length that is no number of bytes", push(length(value), BODY + SMUGGLED))
        for name, value in _NOT_LENGTHS.items()
        if name not in _BIG
    ),
    refused("cl-twice", "two fields that agree", push(_CL + _CL, BODY)),
    refused("cl-differ", "two fields that differ", push(_CL + length(b"5"), BODY + SMUGGLED)),
    refused("cl-case", "two fields of different spelling", push(_CL + length(b"5").lower(), BODY + SMUGGLED)),
    refused("cl-space-colon", "a space before the colon", push(b"Content-Length : 12\r\n", BODY + SMUGGLED)),
    refused("cl-fold", "the value on a folded line", push(b"Content-Length:\r\n 12\r\n", BODY + SMUGGLED)),
    refused("cl-hidden-cr", "the field behind a bare CR", push(b"A: b\rContent-Length: 0\r\n" + _CL, BODY)),
    closed("cl-4-gib", "a length beyond 32 bits is that long", push(length(b"4294967308"), BODY), 400, ends=True),
    closed("cl-18-digits", "more than any blob", push(length(b"9" * 18), BODY), 413),
    closed("cl-18-digits-intruder", "more than any blob, by nobody", intrude(length(b"9" * 18), BODY), 401),
    either("cl-5000-zeros", "leading zeros change nothing", push(length(b"0" * 5000 + b"12"), BODY), *_MAY_STAY),
    either("cl-zeros", "a few leading zeros", push(length(b"0012"), BODY), *_MAY_STAY),
    served("cl-spaces", "white space around a number is none of it", push(b"Content-Length: \t12 \t\r\n", BODY), 201),
    served("cl-tight", "no white space at all", push(b"Content-Length:12\r\n", BODY), 201),
    served("cl-underscore-name", "another field of a similar name", push(_CL + b"Content_Length: 5\r\n", BODY), 201),
    served("cl-get", "a request within the body of a GET", ask(length(b"%d" % len(SMUGGLED))) + SMUGGLED, 200),
    served("cl-get-chunked", "a request within the chunks of a GET", ask(CHUNKED) + SMUGGLED_CHUNKS, 200),
    served("cl-intruder", "a request within a refused body", intrude(length(b"%d" % len(SMUGGLED)), SMUGGLED), 401),
    served("cl-intruder-chunked", "the same in chunks", intrude(CHUNKED, SMUGGLED_CHUNKS), 401),
    served("cl-short", "what follows a body is the next request", push(_CL, BODY + GET), 201, 200),
    closed("cl-too-short", "what follows a body and is no request", push(length(b"5"), BODY), 400, 400),
)

_CHUNK_SIZES_REFUSED: Final = {
    "empty": b"",
    "letter": b"g",
    "minus": b"-c",
    "plus": b"+c",
    "0x": b"0xc",
    "leading-space": b" c",
    "leading-tab": b"\tc",
    "dot": b"c.0",
    "comma": b"c,c",
    "two": b"c c",
    "nul": b"c\0",
    "high": b"c\xff",
    "wraps-64": b"1000000000000000c",
    "all-f": b"ffffffffffffffffff",
    "minus-1": b"fffffffffffffffffffffffffffffff3",
    "lf-extension": b"c;a\nb",
    "cr-extension": b"c;a\rb",
    "nul-extension": b"c;a=\0",
    "equals": b"c=1",
    "long": b"c;" + b"a" * 70_000,
}

CHUNK_LINES: Final = (
    *(
        refused(f"chunk-{name}", "a chunk size that is none", _chunk(line))
        for name, line in _CHUNK_SIZES_REFUSED.items()
    ),
    either(
        "chunk-trailing-space",
        "white space after a size (7.1.1 knows it only before an extension)",
        _chunk(b"c "),
        *_MAY_STAY,
    ),
    either("chunk-16-zeros", "leading zeros beyond 64 bits", _chunk(b"0" * 40 + b"c"), *_MAY_STAY),
    served("chunk-zeros", "a few leading zeros", _chunk(b"000c"), 201),
    served("chunk-upper", "hexadecimal knows no case", _chunk(b"C"), 201),
    served("chunk-extension", "an extension is passed over", _chunk(b"c;a=b"), 201),
    served("chunk-extension-quoted", "with a quoted value", _chunk(b'c;a="b;c"'), 201),
    served("chunk-extension-name", "without a value", _chunk(b"c;a"), 201),
    either("chunk-extension-spaced", "with bad white space", _chunk(b"c ; a = b"), *_MAY_STAY),
    served(
        "chunk-bytes",
        "one byte per chunk",
        _chunked(b"".join(b"1\r\n%c\r\n" % each for each in BODY) + b"0\r\n\r\n"),
        201,
    ),
)

CHUNK_BODIES: Final = (
    refused("chunk-longer", "more bytes than the size says", _chunked(b"b\r\nhello, layer\r\n0\r\n\r\n" + SMUGGLED)),
    refused("chunk-shorter", "fewer bytes than the size says", _chunked(b"d\r\nhello, layer\r\n0\r\n\r\n" + SMUGGLED)),
    refused("chunk-no-end", "no line end after the bytes", _chunked(b"c\r\nhello, layer0\r\n\r\n" + SMUGGLED)),
    refused("chunk-lf-size", "a size that ends with LF", _chunked(b"c\nhello, layer\r\n0\r\n\r\n")),
    refused("chunk-lf-data", "bytes that end with LF", _chunked(b"c\r\nhello, layer\n0\r\n\r\n")),
    refused("chunk-cr-size", "a size that ends with CR", _chunked(b"c\rhello, layer\r\n0\r\n\r\n")),
    refused("chunk-cr-data", "bytes that end with CR", _chunked(b"c\r\nhello, layer\r0\r\n\r\n")),
    refused("chunk-lf-last", "the last size ends with LF", _chunked(b"c\r\nhello, layer\r\n0\n\r\n")),
    refused("chunk-lf-end", "the last line is LF", _chunked(b"c\r\nhello, layer\r\n0\r\n\n")),
    refused("chunk-lf-both", "LF all along", _chunked(b"c\nhello, layer\n0\n\n" + SMUGGLED)),
    refused("chunk-crcr", "CR CR LF", _chunked(b"c\r\r\nhello, layer\r\n0\r\n\r\n")),
    refused("chunk-instead", "no chunks at all", _chunked(SMUGGLED)),
    refused("chunk-length", "bytes without sizes", _chunked(BODY + b"\r\n\r\n")),
    served("chunk-next", "what follows the chunks is the next request", _chunked(CHUNKS + GET), 201, 200),
    closed(
        "chunk-intruder",
        "broken chunks of nobody end the connection after its 401",
        intrude(CHUNKED, b"x\r\n" + SMUGGLED),
        401,
        announced=False,
    ),
)


def _trailer(lines: bytes) -> bytes:
    return _chunked(b"c\r\nhello, layer\r\n0\r\n" + lines + b"\r\n")


TRAILERS: Final = (
    served("trailer", "a trailer is read and dropped", _trailer(b"A: b\r\n") + GET, 201, 200),
    either("trailer-length", "a length in the trailer frames nothing", _trailer(b"Content-Length: 5\r\n"), *_MAY_STAY),
    either(
        "trailer-te", "a coding in the trailer frames nothing", _trailer(b"Transfer-Encoding: gzip\r\n"), *_MAY_STAY
    ),
    either("trailer-host", "a second host in the trailer is none", _trailer(b"Host: evil\r\n"), *_MAY_STAY),
    either(
        "trailer-auth",
        "credentials in the trailer come too late",
        intrude(CHUNKED, b"0\r\n@BEARER@\r\n"),
        Outcome((401,), stays=True),
    ),
    refused("trailer-lf", "a trailer that ends with LF", _trailer(b"A: b\n")),
    refused("trailer-fold", "a folded trailer", _trailer(b"A: b\r\n c\r\n")),
    refused("trailer-no-colon", "a trailer that is no field", _trailer(b"GET /smuggled HTTP/1.1\r\n")),
    refused("trailer-space", "a space before the colon", _trailer(b"A : b\r\n")),
    refused("trailer-nul", "NUL in a trailer", _trailer(b"A: \0\r\n")),
    refused("trailer-cr", "a bare CR in a trailer", _trailer(b"A: b\rC: d\r\n")),
    refused("trailer-huge", "64 KiB of trailers", _trailer(b"A: b\r\n" * 11_000)),
    refused("trailer-long", "one trailer of 64 KiB", _trailer(b"A: " + b"b" * 65_536 + b"\r\n")),
)

FRAMING: Final[tuple[Case, ...]] = (*BOTH, *CODINGS, *LENGTHS, *CHUNK_LINES, *CHUNK_BODIES, *TRAILERS)
