"""The front deals every request to the next server, and lets no reader see that one of them is away."""

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.replicas.front import Front

CONTENT = b"\x16" * (1 << 20)  # what a TLS connection begins with, which means nothing inside of a body


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's own port; a PUT with the size of its body; /gone is closed without an answer."""

    protocol_version = "HTTP/1.1"
    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        """The port, and on /large a megabyte before it."""
        if self.path == "/gone" and self.server.server_port == min(PORTS):
            self.close_connection = True
            return
        self.reply((CONTENT if self.path == "/large" else b"") + str(self.server.server_port).encode())

    def do_PUT(self) -> None:
        """How much came."""
        self.reply(str(len(self.rfile.read(int(self.headers["Content-Length"])))).encode())

    def reply(self, body: bytes) -> None:
        """Answer with 200."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_: object) -> None:
        """Say nothing."""


PORTS: list[int] = []
"""Those of the servers of the running test."""


@pytest.fixture
def servers() -> Iterator[list[ThreadingHTTPServer]]:
    """Two servers; a test may close one."""
    running = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in running]
    PORTS[:] = [each.server_port for each in running]
    for thread in threads:
        thread.start()
    yield running
    for server in running:
        server.shutdown()
        server.server_close()


def ask(connection: http.client.HTTPConnection, path: str = "/", method: str = "GET", body: bytes = b"") -> bytes:
    """A request on the connection, answered with 200."""
    connection.request(method, path, body or None)
    answer = connection.getresponse()
    assert answer.status == 200
    return answer.read()


def test_requests_of_one_connection_alternate(servers: list[ThreadingHTTPServer]) -> None:
    """On a single connection every request is answered by the other server, whole, whatever its size and verb."""
    with Front(PORTS) as front:
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=5)
        answers = [ask(connection), ask(connection, "/large"), ask(connection)]
        assert ask(connection, "/", "PUT", CONTENT) == str(len(CONTENT)).encode()
        assert ask(connection) == answers[0]
        connection.close()

    first, second = (str(port).encode() for port in PORTS)
    assert answers == [first, CONTENT + second, first]
    assert [(turn.replica, turn.status) for turn in front.turns] == [(0, 200), (1, 200), (0, 200), (1, 200), (0, 200)]


def test_tls_is_refused_at_once(servers: list[ThreadingHTTPServer]) -> None:
    """A client that tries https is not kept waiting: the connection ends."""
    with Front(PORTS) as front, socket.create_connection(("127.0.0.1", front.port), timeout=5) as client:
        client.sendall(b"\x16\x03\x01\x00\xa5\x01")
        assert client.recv(1) == b""


def test_a_server_that_is_away_is_passed_over(servers: list[ThreadingHTTPServer]) -> None:
    """Where one does not listen, or closes without an answer to a GET, the other one is asked."""
    with Front(PORTS) as front:
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=5)
        assert [ask(connection, "/gone") for _ in range(3)] == [str(max(PORTS)).encode()] * 3
        servers[0].shutdown()
        servers[0].server_close()
        assert [ask(connection) for _ in range(3)] == [str(PORTS[1]).encode()] * 3
        servers[1].shutdown()
        servers[1].server_close()
        connection.request("GET", "/")
        assert connection.getresponse().status == 502
        connection.close()
