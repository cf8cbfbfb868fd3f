"""Real load processes against a real server: what is counted, what is measured, and how a breakdown is told."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from bench.contenders.contender import Endpoint, Server, Setting, Start
from bench.contenders.nginx import Nginx
from bench.content import MIB, Layer
from bench.jobs import Job, LoadFailed, Shot
from bench.loads import drive
from bench.processes import Cores, split_cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())
LAYER = Layer("loads", 3 * MIB)


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A static server with one blob."""
    if why := Nginx().missing():
        pytest.skip(why)
    running = Nginx().start(Start(tmp_path, split_cores(), Setting(tls=request.param)))
    running.put_blob("app", LAYER)
    yield running
    running.stop()


def job(server: Server, *, background: bool = False, path: str | None = None, **arguments: object) -> Job:
    """Ask for the blob."""
    shot = Shot(path or f"/v2/app/blobs/{LAYER.digest}", 200, LAYER.size_bytes, digest=LAYER.digest)
    return Job("bench.drivers.repeat", server.endpoint, {"shots": [asdict(shot)], **arguments}, background=background)


@pytest.mark.parametrize("reconnect", [False, True], ids=["kept", "reconnect"])
def test_a_fixed_amount_of_work_is_counted_exactly(server: Server, *, reconnect: bool) -> None:
    """So many requests are so many answers and bytes, with the server's CPU and memory beside them."""
    work = job(server, connections=3, requests=20, reconnect=reconnect)
    outcome = drive([work], tree=server.processes, cores=split_cores())
    assert (outcome.requests, outcome.errors) == (20, 0)
    assert outcome.moved_bytes == 20 * LAYER.size_bytes
    assert outcome.server_cpu_s is not None
    assert 0 < outcome.server_cpu_s < 10
    assert outcome.client_cpu_s > 0
    assert outcome.wall_s > 0
    assert (outcome.server_rss_bytes or 0) > MIB
    assert outcome.whole is not None
    assert outcome.whole.count == 20
    assert outcome.first_byte is not None
    assert 0 < outcome.first_byte.p50_ms <= outcome.whole.p50_ms


def test_jobs_run_at_once_and_the_background_counts_apart(server: Server) -> None:
    """Two jobs add up; one in the background goes on until they are done and shows up only as background."""
    work = [job(server, connections=1, requests=5), job(server, connections=2, requests=7)]
    behind = job(server, background=True, connections=1, seconds=3600)
    outcome = drive([*work, behind], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (12, 0)
    assert outcome.extra["background_bytes_per_s"] > 0
    assert outcome.extra["background_errors"] == 0


def test_a_time_is_kept(server: Server) -> None:
    """With `seconds` the load goes on for that long and ends what it has begun."""
    outcome = drive([job(server, connections=2, seconds=0.3, warm_s=0.01)], tree=server.processes, cores=FREE)
    assert 0.3 <= outcome.wall_s < 30
    assert outcome.requests >= 2
    assert outcome.moved_bytes == outcome.requests * LAYER.size_bytes


def test_a_wrong_body_stops_everything(server: Server) -> None:
    """What is served is checked against its digest before anything is measured."""
    shot = Shot(f"/v2/app/blobs/{LAYER.digest}", 200, LAYER.size_bytes, digest="sha256:" + "0" * 64)
    wrong = Job("bench.drivers.repeat", server.endpoint, {"shots": [asdict(shot)], "connections": 1})
    with pytest.raises(LoadFailed, match="not sha256:000"):
        drive([wrong], tree=server.processes, cores=FREE)


def test_wrong_answers_are_errors(server: Server) -> None:
    """Without the check before, each wrong answer is counted and explained."""
    outcome = drive(
        [job(server, path="/v2/app/blobs/none", connections=2, requests=6, warm_s=0)],
        tree=server.processes,
        cores=FREE,
    )
    assert (outcome.requests, outcome.errors) == (0, 6)
    assert "404" in outcome.complaints[0]


def test_a_server_known_only_by_its_address(server: Server) -> None:
    """Without processes to look at, CPU and memory are unknown, not zero."""
    outcome = drive([job(server, connections=1, requests=2)], tree=None, cores=FREE)
    assert (outcome.server_cpu_s, outcome.server_rss_bytes) == (None, None)


def test_a_broken_load_process_tells_why() -> None:
    """A driver that cannot be run raises with what the process printed, instead of waiting for ever."""
    with pytest.raises(LoadFailed, match=r"bench\.drivers\.none"):
        drive([Job("bench.drivers.none", Endpoint("127.0.0.1", 1))], tree=None, cores=FREE)


def test_a_load_that_hangs_is_ended(server: Server) -> None:
    """A job has a deadline, after which its process is gone."""
    slow = job(server, connections=1, seconds=3600)
    hasty = Job(slow.driver, slow.endpoint, slow.arguments, deadline_s=2)
    with pytest.raises(LoadFailed, match="longer than 2 s"):
        drive([hasty], tree=server.processes, cores=FREE)
