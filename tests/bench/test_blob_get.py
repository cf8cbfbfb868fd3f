"""Cases of large blobs: cold ones really come from the disk, warm ones are checked, and names say what they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cases.blob_get import ColdBlobGet, cases, drop_from_cache, is_cached, put_warm, warm_layer, warm_shots
from bench.cases.case import Outcome, Scale
from bench.contenders.contender import Contender, Server, Start
from bench.contenders.nginx import Nginx
from bench.content import GIB, MIB
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores

pytestmark = pytest.mark.slow


@dataclass
class Stand:
    """A running server, as `bench.run` gives it to cases."""

    server: Server
    contender: Contender
    cores: Cores
    round: int = 1

    def drive(self, *jobs: Job) -> Outcome:
        """Really."""
        return drive(jobs, tree=self.server.processes, cores=self.cores)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Static files."""
    if why := Nginx().missing():
        pytest.skip(why)
    cores = Cores(frozenset(), frozenset())
    server = Nginx().start(Start(tmp_path, cores))
    yield Stand(server, Nginx(), cores)
    server.stop()


def test_cold_blobs_come_once_and_from_the_disk(stand: Stand) -> None:
    """Each blob is pulled exactly once per round, and no file was in the page cache before."""
    case = ColdBlobGet(5, 5 * MIB)
    case.prepare(stand)
    outcome = case.measure(stand)
    assert (outcome.requests, outcome.moved_bytes, outcome.errors) == (5, 5 * MIB, 0)
    assert outcome.extra["files"] == 5
    if not drops_pages(next(iter(stand.server.files_of(case.layers()[0])))):
        pytest.skip("this file system keeps its files in memory")
    assert outcome.extra["files_still_cached"] == 0


def drops_pages(path: Path) -> bool:
    """Whether files of this file system can leave memory at all."""
    drop_from_cache(path)
    return not is_cached(path)


def test_a_file_that_was_just_read_is_cached(tmp_path: Path) -> None:
    """The probe says yes for what lies in memory."""
    path = tmp_path / "file"
    path.write_bytes(bytes(MIB))
    assert is_cached(path)


def test_the_warm_blob_is_asked_for_by_digest(stand: Stand) -> None:
    """The warm cases name the digest, so that the load checks what it is given."""
    layer = warm_layer(Scale.QUICK)
    put_warm(stand, layer=layer)
    (shot,) = warm_shots(stand, layer=layer)
    assert shot.digest == layer.digest
    assert shot.size_bytes == layer.size_bytes


def test_names_sizes_and_needs() -> None:
    """There is a case for each number of connections, warm and cold, one with TLS and one about workers."""
    made = {case.name: case for case in cases(Scale.FULL)}
    assert [name for name in made if "-warm-" in name] == [f"blob-get-warm-{count}" for count in (1, 8, 64)]
    assert [name for name in made if "-cold-" in name] == [f"blob-get-cold-{count}" for count in (1, 8, 64)]
    assert made["blob-get-tls"].setting.tls
    assert made["blob-get-workers"].only == {"sluice", "sluice-2-workers"}
    assert made["blob-get-workers"].cores == 3
    assert warm_layer(Scale.FULL).size_bytes == 256 * MIB
    cold = [case for case in made.values() if isinstance(case, ColdBlobGet)]
    assert all(sum(layer.size_bytes for layer in case.layers()) == GIB for case in cold)
    assert all("MiB" in case.summary for case in cold)
