"""The upstream of proxies serves what is put, no faster than it is told, and tells what it was asked for."""

from pathlib import Path

import pytest

from bench.contenders.contender import Start
from bench.contenders.setup import ask
from bench.content import KIB, Layer
from bench.peers.upstream import Asked, Upstream
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())


def test_it_tells_what_it_was_asked_for(tmp_path: Path) -> None:
    """GETs of blobs with the bytes that were sent; neither HEAD nor the registry's base counts."""
    if why := Upstream.missing():
        pytest.skip(why)
    upstream = Upstream.start(Start(tmp_path, FREE))
    layer = Layer("upstream", 300 * KIB)
    try:
        upstream.put_blob("app", layer)
        before = upstream.mark()
        assert ask(upstream.endpoint, "GET", "/v2/").status == 200
        assert ask(upstream.endpoint, "HEAD", f"/v2/app/blobs/{layer.digest}").status == 200
        middle = upstream.mark()
        got = ask(upstream.endpoint, "GET", f"/v2/app/blobs/{layer.digest}")

        assert got.body == b"".join(map(bytes, layer.chunks()))
        assert upstream.asked(middle) == Asked(1, layer.size_bytes)
        assert upstream.asked(before) == Asked(1, layer.size_bytes)
        assert upstream.asked(upstream.mark()) == Asked(0, 0)
    finally:
        upstream.stop()
