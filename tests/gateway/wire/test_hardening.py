"""The inputs that end or wedge the stack as shipped, by their numbers, against a real process (H1 to H20).

After each of them the same process must serve others. H12 and H17 are in test_supervisor, H13's drain in test_worker;
H20 (crashes on Python 3.14) waits for that Python to be supported.
"""

import random
import ssl
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h2.config
import h2.connection
import pytest
import trustme

from tests.gateway.wire.conftest import Served
from tests.gateway.wire.raw_client import Cut, RawClient, eventually, lasting

WEBSOCKET = (
    b"GET /hello HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade%s\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n"
)
H2 = [(":method", "GET"), (":path", "/hello"), (":scheme", "http"), (":authority", "x")]


def h2_client() -> h2.connection.H2Connection:
    """An HTTP/2 client that checks nothing of what it is told to send."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    return connection


def h2_request(*fields: tuple[str | bytes, str | bytes], end_stream: bool = True) -> bytes:
    """A preface and one request."""
    connection = h2_client()
    connection.send_headers(1, list(fields), end_stream=end_stream)
    return connection.data_to_send()


def h2_data_after_the_answer() -> bytes:
    """H5: an upload that goes on although the answer is complete."""
    connection = h2_client()
    connection.send_headers(1, [(":method", "PUT"), (":path", "/early"), *H2[2:]])
    for _ in range(20):
        connection.send_data(1, bytes(1000))
    return connection.data_to_send()


def h2_priorities() -> bytes:
    """H9: a priority for each of 1,100 streams that do not exist."""
    frames = b"".join(struct.pack(">I", 5)[1:] + b"\x02\0" + struct.pack(">IIB", n, 0, 16) for n in range(1, 2201, 2))
    return h2_client().data_to_send() + frames


def footprint(served: Served) -> tuple[int, int, int]:
    """What a server holds: connections, tasks, files."""
    state = served.state()
    return state["open"], state["tasks"], state["files"]


HOSTILE: dict[str, bytes] = {
    "h1_websocket_with_extra_byte": WEBSOCKET % (b"", b"") + b"x",
    "h2_websocket_protocol_ff": WEBSOCKET % (b"", b"Sec-WebSocket-Protocol: \xff\r\n"),
    "h3_websocket_extensions_ff": WEBSOCKET % (b"", b"Sec-WebSocket-Extensions: \xff\r\n"),
    "h4_connection_ff": WEBSOCKET % (b", \xff", b""),
    "h5_h2_data_after_answer": h2_data_after_the_answer(),
    "h6_h2_connect_without_path": h2_request((":method", "CONNECT"), (":authority", "x")),
    "h7_h2_path_ff": h2_request(H2[0], (":path", b"/\xff"), *H2[2:]),
    "h8_h2_method_ff": h2_request((":method", b"\xff"), *H2[1:]),
    "h9_h2_priorities": h2_priorities(),
    "h10_host_ff": b"GET /hello HTTP/1.1\r\nHost: \xff\r\n\r\n",
    "h11_h2_authority_ff": h2_request(*H2[:3], (":authority", b"\xff")),
    "h2c_upgrade": b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "h18_query_only": b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
    "h18_broken_url": b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    "gen_23_tls_hello": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "connect": b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
    "trace": b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
    "smuggle_cl_te": b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "smuggle_bare_lf": b"GET /hello HTTP/1.1\nHost: x\n\n",
    "smuggle_obs_fold": b"GET /hello HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "smuggle_two_lengths": b"PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
    "smuggle_length_list": b"PUT /sink HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nabcde",
    "smuggle_two_hosts": b"GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "smuggle_http_1_9": b"GET /hello HTTP/1.9\r\nHost: x\r\n\r\n",
    "nul_in_field": b"GET /hello HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n",
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused_with_400(served: Served, attack: bytes) -> None:
    """H1 to H11, H18, GEN-23, smuggling: 400 in JSON at once, the connection ends, the process serves others."""
    with served.connect() as client:
        answer = client.send(attack).answer()

    assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"
    assert served.is_well()


@pytest.mark.slow
def test_h14_h15_http_2_is_not_offered_over_tls(
    serve: Callable[..., Served], tls: tuple[dict[str, str], ssl.SSLContext]
) -> None:
    """H14, H15: a client that offers both protocols gets HTTP/1.1, from TLS 1.2 on; older TLS is refused."""
    files, trust = tls
    served = serve(**files)
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with served.connect(tls=trust) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.request("GET", "/blob/1000000").answer().body[:3] == b"\0\1\2"
        assert client.request("PUT", "/sink", body=bytes(3_000_000)).answer().json()["bytes"] == 3_000_000

    with pytest.warns(DeprecationWarning, match="TLSv1"):
        trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served.connect(tls=trust)
    with served.connect() as plain:  # HTTP on the TLS port
        assert plain.request("GET", "/hello").closed()


@pytest.mark.slow
def test_hostile_bytes_are_refused_inside_tls(
    serve: Callable[..., Served], tls: tuple[dict[str, str], ssl.SSLContext]
) -> None:
    """Encryption changes nothing of what is refused, and broken handshakes end only themselves."""
    files, trust = tls
    served = serve(**files)
    for name, attack in HOSTILE.items():
        with served.connect() as plain:
            with suppress(OSError):  # the server may have hung up by now
                plain.send(attack).half_close()
            assert any(plain.closed() for _ in range(64)), name  # an alert of a few bytes may come first
        with served.connect(tls=trust) as client:
            assert client.send(attack).answer().status == 400, name
    with served.connect(tls=trust) as client:
        assert client.request("GET", "/hello").answer().body == b"hello"
    assert served.process.poll() is None


@pytest.fixture
def tls(tmp_path: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """A certificate as settings, and a client's context that trusts it."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.private_key_pem.write_to_path(key)
    for number, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(chain, append=number > 0)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    return {"tls_certificate": str(chain), "tls_key": str(key)}, trust


