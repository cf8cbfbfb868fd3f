"""An open loop: requests go out when they are due, whatever the server does, and latency counts from then."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.contenders.contender import Server, Start
from bench.contenders.nginx import Nginx
from bench.content import KIB, Layer
from bench.drivers.paced import poisson
from bench.jobs import Job, LoadFailed, Shot
from bench.loads import drive
from bench.processes import Cores, split_cores

FREE = Cores(frozenset(), frozenset())
LAYER = Layer("paced", 3 * KIB)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A static server with one small blob."""
    if why := Nginx().missing():
        pytest.skip(why)
    running = Nginx().start(Start(tmp_path, split_cores()))
    running.put_blob("app", LAYER)
    yield running
    running.stop()


def job(server: Server, path: str | None = None) -> Job:
    """Ask for it two hundred times per second."""
    shot = Shot(path or f"/v2/app/blobs/{LAYER.digest}", 200, LAYER.size_bytes)
    arguments = {"shots": [asdict(shot)], "rate_per_s": 200.0, "seconds": 0.5, "seed": "test"}
    return Job("bench.drivers.paced", server.endpoint, arguments)


@pytest.mark.slow
def test_all_that_was_due_is_sent_and_recorded(server: Server) -> None:
    """As many answers as arrivals, each with its latency from the moment it was due and how late it was sent."""
    outcome = drive([job(server)], tree=server.processes, cores=FREE)
    due = len(list(poisson(200, 0.5, "test")))
    assert (outcome.requests, outcome.errors) == (due, 0)
    assert outcome.moved_bytes == due * LAYER.size_bytes
    assert outcome.whole is not None
    late = outcome.recordings["late"].latencies()
    assert outcome.whole.count == late.count == due
    assert late.p50_ms <= outcome.whole.p50_ms  # the same on a machine that is late by far more than an answer takes


@pytest.mark.slow
def test_a_wrong_answer_stops_everything(server: Server) -> None:
    """When the very first answer is wrong nothing is measured."""
    with pytest.raises(LoadFailed, match="gave 404"):
        drive([job(server, "/v2/app/blobs/none")], tree=server.processes, cores=FREE)


def test_arrivals_are_random_and_repeat() -> None:
    """The same seed gives the same arrivals, as many as the rate says, in order and within the time."""
    arrivals = list(poisson(100, 50, "a"))
    assert arrivals == list(poisson(100, 50, "a"))
    assert arrivals != list(poisson(100, 50, "b"))
    assert arrivals == sorted(arrivals)
    assert 4_500 < len(arrivals) < 5_500
    assert 0 <= arrivals[0] < arrivals[-1] < 50e9


def test_there_is_always_an_arrival() -> None:
    """However short the time, something is measured."""
    assert len(list(poisson(0.001, 0.01, "a"))) == 1
