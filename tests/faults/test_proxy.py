"""The fault proxy does to a connection what it is told, to the right one, at the right byte, and nothing otherwise."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults.exchange import Exchange
from tests.faults.fault import (
    DOWN,
    UP,
    Answer,
    AnsweredTwice,
    AskedTwice,
    Bandwidth,
    Cut,
    Fault,
    HalfClose,
    Latency,
    Reset,
    Stall,
    WrongByte,
)
from tests.faults.proxy import FaultProxy

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves CONTENT and remembers what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[bytes] = []

    def handle_error(self, *_: object) -> None:
        """Connections break here by intention."""


class Handler(BaseHTTPRequestHandler):
    """GET gives CONTENT, on /chunked in chunks; PUT keeps the body."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer with the content."""
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(CONTENT), 100_000):
                part = CONTENT[at : at + 100_000]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT)

    do_HEAD = do_GET  # noqa: N815 - the server's naming

    def do_PUT(self) -> None:
        """Keep the body."""
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_request(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """An HTTP server on loopback."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    """A proxy in front of it that reads HTTP."""
    with FaultProxy(server.server_address[1]) as running:
        yield running


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[http.client.HTTPConnection]:
    """A connection through the proxy."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    yield connection
    connection.close()


def get(client: http.client.HTTPConnection, path: str = "/", method: str = "GET") -> tuple[int, bytes]:
    """One request on the connection."""
    client.request(method, path)
    answer = client.getresponse()
    return answer.status, answer.read()


def received(client: http.client.HTTPConnection) -> bytes:
    """As much of an answer's body as arrives before the connection ends or stands still."""
    client.request("GET", "/")
    answer, arrived = client.getresponse(), bytearray()
    try:
        while chunk := answer.read1(65536):
            arrived += chunk
    except OSError:
        pass
    return bytes(arrived)


def is_put(exchange: Exchange) -> bool:
    """Whether it is a PUT."""
    return exchange.method == "PUT"


def test_bytes_pass_unchanged(proxy: FaultProxy, server: Server, client: http.client.HTTPConnection) -> None:
    """Without a rule every body arrives as it is, on one connection, and each request is in the list."""
    assert get(client) == (200, CONTENT)
    assert get(client, "/chunked") == (200, CONTENT)
    assert get(client, method="HEAD") == (200, b"")
    client.request("PUT", "/a%20key?x=1", CONTENT, {"Expect": "100-continue"})
    assert client.getresponse().read() == b""

    assert server.received == [CONTENT]
    assert [(each.method, each.path, each.status) for each in proxy.exchanges] == [
        ("GET", "/", 200),
        ("GET", "/chunked", 200),
        ("HEAD", "/", 200),
        ("PUT", "/a key", 201),
    ]
    assert [each.body_bytes for each in proxy.exchanges] == [0, 0, 0, len(CONTENT)]
    assert proxy.exchanges[0].answer_bytes == len(CONTENT)
    assert proxy.exchanges[3].query == {"x": ["1"]}
    assert proxy.connections == 1


@pytest.mark.parametrize("at", [0, 1, 300_000, len(CONTENT) - 1])
def test_one_byte_is_wrong(proxy: FaultProxy, server: Server, client: http.client.HTTPConnection, at: int) -> None:
    """The byte at the given place is another one, all others are the same, both ways."""
    proxy.harm(WrongByte(at, DOWN))
    proxy.harm(WrongByte(at, UP), is_put)

    _, arrived = get(client)
    client.request("PUT", "/", CONTENT)
    client.getresponse().read()

    for content in (arrived, server.received[0]):
        assert [index for index in range(len(CONTENT)) if content[index] != CONTENT[index]] == [at]
        assert len(content) == len(CONTENT)


@pytest.mark.parametrize("fault", [Cut(300_000), Reset(300_000), HalfClose(300_000)], ids=repr)
def test_an_answer_ends_too_early(proxy: FaultProxy, client: http.client.HTTPConnection, fault: Fault) -> None:
    """No byte more arrives than was allowed, and the end comes at once; the next connection is whole."""
    proxy.harm(fault, times=1)

    arrived = received(client)
    client.close()

    assert CONTENT.startswith(arrived)
    assert len(arrived) == 300_000 or (isinstance(fault, Reset) and len(arrived) < 300_000)
    assert get(client) == (200, CONTENT)


def test_an_answer_is_lost_after_the_server_acted(
    proxy: FaultProxy, server: Server, client: http.client.HTTPConnection
) -> None:
    """A reset before the answer's head leaves the client in doubt about what the server has done."""
    proxy.harm(Reset())

    client.request("PUT", "/", b"content")
    with pytest.raises(ConnectionResetError):
        client.getresponse()

    assert server.received == [b"content"]


def test_a_request_is_broken_in_its_body(proxy: FaultProxy, server: Server) -> None:
    """The server sees the start of a body and then a reset; it has not got the request."""
    proxy.harm(Reset(100_000, UP))
    with socket.create_connection(("127.0.0.1", proxy.port)) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(CONTENT))
        client.settimeout(5)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            client.sendall(CONTENT * 64)  # more than fits into buffers

    assert server.received == []


