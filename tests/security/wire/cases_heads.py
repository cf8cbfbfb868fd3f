"""Attacks on a request's head: request line, target, host, fields, line ends. A table."""

from typing import Final

from tests.security.wire.cases import (
    CHUNKED,
    GET,
    HOST,
    OR_REFUSED,
    SMUGGLED,
    Case,
    Outcome,
    ask,
    closed,
    either,
    push,
    refused,
    served,
)

_V2: Final = b"GET /v2/ HTTP/1.1\r\n"


def _line(line: bytes) -> bytes:
    return line + b"\r\n" + HOST + b"\r\n"


def _target(target: bytes) -> bytes:
    return _line(b"GET " + target + b" HTTP/1.1")


def _host(line: bytes) -> bytes:
    return _V2 + line + b"\r\n\r\n"


_LINES_REFUSED: Final = {
    "two-spaces": b"GET  /health HTTP/1.1",
    "two-spaces-version": b"GET /health  HTTP/1.1",
    "tab": b"GET\t/health HTTP/1.1",
    "tab-version": b"GET /health\tHTTP/1.1",
    "vt": b"GET\x0b/health HTTP/1.1",
    "leading-space": b" GET /health HTTP/1.1",
    "trailing-space": b"GET /health HTTP/1.1 ",
    "no-target": b"GET HTTP/1.1",
    "no-target-space": b"GET  HTTP/1.1",
    "no-version": b"GET /health",
    "no-version-space": b"GET /health ",
    "word": b"GET",
    "four-words": b"GET /health x HTTP/1.1",
    "http-0.9": b"GET /health HTTP/0.9",
    "http-1.2": b"GET /health HTTP/1.2",
    "http-1.9": b"GET /health HTTP/1.9",
    "http-2.0": b"GET /health HTTP/2.0",
    "http-2": b"GET /health HTTP/2",
    "http-1.10": b"GET /health HTTP/1.10",
    "http-11.1": b"GET /health HTTP/11.1",
    "http-1,1": b"GET /health HTTP/1,1",
    "http-1": b"GET /health HTTP/1",
    "http-minus": b"GET /health HTTP/-1.1",
    "http-lower": b"GET /health http/1.1",
    "https": b"GET /health HTTPS/1.1",
    "rtsp": b"GET /health RTSP/1.0",
    "ice": b"SOURCE /health ICE/1.0",
    "nul-method": b"GE\0T /health HTTP/1.1",
    "nul-target": b"GET /hea\0lth HTTP/1.1",
    "nul-version": b"GET /health HTTP/1.1\0",
    "high-method": b"G\xffT /health HTTP/1.1",
    "quoted-method": b'"GET" /health HTTP/1.1',
    "bracket-method": b"G(T /health HTTP/1.1",
    "colon-method": b"GET: /health HTTP/1.1",
    "long-method": b"A" * 200 + b" /health HTTP/1.1",
    "status-line": b"HTTP/1.1 200 OK",
    "connect": b"CONNECT x:443 HTTP/1.1",
    "connect-path": b"CONNECT /health HTTP/1.1",
    "trace": b"TRACE /health HTTP/1.1",
    "trace-1.0": b"TRACE /health HTTP/1.0",
    "pri": b"PRI /health HTTP/1.1",
}

