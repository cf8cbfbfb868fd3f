"""Tests of from a repository's row to its upstream, with rows in a database and upstreams on sockets."""

import gc
import hashlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing

from gateway.oci.names import Tag
from gateway.upstream import opening
from gateway.upstream.errors import CredentialsRejected, UpstreamBusy, UpstreamError
from gateway.upstream.http import Address, Credential
from gateway.upstream.opening import Upstreams
from gateway.upstream.registry import UpstreamRegistry
from gateway.upstream.settings import UpstreamSettings
from storage import Database, RepositoryRecord, Transaction, Unavailable
from storage.metadata import upstreams as rows
from storage.records import BudgetRecord
from tests.gateway.upstream.known import APP, Clock
from tests.gateway.upstream.reaching import LOOPBACK
from tests.storage.metadata import samples
from tests.upstream.login import Basic, Bearer
from tests.upstream.registry import Budget
from tests.upstream.script import Says
from tests.upstream.scripted import ScriptedUpstream

LATEST = Tag("latest")


def unseal(sealed: bytes, repository_id: int, position: int) -> Credential:
    """What `seal` made, for this place only."""
    place, username, secret = json.loads(sealed)
    assert place == [repository_id, position]
    return Credential(username, secret, fingerprint=hashlib.sha256(f"{username}:{secret}".encode()).hexdigest())


def seal(record: RepositoryRecord, *users: tuple[str, str]) -> list[bytes]:
    """Credentials for the rows of the repository; readable, for a test."""
    return [json.dumps([[record.id, place], *user]).encode() for place, user in enumerate(users)]


@pytest.fixture
def clock() -> Clock:
    """Unix seconds."""
    return Clock()


@pytest.fixture
async def upstreams(database: Database, clock: Clock) -> AsyncIterator[Upstreams]:
    """Those of a process."""
    async with Upstreams.open(database, unseal, clock=clock) as opened:
        yield opened


async def proxy(
    database: Database, upstream: ScriptedUpstream, *users: tuple[str, str], name: str = "common/hub", **settings: Any
) -> RepositoryRecord:
    """A repository whose settings name the upstream."""
    known = UpstreamSettings(**{"urls": (upstream.url,), "private_networks": LOOPBACK, **settings})
    text = f'{{"upstream":{known.to_json()}}}'

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, name, repository_type="proxy", settings=text)
        rows.put_credentials(tx, record.id, seal(record, *users))
        return record

    return await database.transaction(make)


async def kept(database: Database) -> list[BudgetRecord]:
    """All budgets in rows."""
    return await database.read(rows.budgets, "")


@pytest.mark.slow
async def test_a_repository_reaches_the_upstream_of_its_settings(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream
) -> None:
    """With the credentials of its rows, opened for their place."""
    upstream.registry.auth = Basic({"alice": "one"})
    registry = await upstreams.of(await proxy(database, upstream, ("alice", "one")))
    assert (await registry.manifest(APP, LATEST)).content
    (budget,) = registry.status().budgets
    assert (budget.url, budget.account) == (upstream.url, "alice")


async def test_a_repository_without_an_upstream_has_none(upstreams: Upstreams, database: Database) -> None:
    """It is a mistake of the caller to ask."""
    record = await database.transaction(lambda tx: samples.repository(tx, "common/hosted"))
    with pytest.raises(LookupError, match="common/hosted"):
        await upstreams.of(record)


async def test_it_stays_the_same_until_settings_or_credentials_change(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream
) -> None:
    """So tokens, connections and troubles are kept, and no old password is used."""
    record = await proxy(database, upstream, ("alice", "one"))
    first = await upstreams.of(record)
    assert await upstreams.of(record) is first
    await database.transaction(rows.put_credentials, record.id, seal(record, ("alice", "two")))
    second = await upstreams.of(record)
    assert second is not first
    document = {"upstream": {**json.loads(record.settings)["upstream"], "cache_ttl_s": 7}}
    third = await upstreams.of(replace(record, settings=json.dumps(document)))
    assert third is not second
    assert third.settings.cache_ttl_s == 7


async def test_tokens_are_not_shared_between_repositories(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream
) -> None:
    """The same user in two repositories logs in for each."""
    auth = upstream.registry.auth = Bearer({"alice": "one"})
    for name in ("common/a", "common/b"):
        registry = await upstreams.of(await proxy(database, upstream, ("alice", "one"), name=name))
        await registry.manifest(APP, LATEST)
        await registry.manifest(APP, LATEST)
    assert len(auth.logins) == 2


