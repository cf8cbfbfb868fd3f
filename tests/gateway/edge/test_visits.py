"""Visits: an id for every request, in its events and its answer; and what the edge reads off a request."""

from collections.abc import Iterator
from typing import Any, Never

import pytest
import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.datastructures import Headers

from gateway.config import Server
from gateway.edge import failures, streams, visits
from gateway.edge.address import AddressRules, External, UnknownHost
from gateway.edge.call import Visit
from gateway.edge.doors import doorway
from gateway.logs import get_logger
from storage import AddressKind, Database, Door, Transaction
from storage.metadata import addresses
from tests.gateway.edge.visitors import HERE, Answer, ask
from tests.storage.metadata import samples


@pytest.fixture
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged, with what the context adds."""
    before = structlog.get_config()
    captured = structlog.testing.LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, captured])
    yield captured.entries
    structlog.configure(**before)


class _Unreadable:
    """A source that fails when it is opened, with an error that is logged."""

    async def __aenter__(self) -> Never:
        raise KeyError("x")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")


class Scene:
    """An application behind rules; `/` notes the visit, `/twice` waits for a second request, `/broken` fails."""

    def __init__(self, database: Database, **server: Any) -> None:
        self.seen: list[Visit] = []
        self.entered = trio.Event()
        self.leave = trio.Event()
        self.noted = trio.Event()
        self.app = QuartTrio("visited", static_folder=None)
        streams.install(self.app)
        visits.install(self.app)
        failures.install(self.app)
        made = visits.Visits(AddressRules.of(Server(**server)), database)

        @self.app.get("/")
        async def index() -> str:
            self.seen.append(await made.of(request, doorway(request)))
            get_logger("m").info("seen")
            self.noted.set()
            return "ok"

        @self.app.get("/twice")
        async def twice() -> str:
            self.entered.set()
            await self.leave.wait()
            get_logger("m").info("left")
            return "ok"

        @self.app.get("/streamed")
        async def streamed() -> Response:
            return streams.blob_response(_Unreadable(), size_bytes=1, content_type="a/b")

        @self.app.get("/broken")
        async def broken() -> str:
            raise KeyError("x")


async def visit_with(database: Database, headers: dict[str, str], **server: Any) -> Visit:
    """What is known of a request with these headers."""
    scene = Scene(database, **server)
    assert (await ask(scene.app, "/", headers=headers)).status == 200
    return scene.seen[0]


async def test_a_visit_is_what_the_request_says(database: Database) -> None:
    """Address, host and user agent; without credentials there is no Authorization."""
    seen = await visit_with(database, {"User-Agent": "docker/26.1"})

    assert (seen.authorization, seen.external, seen.client) == ((), HERE, "192.0.2.7")
    assert (seen.user_agent, seen.realm()) == ("docker/26.1", "http://registry.test:8080/v2/token")


async def test_authorization_is_kept_as_it_came(database: Database) -> None:
    """The guard decides about it; bytes beyond ASCII come as Latin-1."""
    assert (await visit_with(database, {"Authorization": "Basic \xe4 "})).authorization == ("Basic \xe4 ",)
    assert (await visit_with(database, {"Authorization": ""})).authorization == ("",)


async def test_every_authorization_header_is_seen(database: Database) -> None:
    """Two headers are two, not joined and not the first: whoever sends two must not be taken for one of them."""
    scene = Scene(database)
    async with scene.app.test_request_context("/", headers=Headers([("Authorization", "a"), ("Authorization", "b")])):
        seen = await visits.Visits(AddressRules(), database).of(request)

    assert seen.authorization == ("a", "b")


async def test_a_long_user_agent_is_cut(database: Database) -> None:
    """It is compared and noted, and whoever writes a novel there costs no more than others."""
    assert (await visit_with(database, {"User-Agent": "x" * 5000})).user_agent == "x" * 256
    assert (await visit_with(database, {})).user_agent == ""


async def test_the_address_follows_the_rules(database: Database) -> None:
    """CH-12: a trusted proxy's word counts for host, scheme and client; a configured URL for host and scheme."""
    headers = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "hub.example"}

    believed = await visit_with(database, headers, trusted_proxies=("192.0.2.0/24",))
    stranger = await visit_with(database, headers)
    configured = await visit_with(database, headers, external_url="https://registry.example/hub")

    assert (believed.external, believed.client) == (External("https", "hub.example"), "198.51.100.9")
    assert (stranger.external, stranger.client) == (HERE, "192.0.2.7")
    assert configured.realm() == "https://registry.example/hub/v2/token"