LINES: Final = (
    *(
        refused(f"line-{name}", "a request line that is none", _line(line) + SMUGGLED)
        for name, line in _LINES_REFUSED.items()
    ),
    refused("line-http-0.9-bare", "HTTP/0.9: a target and nothing else", b"GET /health\r\n\r\n"),
    refused("line-huge", "a request line of 1 MiB", b"GET /" + b"a" * (1 << 20), status=431),
    either("line-huge-method", "a method of 64 KiB", b"A" * 65_536, Outcome((431,)), OR_REFUSED),
    either(
        "line-unknown",
        "a method that no route has",
        _line(b"BREW /health HTTP/1.1"),
        Outcome((405,), stays=True),
        OR_REFUSED,
    ),
    either(
        "line-lower", "methods know their case", _line(b"get /health HTTP/1.1"), Outcome((405,), stays=True), OR_REFUSED
    ),
    either(
        "line-lower-delete",
        "a proxy that forbids DELETE has not forbidden this, so it is none",
        _line(b"delete /v2/attacked/images/app/manifests/nothing HTTP/1.1")[:-2] + b"@BEARER@\r\n",
        Outcome((405,), stays=True),
        OR_REFUSED,
    ),
    either(
        "line-lower-head",
        "whoever does not ask HEAD gets the body that is announced",
        _line(b"head /nothing HTTP/1.1"),
        Outcome((404,), stays=True),
        Outcome((405,), stays=True),
        OR_REFUSED,
    ),
    either(
        "line-punctuation",
        "a method of odd but lawful letters",
        _line(b"G!T /health HTTP/1.1"),
        Outcome((405,), stays=True),
        OR_REFUSED,
    ),
    either(
        "line-webdav",
        "a method of others",
        _line(b"PROPFIND /health HTTP/1.1"),
        Outcome((405,), stays=True),
        OR_REFUSED,
    ),
    served("line-crlf-first", "an empty line before a request is forgiven (RFC 9112, 2.2)", b"\r\n" + GET, 200),
    refused("line-lf-first", "a bare LF before a request is not", b"\n" + GET),
    refused("line-cr-first", "a bare CR before a request is not", b"\r" + GET),
)

_TARGETS_REFUSED: Final = {
    "absolute": b"http://localhost/health",
    "absolute-evil": b"http://evil/health",
    "absolute-https": b"https://localhost/health",
    "absolute-file": b"file:///etc/passwd",
    "absolute-user": b"http://a:b@localhost/health",
    "asterisk": b"*",
    "authority": b"localhost:443",
    "relative": b"health",
    "dots": b"../health",
    "backslash": b"\\health",
    "fragment": b"/health#x",
    "fragment-first": b"#",
    "high": b"/\xff",
    "utf-8": "/gesundheit-ü".encode(),
    "overlong": b"/\xc0\xaf",
    "del": b"/\x7f",
    "control": b"/\x01",
    "nul": b"/\0",
    "vt": b"/\x0b",
    "space": b"/health /",
    "percent-first": b"%2fhealth",
    "h18-query-only": b"?x",
    "h18-broken-url": b"http://[",
    "h18-broken-url-2": b"http://]/",
    "h18-broken-port": b"http://localhost:x/",
}
_NOWHERE: Final = {
    "slashes": b"//evil/health",
    "slash": b"/%2fhealth",
    "nul": b"/%00",
    "high": b"/%ff",
    "overlong": b"/%c0%af",
    "surrogate": b"/%ed%a0%80",
    "half": b"/%",
    "half-2": b"/%2",
    "not-hex": b"/%zz",
    "dots": b"/%2e%2e/health",
    "plain-dots": b"/../health",
    "lf": b"/%0d%0aX:y",
    "twice": b"/%252e",
    "colon": b"/http://evil/",
    "bracket": b"/[",
    "brace": b'/{}|\\^`"<>',
    "semicolon": b"/;x",
    "long": b"/" + b"a" * 8000,
    "deep": b"/a" * 4000,
}
_NO_NAMES: Final = {
    "v2-dots": b"/v2/../health",
    "v2-encoded-dots": b"/v2/%2e%2e/manifests/x",
    "v2-high": b"/v2/%ff/manifests/x",
    "v2-nul": b"/v2/a%00b/manifests/x",
    "v2-half": b"/v2/%/manifests/x",
    "v2-double": b"/v2//manifests/x",
}

