"""Images that are pushed and deleted again, against a real gateway without a sweep."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders.contender import Start
from bench.contenders.sluice import Sluice, SluiceServer
from bench.drivers.churn import BLOBS_PER_IMAGE
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SluiceServer]:
    """Ours, without a sweep."""
    running = Sluice().start(Start(tmp_path, FREE))
    assert isinstance(running, SluiceServer)
    yield running
    running.stop()


def churn(server: SluiceServer, *, authorization: str) -> Job:
    """One pusher for a moment."""
    arguments = {
        "name": server.name("churn"),
        "authorization": authorization,
        "pushers": 1,
        "layer_bytes": 1000,
        "seconds": 0.4,
        "seed": "test",
    }
    return Job("bench.drivers.churn", server.endpoint, arguments)


def test_images_are_pushed_and_deleted(server: SluiceServer) -> None:
    """Every turn is a push, a look and a deletion; only the last image is left in the registry."""
    outcome = drive([churn(server, authorization=server.basic())], tree=server.processes, cores=FREE)
    pushed = int(outcome.extra["images_pushed"])
    assert outcome.errors == 0, outcome.complaints
    assert pushed >= 2
    assert outcome.requests == pushed * 8 + (pushed - 1)
    assert outcome.recordings["push"].latencies().count == pushed
    left = [*(server.directory / "data" / "storages").rglob("sha256/*/*/*")]
    assert len(left) == pushed * BLOBS_PER_IMAGE  # no sweep came


def test_who_may_not_push_is_an_error(server: SluiceServer) -> None:
    """A refused push ends the pusher, and is told."""
    outcome = drive([churn(server, authorization="Basic bm9ib2R5Om5vdGhpbmc=")], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (0, 1)
    assert "401" in outcome.complaints[0]