@pytest.mark.slow
def test_h13_a_stalled_reader_is_dropped(serve: Callable[..., Served]) -> None:
    """H13: who takes nothing for the idle time is reset, its source closed, while others are served."""
    served = serve(send_idle_timeout_s=0.5)
    with served.connect(receive_buffer=4096) as stalled:
        with lasting(at_least_s=0.3, at_most_s=30):
            stalled.request("GET", f"/blob/{64 << 20}")
            eventually(lambda: served.state()["stalled_total"] == 1)
        with pytest.raises(Cut):
            stalled.answer()

    state = eventually(lambda: (told := served.state())["closed"] and told)
    assert state["opened"] == state["closed"] == 1
    assert served.is_well()


@pytest.mark.slow
def test_h13_a_slow_reader_is_served_to_the_end(serve: Callable[..., Served]) -> None:
    """H13: taking 64 KiB per idle time is enough, however long the whole takes."""
    served = serve(send_idle_timeout_s=1.5)
    with served.connect(receive_buffer=65536) as slow:
        size = 16 << 20
        slow.request("GET", f"/blob/{size}").head()
        with lasting(at_least_s=3, at_most_s=60):
            for _ in range(16):
                slow.take(1 << 20)
                time.sleep(0.2)  # the behaviour of this client

    assert served.state()["stalled_total"] == 0


@pytest.mark.slow
def test_h16_resting_connections_are_closed(serve: Callable[..., Served]) -> None:
    """H16: connections that rest, ask to close, or speak HTTP/1.0 end; none is left behind."""
    served = serve(idle_timeout_s=0.3)
    clients = [served.connect() for _ in range(60)]
    for number, client in enumerate(clients):
        version = "1.0" if number % 3 == 0 else "1.1"
        field = "Connection: close\r\n" if number % 3 == 1 else ""
        client.send(f"GET /hello HTTP/{version}\r\nHost: x\r\n{field}\r\n")
    with lasting(at_most_s=30):
        assert all(client.answer().body == b"hello" and client.closed() for client in clients)

    eventually(lambda: served.state()["open"] == 1)  # the one that asks


@pytest.mark.slow
def test_h19_an_early_401_is_seen_by_every_uploader(served: Served) -> None:
    """H19, CH-10: 50 uploads of 50 MB that are answered early: each client sees the 401, also if it only writes."""
    block = bytes(1 << 20)
    for number in range(50):
        with served.connect() as client:
            framing = "Content-Length: 52428800" if number % 2 else "Transfer-Encoding: chunked"
            client.send(f"PUT /early HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
            part = block if number % 2 else b"100000\r\n" + block + b"\r\n"
            try:
                for _ in range(50):
                    client.send(part)
            except ConnectionError:
                pass  # closed in the middle of it, as announced
            assert client.answer().status == 401

    assert served.is_well()


def test_gen_16_expect_is_answered_by_the_reader(served: Served) -> None:
    """Row GEN-16: 100 comes when the handler reads; an early 401 comes without it and closes."""
    expect = "Expect: 100-continue", "Content-Length: 5"
    with served.connect() as client:
        client.request("PUT", "/sink", *expect)
        assert client.head()[0] == 100
        assert client.send(b"abcde").answer().json()["bytes"] == 5
        assert client.request("GET", "/hello").answer().body == b"hello"
    with served.connect() as client:
        status, headers = client.request("PUT", "/early", *expect).head()

    assert (status, headers["connection"]) == (401, "close")


def test_a_defect_in_a_handler_stays_in_its_request(served: Served) -> None:
    """A handler that raises gives 500 without details, and the connection goes on."""
    with served.connect() as client:
        answer = client.request("GET", "/crash").answer()
        assert answer.status == 500
        assert b"defect" not in answer.body
        assert client.request("GET", "/hello").answer().body == b"hello"


REQUEST = b"PUT /sink HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"


@pytest.mark.slow
def test_leaving_at_every_byte_leaves_nothing_behind(served: Served) -> None:
    """Resets and ends after each byte of a request: no connection, task or file stays."""
    base = footprint(served)
    for cut in range(len(REQUEST) + 1):
        with served.connect() as client:
            client.send(REQUEST[:cut]).reset()
        with served.connect() as client:
            client.send(REQUEST[:cut])

    eventually(lambda: footprint(served) == base)


@pytest.mark.slow
def test_leaving_within_downloads_closes_their_sources(served: Served) -> None:
    """Clients that reset or end somewhere in an answer: every source that was opened is closed."""
    chance = random.Random(7)
    for number in range(60):
        with served.connect(receive_buffer=65536) as client:
            client.request("GET", f"/blob/{16 << 20}").take(chance.randrange(1, 4 << 20))
            if number % 2:
                client.reset()
    eventually(lambda: served.state()["open"] == 1)
    state = served.state()

    assert state["opened"] == state["closed"] >= 60


@pytest.mark.slow
def test_random_mutations_never_end_or_fail_the_server(served: Served) -> None:
    """1,000 damaged requests: answers are 2xx or 4xx, connections end, the process lives and keeps nothing."""
    chance = random.Random(20)
    base = footprint(served)
    for _ in range(1000):
        damaged = bytearray(REQUEST)
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(damaged))
            match chance.randrange(3):
                case 0:
                    damaged[place] = chance.randrange(256)
                case 1:
                    del damaged[place : place + chance.randrange(1, 9)]
                case _:
                    damaged[place:place] = chance.choice([b"\r\n", b"\0", b"\xff", b" ", b":", b"0\r\n", b"\t"])
        with served.connect() as client:
            client.send(bytes(damaged)).half_close()
            said = client.rest()
            assert said == b"" or said.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4")), (bytes(damaged), said)

    eventually(lambda: footprint(served) == base)