TARGETS: Final = (
    *(
        refused(f"target-{name}", "a target that is no path", _target(target) + SMUGGLED)
        for name, target in _TARGETS_REFUSED.items()
    ),
    *(served(f"path-{name}", "a path to nowhere", _target(path), 404) for name, path in _NOWHERE.items()),
    *(
        served(f"path-{name}", "a path to what cannot be a name", _target(path), 400)
        for name, path in _NO_NAMES.items()
    ),
    refused("target-options", "OPTIONS * asks nothing of a registry", _line(b"OPTIONS * HTTP/1.1")),
    served("target-query", "a query of odd bytes", _target(b"/health?%ff=%00&&==&x[]=%&;"), 200),
    served("target-query-url", "a query that looks like a target", _target(b"/health?http://[/?#"[:-1]), 200),
)

_HOSTS_REFUSED: Final = {
    "none": b"A: b",
    "twice": b"Host: localhost\r\nHost: localhost",
    "differ": b"Host: localhost\r\nHost: evil",
    "case": b"Host: localhost\r\nhOST: localhost",
    "list": b"Host: localhost, evil",
    "space": b"Host: local host",
    "user": b"Host: me@localhost",
    "path": b"Host: localhost/health",
    "url": b"Host: http://localhost",
    "query": b"Host: localhost?x",
    "fragment": b"Host: localhost#x",
    "backslash": b"Host: localhost\\evil",
    "nul": b"Host: local\0host",
    "h10-ff": b"Host: \xff",
    "h10-ff-behind": b"Host: localhost\xff",
    "percent": b"Host: local%68ost",
    "port-word": b"Host: localhost:http",
    "port-minus": b"Host: localhost:-1",
    "port-long": b"Host: localhost:000080",
    "open-bracket": b"Host: [::1",
    "close-bracket": b"Host: ::1]",
    "bracket-word": b"Host: [localhost]",
    "empty-label": b"Host: a..b",
    "long-label": b"Host: " + b"a" * 64,
    "space-colon": b"Host : localhost",
    "fold": b"Host:\r\n localhost",
    "fold-first": b" Host: localhost",
    "quote": b'Host: "localhost"',
}

HOSTS: Final = (
    *(
        refused(f"host-{name}", "a Host that is none, or none of one meaning", _host(line) + SMUGGLED)
        for name, line in _HOSTS_REFUSED.items()
    ),
    served("host-evil", "a name that is not ours", _host(b"Host: evil"), 421),
    served("host-ipv6", "an address that is not ours", _host(b"Host: [::1]:80"), 421),
    served("host-ours", "our name with any port", _host(b"Host: LOCALHOST:1"), 401),
    served("host-empty", "an empty Host is well-formed, and nobody", _host(b"Host:"), 400),
    served("host-port-big", "a port that is none", _host(b"Host: localhost:99999"), 400),
    served(
        "host-forwarded",
        "whoever says where he comes from is not believed",
        _host(b"Host: localhost\r\nX-Forwarded-Host: \xff"),
        401,
    ),
    closed("host-1.0", "HTTP/1.0 needs no Host", b"GET /health/live HTTP/1.0\r\n\r\n", 200),
)

_FIELDS_REFUSED: Final = {
    "no-colon": b"A",
    "no-name": b": b",
    "empty-name": b" : b",
    "space-name": b"A b: c",
    "bracket-name": b"A(b): c",
    "slash-name": b"A/b: c",
    "high-name": b"\xff: b",
    "utf-8-name": "Ä: b".encode(),
    "nul-name": b"A\0: b",
    "quote-name": b'"A": b',
    "control-name": b"A\x01: b",
    "nul": b"A: \0",
    "nul-many": b"A: " + b"\0" * 1000,
    "control": b"A: \x01",
    "escape": b"A: \x1b[31m",
    "backspace": b"A: b\x08",
    "del": b"A: \x7f",
    "bare-cr": b"A: b\rc",
    "bare-cr-field": b"A: b\rHost: evil",
    "obs-fold": b"A: b\r\n c",
    "obs-fold-tab": b"A: b\r\n\tc",
    "obs-fold-empty": b"A: b\r\n ",
    "obs-fold-field": b"A: b\r\n Host: evil",
    "leading-space": b" A: b",
    "upgrade": b"Upgrade: foo/2",
    "upgrade-empty": b"Upgrade:",
    "nul-authorization": b"Authorization: Bearer \0",
    "expect-twice": b"Expect: 100-continue\r\nExpect: 100-continue",
}

