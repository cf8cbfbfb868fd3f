"""Tags are really put, several at a time, and a refusal is told: against a real gateway."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders.contender import Start
from bench.contenders.setup import ask
from bench.contenders.sluice import Sluice, SluiceServer
from bench.drivers.tagging import TAGS_PER_PUT, tag
from bench.jobs import Job
from bench.loads import drive
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())
TAGS = TAGS_PER_PUT + 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SluiceServer]:
    """Ours."""
    running = Sluice().start(Start(tmp_path, FREE))
    assert isinstance(running, SluiceServer)
    yield running
    running.stop()


def put(server: SluiceServer, *, authorization: str | None, several: bool = True) -> Job:
    """Put all tags of `app`."""
    arguments = {"images": [(server.name("app"), TAGS)], "authorization": authorization, "several": several}
    return Job("bench.drivers.tagging", server.endpoint, arguments)


@pytest.mark.parametrize("several", [True, False], ids=["several", "one"])
def test_all_tags_are_put(server: SluiceServer, *, several: bool) -> None:
    """The image has exactly the tags that were asked for, in as few requests as the registry allows."""
    done = drive([put(server, authorization=server.basic(), several=several)], tree=server.processes, cores=FREE)
    assert (done.requests, done.errors) == (2 if several else TAGS, 0)
    headers = {"Authorization": server.basic()}
    listed = ask(server.endpoint, "GET", f"/v2/{server.name('app')}/tags/list", headers=headers)
    assert listed.json()["tags"] == [tag(number) for number in range(TAGS)]


def test_who_may_not_push_is_an_error(server: SluiceServer) -> None:
    """A refused tag is counted, and its reason told."""
    outcome = drive([put(server, authorization=None)], tree=server.processes, cores=FREE)
    assert outcome.requests == 0
    assert outcome.errors > 0
    assert "401" in outcome.complaints[0]
