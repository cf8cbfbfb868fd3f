"""Long lists against real registries: the tags are really put, the pages hold all of them, and false lists are told."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.listings import Listing, cases
from bench.contenders.contender import Server, Start
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.setup import ask
from bench.contenders.sluice import Sluice, SluiceServer
from bench.drivers.tagging import TAGS_PER_PUT, tag
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores
from bench.run import Plan, run

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())
TAGS = TAGS_PER_PUT * 2 + 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Ours."""
    running = Sluice().start(Start(tmp_path, FREE))
    yield running
    running.stop()


def walk(server: Server, *, entries: int, page: int = 50, key: str = "tags") -> Job:
    """Page through the tags of `app` for a moment, from the start and from the middle."""
    assert isinstance(server, SluiceServer)
    arguments = {
        "path": f"/v2/{server.name('app')}/tags/list",
        "key": key,
        "page": page,
        "entries": entries,
        "starts": ["", tag(TAGS // 2)],
        "headers": {"Authorization": server.basic()},
        "seconds": 0.3,
    }
    return Job("bench.drivers.pages", server.endpoint, arguments)


def put(server: Server, *, authorization: str | None) -> Job:
    """Put all tags."""
    arguments = {"images": [(server.name("app"), TAGS)], "authorization": authorization, "several": True}
    return Job("bench.drivers.tagging", server.endpoint, arguments)


def test_tags_are_put_and_found_page_by_page(server: Server) -> None:
    """Every tag that was put is in the pages, and a walker who misses one says so."""
    assert isinstance(server, SluiceServer)
    done = drive([put(server, authorization=server.basic())], tree=server.processes, cores=FREE)
    assert (done.requests, done.errors) == (3, 0)
    listed = ask(
        server.endpoint, "GET", f"/v2/{server.name('app')}/tags/list", headers={"Authorization": server.basic()}
    )
    assert listed.json()["tags"] == [tag(number) for number in range(TAGS)]
    walked = drive([walk(server, entries=TAGS)], tree=server.processes, cores=FREE)
    assert walked.errors == 0
    assert walked.requests > TAGS // 50 + 1
    missed = drive([walk(server, entries=TAGS + 1)], tree=server.processes, cores=FREE)
    assert missed.errors == 2
    assert f"had {TAGS} entries, not {TAGS + 1}" in missed.complaints[0]


def test_who_may_not_push_is_an_error(server: Server) -> None:
    """A refused tag is counted, and its reason told."""
    outcome = drive([put(server, authorization=None)], tree=server.processes, cores=FREE)
    assert outcome.requests == 0
    assert outcome.errors > 0
    assert "401" in outcome.complaints[0]


def test_every_listing_is_walked(tmp_path: Path) -> None:
    """Each case runs without an error, against docker-registry too where it takes part."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    brief: list[Case] = [
        replace(case, tags=min(case.tags, 200), images=min(case.images, 3), seconds=0.2)
        for case in cases(Scale.QUICK)
        if isinstance(case, Listing)
    ]
    report = run(Plan(brief, contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert {(each.case, each.contender) for each in report.measurements} == {
        ("tags-list-short", "sluice"),
        ("tags-list-long", "sluice"),
        ("catalog-long", "sluice"),
        *(("tags-list-short", each.name) for each in contenders),
    }
    for each in report.measurements:
        assert each.errors == 0, each
        assert each.requests > 0, each