async def test_the_budget_of_a_user_is_shared_by_all_repositories(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream
) -> None:
    """The upstream counts the user, whichever repository asks; other users have their own."""
    upstream.registry.auth = Basic({"alice": "one", "bob": "two"})
    upstream.registry.budget = Budget(limit=100, remaining=1)
    first = await upstreams.of(await proxy(database, upstream, ("alice", "one"), name="common/a", budget_reserve=0))
    second = await upstreams.of(await proxy(database, upstream, ("alice", "one"), name="common/b", budget_reserve=0))
    other = await upstreams.of(await proxy(database, upstream, ("bob", "two"), name="common/c"))
    await first.manifest(APP, LATEST)
    with pytest.raises(UpstreamBusy):
        await second.manifest(APP, LATEST)
    assert upstream.registry.counted_pulls == 1
    assert other.status().budgets[0].remaining is None
    left = {(budget.account, budget.remaining) for budget in upstreams.budgets()}
    assert left == {("alice", 0), ("bob", None)}


@pytest.mark.parametrize("auth", [Basic({"alice": "one"}), Bearer({"alice": "one"})], ids=["basic", "bearer"])
async def test_whoever_knows_a_name_only_has_no_part_in_its_budget(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream, clock: Clock, auth: Basic | Bearer
) -> None:
    """With a wrong password neither is what is left told, nor does a 429 to the stranger stop the account's owner."""
    upstream.registry.auth = auth
    upstream.registry.budget = Budget(limit=100, remaining=50)
    owner = await upstreams.of(await proxy(database, upstream, ("alice", "one"), name="common/a"))
    await owner.manifest(APP, LATEST)
    stranger = await upstreams.of(await proxy(database, upstream, ("alice", "guess"), name="other/a"))
    with pytest.raises(CredentialsRejected):
        await stranger.manifest(APP, LATEST)
    upstream.script(Says(429, fields=(("Retry-After", "3600"),)))
    with pytest.raises(UpstreamError):
        await stranger.head(APP, LATEST)
    upstream.heal()
    (told,) = stranger.status().budgets
    assert (told.account, told.remaining, told.allowed) == ("alice", None, None)
    assert (await owner.manifest(APP, LATEST)).content
    assert [budget.remaining for budget in owner.status().budgets] == [48]
    async with Upstreams.open(database, unseal, clock=clock) as elsewhere:
        again = await elsewhere.of(await proxy(database, upstream, ("alice", "guess"), name="other/b"))
        assert [budget.remaining for budget in again.status().budgets] == [None]


async def test_budgets_survive_the_process(database: Database, upstream: ScriptedUpstream, clock: Clock) -> None:
    """What was heard last is written at the end at the latest, and read at the start."""
    upstream.registry.budget = Budget(limit=100, remaining=12)
    record = await proxy(database, upstream)
    async with Upstreams.open(database, unseal, clock=clock) as before:
        await (await before.of(record)).manifest(APP, LATEST)
    (row,) = await kept(database)
    assert (row.name, row.allowed, row.remaining) == (f"{upstream.url}/", 100, 11)
    async with Upstreams.open(database, unseal, clock=clock) as after:
        (budget,) = (await after.of(record)).status().budgets
    assert (budget.allowed, budget.remaining, budget.window_s) == (100, 11, 21_600)
    assert (budget.account, budget.observed_at) == (None, int(clock.now))


async def test_a_429_survives_the_process(database: Database, upstream: ScriptedUpstream, clock: Clock) -> None:
    """A restart is no reason to ask again."""
    record = await proxy(database, upstream)
    upstream.registry.budget = Budget(limit=100, remaining=0)
    async with Upstreams.open(database, unseal, clock=clock) as before:
        registry = await before.of(record)
        with pytest.raises(UpstreamBusy):
            await registry.manifest(APP, LATEST)
    asked = len(upstream.requests)
    async with Upstreams.open(database, unseal, clock=clock) as after:
        registry = await after.of(record)
        with pytest.raises(UpstreamBusy):
            await registry.head(APP, LATEST)
    assert len(upstream.requests) == asked


