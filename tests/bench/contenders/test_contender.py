"""What every contender promises: it starts, holds content, asks for tokens if it says so, and leaves nothing behind."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.contenders.catalog import all_contenders
from bench.contenders.contender import Contender, Server, Setting, Start, Trait
from bench.contenders.setup import Answer, ask
from bench.content import KIB, OCI_MANIFEST, Image, Layer, image
from bench.processes import Cores
from tests.servers.processes import wait_until

pytestmark = pytest.mark.slow

WRITTEN_S = 30.0
"""A proxy may write a blob after it has sent it."""
FREE = Cores(frozenset(), frozenset())
APART = {Trait.MANY_CORES, Trait.BUCKET}  # those on buckets: test_on_bucket.py
CONTENDERS = {each.name: each for each in all_contenders() if not APART & each.traits}


@pytest.fixture(params=CONTENDERS)
def contender(request: pytest.FixtureRequest) -> Contender:
    """Each of them, if its program is there."""
    chosen = CONTENDERS[request.param]
    if why := chosen.missing():
        pytest.skip(why)
    return chosen


def sizes_of(files: Sequence[Path]) -> list[int]:
    """Of those that are there."""
    return [path.stat().st_size for path in files if path.exists()]


def get(server: Server, path: str, *, method: str = "GET", authorization: str | None = None) -> Answer:
    """One request."""
    headers = {"Accept": OCI_MANIFEST} | ({"Authorization": authorization} if authorization else {})
    return ask(server.endpoint, method, path, headers=headers)


def content() -> Image:
    """A small image."""
    return image("contract", Layer("contract", 300 * KIB))


def put(server: Server) -> str:
    """Make a server hold it; its name there."""
    name = server.name("app")
    for blob in content().blobs:
        server.put_blob(name, blob)
        server.put_blob(name, blob)  # a second time does no harm
    server.put_manifest(name, content().manifest, "latest", "v1")
    return name


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_it_serves_what_was_put(contender: Contender, tmp_path: Path, *, tls: bool) -> None:
    """Blobs and manifests come back byte for byte under the paths of a registry, and tokens are asked for as told."""
    server = contender.start(Start(tmp_path, FREE, Setting(tls=tls)))
    try:
        name = put(server)
        made = content()
        layer = made.layers[0]
        token = server.authorization(name)
        assert (token is not None) == (Trait.TOKENS in contender.traits)
        for reference in ("latest", "v1", made.manifest.digest):
            answer = get(server, f"/v2/{name}/manifests/{reference}", authorization=token)
            assert (answer.status, answer.body) == (200, made.manifest.body)
            assert answer.headers["content-type"] == OCI_MANIFEST
        answer = get(server, f"/v2/{name}/blobs/{layer.digest}", authorization=token)
        assert answer.body == b"".join(bytes(chunk) for chunk in layer.chunks())
        head = get(server, f"/v2/{name}/blobs/{layer.digest}", method="HEAD", authorization=token)
        assert (head.status, head.headers["content-length"]) == (200, str(layer.size_bytes))
        if Trait.TOKENS in contender.traits:
            assert get(server, f"/v2/{name}/manifests/latest").status == 401
        assert server.endpoint.url.startswith("https://127.0.0.1:" if tls else "http://127.0.0.1:")
        assert wait_until(lambda: sizes_of(server.files_of(layer)) == [layer.size_bytes], WRITTEN_S)
        assert any(letter.isdigit() for letter in server.version)
    finally:
        server.stop()


def test_nothing_is_left_when_it_has_stopped(contender: Contender, tmp_path: Path) -> None:
    """All processes are gone after `stop`, and the port is free; stopping again does nothing."""
    server = contender.start(Start(tmp_path, FREE))
    assert server.processes is not None
    pids = server.processes.pids()
    assert pids
    server.stop()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    with pytest.raises(OSError, match="refused"):
        ask(server.endpoint, "GET", "/")
    server.stop()