@pytest.mark.parametrize(("host", "status"), [("a b", 400), ("other.example", 421)])
async def test_a_host_that_is_none_of_ours(host: str, status: int, database: Database) -> None:
    """It is refused by the table of failures, before any handler decides anything."""
    scene = Scene(database, server_names=("registry.test",))

    answer = await ask(scene.app, "/", headers={"Host": host})

    assert (answer.status, answer.codes, scene.seen) == (status, ["NAME_INVALID"], [])


async def own(database: Database, kind: AddressKind, host: str) -> None:
    """Give a repository that host."""

    def give(tx: Transaction) -> None:
        addresses.put(tx, samples.repository(tx, "common/hub").id, kind, [host])

    await database.transaction(give)


@pytest.mark.parametrize("kind", [AddressKind.HOST, AddressKind.CATCH_ALL])
async def test_ch_12_a_repository_s_host_is_one_of_ours(database: Database, kind: AddressKind) -> None:
    """It is in no list of the configuration, and told as the client used it, whatever URL is configured."""
    await own(database, kind, "docker.example:8443")

    listed = await visit_with(database, {"Host": "Docker.example:8443"}, server_names=("registry.test",))
    configured = await visit_with(
        database, {"Host": "docker.example:8443"}, external_url="https://registry.example/hub"
    )

    assert listed.external == External("http", "docker.example:8443")
    assert configured.external == External("https", "docker.example:8443")
    assert listed.door == configured.door == Door(host="docker.example:8443")


@pytest.mark.parametrize("host", ["docker.example", "docker.example:8444", "ghcr.io", "evil.example"])
async def test_t6_a_host_that_no_repository_has_is_not_ours(database: Database, host: str) -> None:
    """421 where there is an allow-list; else the configured URL is told. A namespace is no host of ours."""
    await own(database, AddressKind.HOST, "docker.example:8443")
    await database.transaction(
        lambda tx: addresses.put(tx, samples.repository(tx, "common/ghcr").id, AddressKind.NAMESPACE, ["ghcr.io"])
    )
    scene = Scene(database, server_names=("registry.test",))

    answer = await ask(scene.app, "/", headers={"Host": host})
    configured = await visit_with(database, {"Host": host}, external_url="https://registry.example")

    assert (answer.status, answer.codes) == (421, ["NAME_INVALID"])
    assert configured.external == External("https", "registry.example")


async def test_whether_a_process_lives_does_not_hang_on_rows(database: Database) -> None:
    """Outside the registry API hosts of repositories are nothing special, and nobody looks them up."""
    await own(database, AddressKind.HOST, "docker.example")
    rules = AddressRules.of(Server(server_names=("registry.test",)))
    await database.aclose()
    scene = Scene(database)

    async with scene.app.test_request_context("/health", headers=Headers([("Host", "registry.test")])):
        assert (await visits.Visits(rules, database).of(request)).external.host == "registry.test"
    async with scene.app.test_request_context("/health", headers=Headers([("Host", "docker.example")])):
        with pytest.raises(UnknownHost):
            await visits.Visits(rules, database).of(request)


def marks(answer: Answer) -> tuple[str, str]:
    """The id that an answer carries, and what it tells browsers."""
    return answer.headers["x-request-id"], answer.headers["x-content-type-options"]


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/nothing", 404), ("/broken", 500), ("/streamed", 500)])
async def test_every_answer_is_marked(
    events: list[structlog.typing.EventDict], path: str, status: int, database: Database
) -> None:
    """An id of its own and `nosniff`, also on answers that no handler of ours made; its events have the same id."""
    scene = Scene(database)

    answers = [await ask(scene.app, path) for _ in range(2)]

    assert [answer.status for answer in answers] == [status, status]
    ids = [marks(answer)[0] for answer in answers]
    assert len(set(ids)) == 2
    assert all(len(each) == 16 and marks(answer)[1] == "nosniff" for each, answer in zip(ids, answers, strict=True))
    if status != 404:
        assert [event["request_id"] for event in events] == ids


async def test_requests_at_once_keep_their_ids_apart(
    events: list[structlog.typing.EventDict], database: Database
) -> None:
    """A request that another one overtakes goes on logging under its own id, and nothing is left for the next."""
    scene = Scene(database)
    answers: dict[str, Answer] = {}

    async def fetch(path: str) -> None:
        answers[path] = await ask(scene.app, path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fetch, "/twice")
        await scene.entered.wait()
        async with trio.open_nursery() as others:  # noqa: ASYNC112  # a task of its own has a context of its own
            others.start_soon(fetch, "/")
        scene.leave.set()

    logged = {event["event"]: event["request_id"] for event in events}
    assert logged == {"seen": marks(answers["/"])[0], "left": marks(answers["/twice"])[0]}
    assert scene.seen[0].request_id == logged["seen"]
    assert structlog.contextvars.get_contextvars() == {}