class Writes:
    """A database as it is, but for what a test wants of its writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.times: list[float] = []
        self.tried = trio.Event()
        self.error: Exception | None = None

    async def read(self, *args: Any) -> Any:
        """See `Database`."""
        return await self._database.read(*args)

    async def transaction(self, *args: Any) -> Any:
        """See `Database`; fails with `error` if there is one."""
        self.times.append(trio.current_time())
        self.tried.set()
        if self.error is not None:
            raise self.error
        return await self._database.transaction(*args)


async def test_a_budget_is_written_no_more_than_once_a_second(
    database: Database, upstream: ScriptedUpstream, clock: Clock
) -> None:
    """However many pulls there are; the last state is the one that stays."""
    upstream.registry.budget = Budget(limit=100, remaining=50)
    record = await proxy(database, upstream)
    counted: Any = Writes(database)
    began = trio.current_time()
    async with Upstreams.open(counted, unseal, clock=clock) as opened:
        registry = await opened.of(record)
        for _ in range(20):
            await registry.manifest(APP, LATEST)
        seconds = int(trio.current_time() - began)
    assert len(counted.times) <= 1 + seconds + 1
    assert [row.remaining for row in await kept(database)] == [30]


@pytest.mark.parametrize("trouble", [Unavailable("the database is away"), RuntimeError("a defect")], ids=repr)
async def test_a_database_in_trouble_stops_no_pull(
    database: Database, upstream: ScriptedUpstream, clock: Clock, trouble: Exception
) -> None:
    """What could not be written is written when it goes better; not even a defect ends the process for it."""
    upstream.registry.budget = Budget(limit=100, remaining=50)
    record = await proxy(database, upstream)
    troubled: Any = Writes(database)
    async with Upstreams.open(troubled, unseal, clock=clock) as opened:
        troubled.error = trouble
        registry = await opened.of(record)
        await registry.manifest(APP, LATEST)
        with trio.fail_after(10):
            await troubled.tried.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert await kept(database) == []
        troubled.error = None
    assert [row.remaining for row in await kept(database)] == [49]


async def test_trouble_with_rows_is_trouble_and_no_anonymous_pull(
    upstreams: Upstreams, database: Database, upstream: ScriptedUpstream
) -> None:
    """A repository whose credentials cannot be read is not asked for without them."""
    record = await proxy(database, upstream, ("alice", "one"))
    await database.aclose()
    with pytest.raises(Unavailable):
        await upstreams.of(record)
    assert not upstream.requests


@pytest.mark.slow
async def test_only_so_many_are_kept_and_the_others_closed(
    database: Database, upstream: ScriptedUpstream, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is still in use goes on; its connections end when nobody can ask it any more."""
    monkeypatch.setattr(opening, "MAX_REGISTRIES", 1)
    records = [await proxy(database, upstream, name=f"common/r{number}") for number in range(2)]
    async with Upstreams.open(database, unseal, clock=clock) as opened:
        first = await opened.of(records[0])
        await first.manifest(APP, LATEST)
        await opened.of(records[1])
        assert (await first.manifest(APP, LATEST)).content
        assert await opened.of(records[0]) is not first
        http = first._questions.http
        del first
        gc.collect()
        await opened.of(records[1])
        with pytest.raises(trio.ClosedResourceError):
            async with http.stream(Address(upstream.url, "/v2/"), scope=""):
                pass


@pytest.mark.slow
async def test_what_somebody_still_holds_is_closed_at_the_end(
    database: Database, upstream: ScriptedUpstream, clock: Clock
) -> None:
    """An upstream whose settings changed may live on in the traceback of an error; its connections do not."""
    record = await proxy(database, upstream)
    async with Upstreams.open(database, unseal, clock=clock) as opened:
        first = await opened.of(record)
        await first.manifest(APP, LATEST)
        changed = replace(record, settings=record.settings.replace("{", '{"other":1,', 1))
        assert await opened.of(changed) is not first
    with pytest.raises(trio.ClosedResourceError):
        async with first._questions.http.stream(Address(upstream.url, "/v2/"), scope=""):
            pass


async def test_credentials_that_do_not_open(database: Database, clock: Clock) -> None:
    """Without the key that sealed them an upstream is in trouble, which copies outlast; it is not our storage."""

    def sealed_elsewhere(_sealed: bytes, _repository_id: int, _position: int) -> Credential:
        raise Unavailable("sealed with another secret key: enter it again")

    with ScriptedUpstream() as upstream:
        record = await proxy(database, upstream, ("user", "pw"))
        async with Upstreams.open(database, sealed_elsewhere, clock=clock) as opened:
            with pytest.raises(CredentialsRejected, match="enter it again"):
                await opened.of(record)


async def test_names_that_never_resolve_stop_nobody_else(
    database: Database, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many look-ups one upstream's name servers keep waiting, others are asked at once."""
    is_over, look_up = threading.Event(), socket.getaddrinfo

    def tarpit(host: str, *args: Any, **kwargs: Any) -> Any:
        if host == "tarpit.test":
            is_over.wait(60)
            raise OSError("no answer")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", tarpit)

    async def ask(registry: UpstreamRegistry) -> None:
        with pytest.raises(UpstreamError):
            await registry.manifest(APP, LATEST)

    with ScriptedUpstream() as upstream:
        image = upstream.shelf.image(APP, "latest", b"layer")
        slow = await proxy(database, upstream, name="common/slow", urls=("http://tarpit.test",), connect_s=0.2)
        well = await proxy(database, upstream, name="common/well")
        registry = await upstreams.of(slow)
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask, registry)
            with trio.fail_after(20):
                found = await (await upstreams.of(well)).manifest(APP, LATEST)
        finally:
            is_over.set()
    assert str(found.digest) == image.digest
