"""Other protocols, and the inputs that ended the stack as shipped, by their numbers (H1 to H11). A table."""

import struct
from typing import Final

import h2.config
import h2.connection

from tests.security.wire.cases import Case, ask, refused, served

_KEY: Final = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
_WEBSOCKET: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n" + _KEY
_ASKS: Final = [(":method", "GET"), (":path", "/health"), (":scheme", "http"), (":authority", "localhost")]
Fields = list[tuple[str | bytes, str | bytes]]


def _speaker() -> h2.connection.H2Connection:
    """An HTTP/2 client that checks nothing of what it is told to send."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    return connection


def _h2(fields: Fields, *, data: int = 0) -> bytes:
    connection = _speaker()
    connection.send_headers(1, fields, end_stream=not data)
    for _ in range(data):
        connection.send_data(1, bytes(1000))
    return connection.data_to_send()


def _priorities() -> bytes:
    frames = b"".join(struct.pack(">I", 5)[1:] + b"\x02\0" + struct.pack(">IIB", n, 0, 16) for n in range(1, 2201, 2))
    return _speaker().data_to_send() + frames


def _h2_case(name: str, why: str, send: bytes) -> Case:
    return refused(name, f"HTTP/2 without asking: {why}", send)


NUMBERED: Final = (
    refused("h1-websocket-extra-byte", "an upgrade with one byte more", ask(_WEBSOCKET) + b"x"),
    refused("h1-websocket-frame", "an upgrade with a frame behind it", ask(_WEBSOCKET) + b"\x81\x05hello"),
    refused(
        "h2-websocket-protocol-ff",
        "0xff in Sec-WebSocket-Protocol",
        ask(_WEBSOCKET + b"Sec-WebSocket-Protocol: \xff\r\n"),
    ),
    refused(
        "h3-websocket-extensions-ff",
        "0xff in Sec-WebSocket-Extensions",
        ask(_WEBSOCKET + b"Sec-WebSocket-Extensions: \xff\r\n"),
    ),
    refused(
        "h4-connection-ff",
        "0xff in Connection",
        ask(_WEBSOCKET.replace(b"Connection: Upgrade", b"Connection: Upgrade, \xff")),
    ),
    served("h4-connection-ff-alone", "0xff in Connection and nothing to upgrade to", ask(b"Connection: \xff\r\n"), 200),
    _h2_case("h5-h2-data-after-answer", "bytes after the answer", _h2([(":method", "PUT"), *_ASKS[1:]], data=20)),
    _h2_case("h6-h2-connect-without-path", "CONNECT without a path", _h2([(":method", "CONNECT"), _ASKS[3]])),
    _h2_case("h7-h2-path-ff", "0xff in the path", _h2([_ASKS[0], (":path", b"/\xff"), *_ASKS[2:]])),
    _h2_case("h8-h2-method-ff", "0xff in the method", _h2([(":method", b"\xff"), *_ASKS[1:]])),
    _h2_case("h9-h2-priorities", "1,100 priorities", _priorities()),
    refused("h10-host-ff", "0xff in Host, with server names set", b"GET /health HTTP/1.1\r\nHost: \xff\r\n\r\n"),
    _h2_case(
        "h11-h2-authority-ff",
        "0xff in the authority, with server names set",
        _h2([*_ASKS[:3], (":authority", b"\xff")]),
    ),
    _h2_case(
        "h14-h2-window-0",
        "a reader that opens no window",
        _speaker().data_to_send() + b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0",
    ),
    _h2_case(
        "h15-h2-resets",
        "1,000 streams opened and reset",
        _h2(list(_ASKS)) + b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08" * 1000,
    ),
    refused("h18-query-only", "a target without a path", b"GET ?x HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    refused(
        "h18-broken-url", "a target that no library can parse", b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ),
)

OTHERS: Final = (
    refused("ws-plain", "a proper WebSocket upgrade", ask(_WEBSOCKET)),
    refused("ws-post", "an upgrade with a body", ask(_WEBSOCKET + b"Content-Length: 5\r\n") + b"hello"),
    refused("ws-1.0", "an upgrade in HTTP/1.0", ask(_WEBSOCKET).replace(b"HTTP/1.1", b"HTTP/1.0")),
    refused(
        "h2c-upgrade",
        "an upgrade to HTTP/2",
        ask(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"),
    ),
    refused(
        "h2c-upgrade-no-settings",
        "an upgrade to HTTP/2 without settings",
        ask(b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    ),
    refused("tls-upgrade", "an upgrade to TLS (RFC 2817)", ask(b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n")),
    refused("h2-preface", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    refused("h2-preface-half", "the first half of it", b"PRI * HTTP/2.0\r\n\r\n"),
    refused("h2-frame", "a frame of HTTP/2", b"\0\0\0\x04\0\0\0\0\0"),
    refused("tls-hello", "a TLS hello (GEN-23)", bytes.fromhex("16030100c8010000c40303") + bytes(190)),
    refused("tls-byte", "the first byte of one", b"\x16"),
    refused("ssl2-hello", "a hello of SSL 2", bytes.fromhex("802e0100020015000000100100800700c0") + bytes(31)),
    refused("ssh", "SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    refused("smtp", "SMTP", b"EHLO evil\r\n\r\n"),
    refused("rdp", "remote desktop", b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0"),
    refused("proxy-1", "the PROXY protocol, that nobody trusts here", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + ask(b"")),
    refused(
        "proxy-2", "its binary form", b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x01\0\x02"
    ),
    refused("redis", "Redis", b"*1\r\n$4\r\nPING\r\n\r\n"),
    refused("zeros", "64 KiB of nothing", bytes(65_536)),
    refused("high", "64 KiB of everything", b"\xff" * 65_536),
)

PROTOCOLS: Final[tuple[Case, ...]] = (*NUMBERED, *OTHERS)