FIELDS: Final = (
    *(
        refused(f"field-{name}", "a field that is none", ask(line + b"\r\n") + SMUGGLED)
        for name, line in _FIELDS_REFUSED.items()
    ),
    refused("fields-200", "more fields than anybody sends", ask(b"A: b\r\n" * 200), status=431),
    refused("fields-10000", "very many", ask(b"A: b\r\n" * 10_000), status=431),
    refused("fields-129", "one too many", ask(b"A: b\r\n" * 128), status=431),
    served("fields-128", "as many as are allowed", ask(b"A: b\r\n" * 127), 200),
    refused("field-64-kib", "a value of 64 KiB", ask(b"A: " + b"b" * 65_536 + b"\r\n"), status=431),
    refused("field-endless", "a field that never ends", ask(b"")[:-2] + b"A: " + b"b" * (1 << 20), status=431),
    refused("field-name-endless", "a name that never ends", ask(b"")[:-2] + b"A" * (1 << 20), status=431),
    served("field-30-kib", "a token of many scopes", ask(b"A: " + b"b" * 30_000 + b"\r\n"), 200),
    served("field-empty", "an empty value", ask(b"A:\r\n"), 200),
    served("field-tab", "a tab within a value", ask(b"A: b\tc\r\n"), 200),
    served("field-high", "Latin-1 within a value", ask(b"A: \xe4\xff\x80\r\n"), 200),
    served("field-punctuation", "a name of odd but lawful letters", ask(b"!#$%&'*+-.^_`|~09: b\r\n"), 200),
    served(
        "field-connection", "a connection option without meaning", ask(b"Connection: Upgrade, HTTP2-Settings\r\n"), 200
    ),
    served("field-connection-host", "Host cannot be taken away", ask(b"Connection: Host, Content-Length\r\n"), 200),
    served("field-bearer-high", "a token of no letters", _host(HOST[:-2] + b"\r\nAuthorization: Bearer \xff\xfe"), 401),
    served("field-basic-high", "credentials of no letters", _host(HOST[:-2] + b"\r\nAuthorization: Basic \xff"), 401),
    served(
        "field-two-authorizations",
        "two credentials are none",
        _host(HOST[:-2] + b"\r\n@BEARER@Authorization: Basic Og=="),
        401,
    ),
    served("field-cookie", "cookies of no sense", ask(b'Cookie: =;;=\xff;"\r\n'), 200),
    served("field-range", "a range of no sense", ask(b'Range: bytes=\xff-\xfe\r\nIf-None-Match: "\r\n'), 200),
)


def _ends() -> tuple[Case, ...]:
    """An upload in chunks, with each of its line ends in turn damaged."""
    whole = push(CHUNKED, b"c\r\nhello, layer\r\n0\r\n\r\n").replace(b"@BEARER@", b"A: b\r\n")
    places = [place for place in range(whole.index(b"\r\n\r\n") + 4) if whole.startswith(b"\r\n", place)]
    damage = {"lf": b"\n", "cr": b"\r", "crcr": b"\r\r\n", "lfcr": b"\n\r", "nul": b"\0\r\n"}
    return tuple(
        refused(f"end-{name}-{number}", "a line that does not end with CR LF", whole[:place] + end + whole[place + 2 :])
        for number, place in enumerate(places)
        for name, end in damage.items()
        if (name, number) != ("cr", len(places) - 1)  # could still become a good head; see truncation
    )


HEADS: Final[tuple[Case, ...]] = (*LINES, *TARGETS, *HOSTS, *FIELDS, *_ends())
