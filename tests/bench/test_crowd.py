"""Memory per connection, of real servers: connections are held as they should be, and their cost comes out."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.crowd import Crowd, cases
from bench.contenders.contender import Server, Start
from bench.contenders.nginx import Nginx
from bench.contenders.sluice import Sluice
from bench.content import KIB, MIB, Layer
from bench.figures import CPU, value
from bench.jobs import Job, LoadFailed, Shot
from bench.loads import drive
from bench.processes import Cores, split_cores
from bench.run import Plan, run

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())
LAYER = Layer("crowd", 8 * MIB)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A static server with one blob."""
    if why := Nginx().missing():
        pytest.skip(why)
    running = Nginx().start(Start(tmp_path, split_cores()))
    running.put_blob("app", LAYER)
    yield running
    running.stop()


def job(server: Server, *, read_bytes: int | None, **headers: str) -> Job:
    """Ten connections."""
    shot = Shot(f"/v2/app/blobs/{LAYER.digest}", 200, LAYER.size_bytes, headers=headers)
    arguments = {"shots": [asdict(shot)], "connections": 10, "read_bytes": read_bytes, "hold_s": 0.05}
    return Job("bench.drivers.crowd", server.endpoint, arguments)


@pytest.mark.parametrize("read_bytes", [None, 64 * KIB], ids=["at rest", "stopped"])
def test_connections_are_held(server: Server, read_bytes: int | None) -> None:
    """All connections are still there in the end, at rest or with bytes to come."""
    outcome = drive([job(server, read_bytes=read_bytes)], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (10, 0)


def test_connections_that_were_closed_are_errors(server: Server) -> None:
    """A server that does not keep connections is found out."""
    outcome = drive([job(server, read_bytes=None, Connection="close")], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (0, 10)
    assert outcome.complaints


def test_a_wrong_answer_stops_everything(server: Server) -> None:
    """What is held has been answered rightly."""
    shot = Shot("/v2/app/blobs/none", 200, 1)
    wrong = {"shots": [asdict(shot)], "connections": 1, "read_bytes": None, "hold_s": 0.0}
    with pytest.raises(LoadFailed, match="404"):
        drive([Job("bench.drivers.crowd", server.endpoint, wrong)], tree=server.processes, cores=FREE)


def test_memory_per_connection_comes_out(tmp_path: Path) -> None:
    """Both cases give bytes per connection as their primary figure, and a connection of ours is no megabyte."""
    brief: list[Case] = [
        replace(case, connections=100, hold_s=0.1) for case in cases(Scale.QUICK) if isinstance(case, Crowd)
    ]
    report = run(Plan(brief, [Sluice()], 1, tmp_path), lambda _: None)
    assert not report.notes
    assert [each.case for each in report.measurements] == ["idle-connections", "slow-readers"]
    for each in report.measurements:
        assert (each.requests, each.errors) == (100, 0), each
        figure = value(each, CPU)
        assert figure is not None
        assert abs(figure) < MIB / 4
