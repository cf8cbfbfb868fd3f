"""Proxies keep what every contender promises, and what they pull comes from their upstream."""

from pathlib import Path

import pytest

from bench.contenders.contender import Start, Trait
from bench.contenders.setup import ask
from bench.contenders.through import Through, ThroughServer, docker_registry_through, sluice_through
from bench.content import KIB, Layer
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())


@pytest.mark.parametrize("contender", [sluice_through(), docker_registry_through()], ids=lambda each: each.name)
def test_a_pull_asks_the_upstream(contender: Through, tmp_path: Path) -> None:
    """Both take no pushes; the blob that is put lies at the upstream until somebody pulls it. Ours asks once."""
    if why := contender.missing():
        pytest.skip(why)
    server = contender.start(Start(tmp_path, FREE))
    try:
        assert isinstance(server, ThroughServer)
        assert Trait.PUSH not in contender.traits
        name, layer = server.name("app"), Layer("through", 300 * KIB)
        server.put_blob(name, layer)
        headers = {"Authorization": server.authorization(name) or ""}
        start = server.mark()

        bodies = [ask(server.endpoint, "GET", f"/v2/{name}/blobs/{layer.digest}", headers=headers).body for _ in "ab"]

        assert bodies == [b"".join(map(bytes, layer.chunks()))] * 2
        asked = server.asked(start)
        assert asked.blob_gets >= 1  # the peer asks three times for these two pulls
        assert asked.sent_bytes == asked.blob_gets * layer.size_bytes
        if Trait.OURS in contender.traits:
            assert asked.blob_gets == 1
    finally:
        server.stop()
