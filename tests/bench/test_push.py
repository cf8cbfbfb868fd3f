"""Pushes as docker and containerd do them: real uploads, each in its own manner, refused ones counted as errors."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.cases.case import Scale
from bench.cases.push import Push, cases
from bench.contenders.contender import Server, Start
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.setup import ask
from bench.content import MIB, Layer
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())
LAYERS = [Layer("one", 2 * MIB), Layer("two", MIB + 1)]


@pytest.fixture
def server(tmp_path: Path):  # noqa: ANN201
    """A registry that asks for tokens."""
    if why := DockerRegistry().missing():
        pytest.skip(why)
    running = DockerRegistry().start(Start(tmp_path, FREE))
    yield running
    running.stop()


def job(server: Server, *, streamed: bool, push: bool = True, again: bool = False) -> Job:
    """Push both layers."""
    name = server.name("app")
    arguments = {
        "layers": [asdict(layer) for layer in LAYERS],
        "name": name,
        "authorization": server.authorization(name, push=push),
        "streamed": streamed,
        "again": again,
    }
    return Job("bench.drivers.push", server.endpoint, arguments)


@pytest.mark.parametrize("streamed", [False, True], ids=["monolithic", "streamed"])
def test_layers_arrive(server: Server, *, streamed: bool) -> None:
    """Both manners leave the layers in the registry, and count their bytes."""
    outcome = drive([job(server, streamed=streamed)], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (2, 0)
    assert outcome.moved_bytes == sum(layer.size_bytes for layer in LAYERS)
    name = server.name("app")
    headers = {"Authorization": server.authorization(name) or ""}
    for layer in LAYERS:
        held = ask(server.endpoint, "HEAD", f"/v2/{name}/blobs/{layer.digest}", headers=headers)
        assert held.headers["content-length"] == str(layer.size_bytes)


def test_who_may_not_push_is_an_error(server: Server) -> None:
    """A refused upload is counted and explained, and nothing is counted as moved."""
    outcome = drive([job(server, streamed=False, push=False)], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.moved_bytes, outcome.errors) == (0, 0, 2)
    assert "401" in outcome.complaints[0]


def test_pushes_go_on_in_the_background(server: Server) -> None:
    """With `again` the pushers go on until the other jobs have ended."""
    behind = replace(job(server, streamed=True, again=True), background=True)
    outcome = drive([job(server, streamed=False), behind], tree=server.processes, cores=FREE)
    assert (outcome.requests, outcome.errors) == (2, 0)
    assert outcome.extra["background_bytes_per_s"] > 0
    assert outcome.extra["background_errors"] == 0


def test_cases_differ_by_manner_and_number() -> None:
    """There is a case for each manner and number, each with servers of its own so that the disk does not fill."""
    made = [case for case in cases(Scale.QUICK) if isinstance(case, Push)]
    assert [case.name for case in made] == [
        f"push-{manner}-{at_once}" for manner in ("monolithic", "streamed") for at_once in (1, 4, 16)
    ]
    assert all(case.setting.fresh for case in made)
    assert {case.at_once * case.size_bytes for case in cases(Scale.FULL) if isinstance(case, Push)} == {
        256 * MIB,
        1024 * MIB,
    }