TARGETS = [
    "",
    "/",
    "//",
    "[",
    "..",
    "%",
    "%00",
    "%ff",
    "%2f",
    "?",
    "?x[]=%ff",
    ";",
    "\\",
    "{",
    "|",
    '"',
    "<",
    ":",
    "://",
    "*",
]
HOSTS = [
    "x",
    "x:",
    ":80",
    "",
    "[::1]",
    "[::]:1",
    "[1]",
    "[.]",
    "-",
    "a..b",
    "a" * 64,
    "xn--" + "a" * 60,
    "x:99999",
    "1.2.3.4",
]
FIELDS = [
    "Cookie: =;;=\xff",
    "Content-Type: a;b=c;;",
    "Authorization: Basic \xff",
    'If-None-Match: "',
    "Range: bytes=-",
]


@pytest.mark.slow
def test_h18_strange_targets_hosts_and_fields_are_never_5xx(served: Served) -> None:
    """H18: whatever the server lets through, the framework behind it answers without failing."""
    chance = random.Random(5)
    for _ in range(600):
        method = chance.choice(["GET", "PUT", "HEAD", "OPTIONS", "PROPFIND", "get", "G!"])
        target = "/" + "".join(chance.choices(TARGETS, k=3))
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {chance.choice(HOSTS)}",
            chance.choice(FIELDS),
            "Connection: close",
        ]
        with served.connect() as client:
            said = client.send("\r\n".join([*lines, "", ""])).rest()
        assert said.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4")), (lines, said)


@pytest.mark.slow
@pytest.mark.memory
def test_uploads_into_a_slow_sink_are_held_back(serve: Callable[..., Served]) -> None:
    """Four uploads of 64 MiB into sinks of 20 MiB/s: the clients wait, memory does not grow with the bodies."""
    served = serve()
    base = served.state()["rss_bytes"]
    clients = [served.connect() for _ in range(4)]
    sent = dict.fromkeys(clients, 0)
    for client in clients:
        client.send(f"PUT /sink?rate={20 << 20} HTTP/1.1\r\nHost: x\r\nContent-Length: {64 << 20}\r\n\r\n")
        client.sock.settimeout(0)
    peak, deadline = base, time.monotonic() + 60
    while any(count < 64 << 20 for count in sent.values()):
        assert time.monotonic() < deadline
        for client in clients:
            sent[client] += _send_some(client, (64 << 20) - sent[client])
        peak = max(peak, served.state()["rss_bytes"])
    for client in clients:
        client.sock.settimeout(10)
        assert client.answer().json()["bytes"] == 64 << 20

    grown_mib = (peak - base) / 2**20
    print(f"4 uploads of 64 MiB into slow sinks: {grown_mib:.1f} MiB more resident memory")
    assert grown_mib < 24


def _send_some(client: RawClient, left: int) -> int:
    try:
        return client.sock.send(bytes(min(left, 1 << 20)))
    except BlockingIOError:
        return 0


@pytest.mark.slow
@pytest.mark.memory
def test_many_slow_readers_cost_little(serve: Callable[..., Served]) -> None:
    """200 readers that have stopped within a large answer hold no more than a chunk each."""
    served = serve(send_idle_timeout_s=60)
    base = served.state()["rss_bytes"]
    clients = [served.connect(receive_buffer=4096) for _ in range(200)]
    for client in clients:
        client.request("GET", f"/blob/{64 << 20}")
    eventually(lambda: served.state()["opened"] == 200)
    with lasting(at_most_s=5):
        assert served.is_well()
    grown_kib = (served.state()["rss_bytes"] - base) / 1024 / 200

    print(f"a stalled reader costs {grown_kib:.0f} KiB")
    assert grown_kib < 600