def test_what_stalls_goes_on_when_healed(proxy: FaultProxy) -> None:
    """Up to the given byte all arrives, then nothing and no end; after `heal` the rest comes on the same connection."""
    proxy.harm(Stall(300_000))
    with socket.create_connection(("127.0.0.1", proxy.port)) as other:  # another one stands still meanwhile
        other.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        stall_and_heal(proxy)


def stall_and_heal(proxy: FaultProxy) -> None:
    """Read up to where the answer stalls, heal, and read the rest."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.1) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        arrived = bytearray()

        def read() -> None:
            while chunk := client.recv(65536):
                arrived.extend(chunk)

        with pytest.raises(TimeoutError):
            read()
        assert arrived.endswith(CONTENT[:300_000][-1000:])
        assert 300_000 < len(arrived) < 301_000
        proxy.heal()
        client.settimeout(5)
        read()

    assert arrived.endswith(b"\r\n\r\n" + CONTENT)


def test_a_canned_answer_does_not_reach_the_server(
    proxy: FaultProxy, server: Server, client: http.client.HTTPConnection
) -> None:
    """The rule's answer comes, as often as was said and not before, on a connection that stays usable."""
    rule = proxy.harm(Answer(503, b"<SlowDown/>", (("Retry-After", "1"),)), is_put, times=2, skip=1)

    def put() -> tuple[int, bytes, str | None]:
        client.request("PUT", "/", b"content")
        answer = client.getresponse()
        return answer.status, answer.read(), answer.getheader("Retry-After")

    assert [put() for _ in range(4)] == [
        (201, b"", None),
        (503, b"<SlowDown/>", "1"),
        (503, b"<SlowDown/>", "1"),
        (201, b"", None),
    ]
    assert get(client) == (200, CONTENT)
    assert server.received == [b"content"] * 2
    assert rule.hits == 2
    assert proxy.connections == 1


def test_a_request_is_asked_twice(proxy: FaultProxy, server: Server, client: http.client.HTTPConnection) -> None:
    """The server gets the same request two times, and the client one answer."""
    proxy.harm(AskedTwice(), times=1)

    client.request("PUT", "/", CONTENT)
    assert client.getresponse().read() == b""
    assert get(client) == (200, CONTENT)

    assert server.received == [CONTENT, CONTENT]


def test_an_answer_comes_twice(proxy: FaultProxy) -> None:
    """The same answer is on the wire two times for one request."""
    proxy.harm(AnsweredTwice())
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        arrived = b""
        while arrived.count(b"\r\n\r\n") < 2:
            arrived += client.recv(65536)

    assert arrived[: len(arrived) // 2] == arrived[len(arrived) // 2 :]


def test_latency_and_bandwidth_take_time(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """An answer comes as late and as slowly as was said, and whole."""
    proxy.harm(Latency(0.05))
    proxy.harm(Bandwidth(20 * len(CONTENT)))
    begun = time.monotonic()

    assert get(client) == (200, CONTENT)

    assert time.monotonic() - begun >= 0.1


def test_it_refuses_and_resets(proxy: FaultProxy, client: http.client.HTTPConnection) -> None:
    """Refused means the kernel's own answer; open connections are reset when asked; `heal` listens on the same port."""
    assert get(client) == (200, CONTENT)
    proxy.refuse()
    assert get(client) == (200, CONTENT)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))

    proxy.reset_all()
    with pytest.raises(OSError, match=r"reset|pipe|without response"):
        get(client)
    proxy.heal()

    client.close()
    assert get(client) == (200, CONTENT)


def test_without_http_bytes_of_the_connection_count(server: Server) -> None:
    """A proxy that does not read HTTP chooses among connections and counts all bytes of one, heads included."""
    with FaultProxy(server.server_address[1], http=False) as proxy:
        proxy.harm(Cut(10), times=1, skip=1)
        arrived = []
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as client:
                client.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
                answer = b""
                while chunk := client.recv(65536):
                    answer += chunk
            arrived.append(answer)

        assert arrived[0].startswith(b"HTTP/1.1 200 OK\r\n")
        assert arrived[1] == arrived[0][:10]
        assert len(arrived[2]) == len(arrived[0])
        assert proxy.connections == len(proxy.exchanges) == 3


def test_a_server_that_is_down_resets(server: Server) -> None:
    """Where nothing listens behind the proxy, its client's connection is reset."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with FaultProxy(nobody.getsockname()[1]) as proxy, socket.socket() as client:
            client.settimeout(5)
            with pytest.raises(ConnectionResetError):
                attempt(client, proxy.port)


def attempt(client: socket.socket, port: int) -> None:
    """Connect and read."""
    client.connect(("127.0.0.1", port))
    client.recv(1)
