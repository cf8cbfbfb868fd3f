"""The floor: static files that answer like a registry, without a delay of their own making."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.client import Connection, get
from bench.contenders.contender import Server, Start
from bench.contenders.nginx import Nginx
from bench.content import KIB, OCI_MANIFEST, Document, Layer
from bench.processes import Cores

pytestmark = pytest.mark.slow

LAYER = Layer("nginx", 300 * KIB)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Nginx with a blob."""
    if why := Nginx().missing():
        pytest.skip(why)
    running = Nginx().start(Start(tmp_path, Cores(frozenset(), frozenset())))
    running.put_blob("app", LAYER)
    yield running
    running.stop()


async def test_ranges_do_not_wait_for_acknowledgements(server: Server) -> None:
    """A range of 64 KiB over a kept connection takes far less than the 40 ms of a delayed acknowledgement."""
    took_ms = []
    async with await Connection.open(server.endpoint) as connection:
        for _ in range(60):
            start_ns = time.perf_counter_ns()
            reply = await connection.request(get(f"/v2/app/blobs/{LAYER.digest}", range="bytes=1000-66535"))
            took_ms.append((reply.end_ns - start_ns) / 1e6)
            assert (reply.status, reply.size_bytes) == (206, 65536)
    # A new connection is acknowledged at once for a while; after that such a delay would befall each answer.
    assert min(took_ms[30:]) < 20


async def test_a_connection_is_kept_for_any_number_of_requests(server: Server) -> None:
    """Its usual limit of 1,000 requests per connection would show up as the client's reconnecting."""
    server.put_manifest("app", Document(OCI_MANIFEST, b"{}"), "latest")
    async with await Connection.open(server.endpoint) as connection:
        for _ in range(1100):
            assert (await connection.request(get("/v2/app/manifests/latest"))).status == 200
        assert connection.reusable
