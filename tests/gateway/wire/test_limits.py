"""The limits of connections and of patience, through the real server and as an operator sets them."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.wire.conftest import Served, running
from tests.gateway.wire.raw_client import Cut, RawClient, eventually, lasting
from tests.served import Served as Gateway

pytestmark = pytest.mark.slow

UPLOAD = "PUT /sink?idle=0.6 HTTP/1.1\r\nHost: x\r\n"
DRIPS: dict[str, tuple[str, bytes]] = {
    "body_with_length": (f"{UPLOAD}Content-Length: 1000000\r\n\r\n", b"x"),
    "chunked_body": (f"{UPLOAD}Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size_of_a_chunk": (f"{UPLOAD}Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "head": ("GET /hello HTTP/1.1\r\nHost: x\r\nA: ", b"b"),
    "request_line": ("GET /hello", b"o"),
}


def drip(client: RawClient, opening: str, drop: bytes) -> None:
    """Send the opening, then a drop every 50 ms until the server ends it; give up after 10 s."""
    client.send(opening)
    client.sock.settimeout(0.05)
    deadline = time.monotonic() + 10
    with suppress(ConnectionError):
        while time.monotonic() < deadline:
            try:
                client.buffer += client.sock.recv(4096)
                break
            except TimeoutError:
                client.send(drop)
    client.sock.settimeout(5)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that waits 0.6 s for a head."""
    with running(tmp_path_factory.mktemp("impatient") / "log", header_timeout_s=0.6) as served:
        yield served


@pytest.mark.parametrize(("opening", "drop"), DRIPS.values(), ids=DRIPS.keys())
def test_who_drips_is_refused_in_every_phase(impatient: Served, opening: str, drop: bytes) -> None:
    """Byte by byte without a pause does not hold a connection for longer than its limit: 408, and it ends."""
    with ExitStack() as stack:
        with lasting(at_least_s=0.5, at_most_s=9):  # less than `drip` would go on
            client = stack.enter_context(impatient.connect())
            drip(client, opening, drop)
        with suppress(Cut):
            assert client.answer().status in {400, 408}
        assert client.closed()
    eventually(lambda: impatient.state()["open"] == 1)


def hold(stack: ExitStack, served: Served, count: int) -> list[RawClient]:
    """So many connections that are busy with an answer, so that they do not make room for others."""
    clients = [stack.enter_context(served.connect(receive_buffer=4096)) for _ in range(count)]
    for client in clients:
        client.request("GET", f"/blob/{64 << 20}").until(b"\r\n\r\n")
    return clients


def test_one_address_has_a_limit_of_its_own(serve: Callable[..., Served]) -> None:
    """Beyond it newcomers hear 503 while the worker has room; who leaves makes room."""
    served = serve(max_connections_per_address=3)
    with ExitStack() as stack:
        first, *_ = hold(stack, served, 3)
        assert served.get("/hello").status == 503
        first.reset()
        eventually(lambda: served.get("/hello").status == 200)
    assert eventually(served.state)["turned_away_total"] >= 1


def test_proxies_have_no_such_limit(serve: Callable[..., Served]) -> None:
    """Behind a trusted proxy there are many clients with one address."""
    served = serve(max_connections_per_address=3, unlimited_networks=["127.0.0.0/8"])
    with ExitStack() as stack:
        hold(stack, served, 10)
        assert served.get("/hello").status == 200


@pytest.mark.parametrize(("trusted", "status"), [("", 503), ("127.0.0.1/32", 200)])
def test_the_operator_sets_it(tmp_path: Path, trusted: str, status: int) -> None:
    """`server.max_connections_per_address` and `server.trusted_proxies` reach the server as they are written."""
    environment = {
        "SLUICE_SERVER__WORKERS": "1",
        "SLUICE_SERVER__MAX_CONNECTIONS_PER_ADDRESS": "4",
        "SLUICE_SERVER__TRUSTED_PROXIES": trusted,
    }
    with Gateway(tmp_path, environment=environment) as gateway, ExitStack() as stack:
        for _ in range(4):
            begin_upload(gateway, stack)

        def answered() -> Any:
            begin_upload(gateway, stack)  # one of the first may have been refused beside a connection that was closing
            return gateway.request("GET", "/health").status

        assert eventually(lambda: answered() == status)


def begin_upload(gateway: Gateway, stack: ExitStack) -> None:
    """A request whose body does not come: it is busy, not resting."""
    connection = gateway.connection()
    stack.callback(connection.close)
    connection.putrequest("POST", "/v2/token")
    connection.putheader("Content-Type", "application/x-www-form-urlencoded")
    connection.putheader("Content-Length", "100")
    connection.endheaders()
