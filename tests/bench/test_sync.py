"""A real skopeo fills real registries: all tags arrive, and a refusal is told."""

from pathlib import Path

import pytest

from bench.cases.sync import Sync
from bench.contenders.contender import Start
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.setup import ask
from bench.contenders.sluice import Sluice
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores
from bench.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("skopeo")]

FREE = Cores(frozenset(), frozenset())


@pytest.fixture
def skopeo(program) -> str:  # noqa: ANN001
    """The real one."""
    return str(program("skopeo"))


def job(server_prefix: str, program: str, authorization: str | None) -> dict[str, object]:
    """One image of two tags."""
    return {
        "program": program,
        "images": 1,
        "tags": 2,
        "layer_bytes": 1000,
        "prefix": server_prefix,
        "authorization": authorization,
    }


def test_all_tags_arrive(tmp_path: Path, skopeo: str) -> None:
    """After the sync every tag of every image can be pulled, and skopeo's own CPU is known."""
    server = Sluice().start(Start(tmp_path, FREE))
    try:
        prefix = server.name("x").rpartition("/")[0]
        login = server.authorization(f"{prefix}/sync-0", push=True)
        outcome = drive(
            [Job("bench.drivers.sync", server.endpoint, job(prefix, skopeo, login))], tree=server.processes, cores=FREE
        )
        assert (outcome.requests, outcome.errors) == (2, 0), outcome.complaints
        assert outcome.extra["skopeo_cpu_s"] > 0
        assert outcome.extra["sent_requests"] > 4
        assert outcome.extra["sent_bytes"] > 1000
        headers = {"Authorization": login or ""}
        for tag in ("v0", "v1"):
            assert ask(server.endpoint, "GET", f"/v2/{prefix}/sync-0/manifests/{tag}", headers=headers).status == 200
    finally:
        server.stop()


def test_a_refusal_is_an_error(tmp_path: Path, skopeo: str) -> None:
    """Without a login nothing arrives; that is one error, with skopeo's own words."""
    server = Sluice().start(Start(tmp_path, FREE))
    try:
        prefix = server.name("x").rpartition("/")[0]
        outcome = drive(
            [Job("bench.drivers.sync", server.endpoint, job(prefix, skopeo, None))], tree=server.processes, cores=FREE
        )
        assert (outcome.requests, outcome.errors) == (0, 1)
        assert "status 1" in outcome.complaints[0]
    finally:
        server.stop()


def test_a_filled_registry_is_sent_no_blobs(tmp_path: Path) -> None:
    """The second run asks for everything and sends heads and manifests."""
    report = run(Plan([Sync(2, 2), Sync(2, 2, "again", is_filled=True)], [Sluice()], 1, tmp_path), lambda _: None)
    first, again = report.measurements
    assert (first.errors, again.errors) == (0, 0)
    assert again.extra["sent_bytes"] < first.extra["sent_bytes"] / 4


def test_both_registries_are_filled(tmp_path: Path) -> None:
    """The case works with logins that buy tokens and with a token that is brought."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    report = run(Plan([Sync(2, 2)], contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert [(each.requests, each.errors) for each in report.measurements] == [(4, 0)] * len(contenders)
