"""Tests of several addresses and credentials: which is asked, and when the next one."""

from functools import partial

import pytest
import trio

from gateway.oci.names import Tag
from gateway.upstream import naming
from gateway.upstream.asking import Question
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamFailed,
    UpstreamSlow,
    UpstreamUnknown,
)
from gateway.upstream.http import Credential
from storage import Source, Span, Unavailable
from tests.gateway.upstream.known import APP, Known, Maker, digest_of
from tests.upstream.login import Basic, Bearer
from tests.upstream.registry import Budget
from tests.upstream.script import Busy, Fault, Says, Seen, Stall, When, on
from tests.upstream.scripted import ScriptedUpstream

ALICE = Credential("alice", "one")
BOB = Credential("bob", "two")
LATEST = Question("GET", APP, partial(naming.manifest_path, reference=Tag("latest")), limit_bytes=4096, counted=True)


async def read(source: Source) -> bytes:
    """The first seven bytes of a blob."""
    async with source.read(Span(0, 7)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def status(known: Known, question: Question = LATEST) -> int:
    """What the first address that answers says."""
    return (await known.questions.in_turn(partial(known.questions.ask, question))).status


def by(user: Credential) -> When:
    """The manifests that this user asks for."""

    def asks(seen: Seen) -> bool:
        return seen.kind == "manifests" and seen.header("authorization") == user.basic

    return asks


@pytest.fixture
def accounts(upstream: ScriptedUpstream) -> ScriptedUpstream:
    """An upstream that knows Alice and Bob."""
    upstream.registry.auth = Basic({"alice": "one", "bob": "two"})
    return upstream


@pytest.mark.parametrize("fault", [Says(500), Says(504), Busy(30), pytest.param(Stall(), marks=pytest.mark.slow)])
async def test_the_next_address_is_asked_when_one_is_in_trouble(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, fault: Fault
) -> None:
    """5xx, silence and 429 of the first address cost nothing but the time to see them."""
    upstream.script(fault)
    assert await status(known(upstream, elsewhere, idle_s=0.5)) == 200
    assert upstream.requests
    assert elsewhere.gets("latest") == 1


async def test_what_an_address_says_plainly_is_believed(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """404 and 403 are answers: the second address is not asked what the first one refuses."""
    made = known(upstream, elsewhere)
    del upstream.shelf.tags[APP]["latest"]
    with pytest.raises(UpstreamUnknown):
        await status(made)
    upstream.script(Says(403))
    with pytest.raises(UpstreamDenied):
        await status(made)
    assert not elsewhere.requests


async def test_row_p6_an_outage_of_the_first_address_is_no_404_because_another_has_less(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """Mirrors are incomplete: what they do not have, or refuse, may exist."""
    upstream.script(Says(503))
    del elsewhere.shelf.tags[APP]["latest"]
    with pytest.raises(UpstreamFailed, match="503"):
        await status(known(upstream, elsewhere))
    elsewhere.script(Says(403))
    with pytest.raises(UpstreamFailed, match="503"):
        await status(known(upstream, elsewhere))


async def test_a_rejected_credential_is_passed_over(known: Maker, accounts: ScriptedUpstream) -> None:
    """One with an old password stops nobody as long as there is another, and is no trouble of the address."""
    made = known(accounts, credentials=[Credential("alice", "old"), BOB])
    assert await status(made) == 200
    alone = known(accounts, credentials=[Credential("alice", "old")])
    for _ in range(6):
        with pytest.raises(CredentialsRejected):
            await status(alone)
    assert not alone.registry.is_troubled()


async def test_if_all_addresses_fail_the_first_says_why(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """It is the one that people have configured first."""
    upstream.script(Says(504))
    elsewhere.script(Says(500))
    with pytest.raises(UpstreamSlow):
        await status(known(upstream, elsewhere))


async def test_a_dead_address_is_skipped_without_delay_once_it_is_known(
    known: Maker, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """Its breaker is its own; the other address serves."""
    upstream.script(Says(503))
    made = known(upstream, elsewhere)
    for _ in range(8):
        assert await status(made) == 200
    assert len(upstream.requests) == 5
    assert not made.registry.is_troubled()


async def test_a_trouble_tells_when_to_come_again(known: Maker, upstream: ScriptedUpstream) -> None:
    """What the upstream says in Retry-After goes to the client."""
    upstream.script(Says(503, fields=(("Retry-After", "7"),)))
    with pytest.raises(UpstreamFailed) as caught:
        await status(known(upstream))
    assert caught.value.retry_after_s == 7


async def test_the_credential_with_most_left_is_used(known: Maker, accounts: ScriptedUpstream) -> None:
    """So that several last longer than one."""
    made = known(accounts, credentials=[ALICE, BOB])
    for budget, left in zip(made.endpoints[0].budgets, ("5", "50"), strict=True):
        budget.heard([("ratelimit-remaining", left)])
    assert await status(made) == 200
    assert accounts.seen(by(BOB))
    assert not accounts.seen(by(ALICE))


async def test_after_a_429_the_next_credential_is_used(known: Maker, accounts: ScriptedUpstream) -> None:
    """The client notices nothing, and the first one rests as long as the upstream said."""
    accounts.script(Busy(60), by(ALICE))
    made = known(accounts, credentials=[ALICE, BOB])
    assert await status(made) == 200
    assert await status(made) == 200
    assert len(accounts.seen(by(ALICE))) == 1
    made.clock.now += 61
    accounts.heal()
    made.endpoints[0].budgets[1].refused([("retry-after", "60")])
    assert await status(made) == 200
    assert len(accounts.seen(by(ALICE))) == 2


async def test_when_all_credentials_are_refused_it_is_busy_and_nothing_more_is_asked(
    known: Maker, accounts: ScriptedUpstream
) -> None:
    """A storm of 429 ends at us, and clients are told when to come again."""
    accounts.script(Busy(60))
    made = known(accounts, credentials=[ALICE, BOB])
    with pytest.raises(UpstreamBusy) as caught:
        await status(made)
    assert caught.value.retry_after_s == 60
    asked = len(accounts.requests)
    made.clock.now += 20
    with pytest.raises(UpstreamBusy) as caught:
        await status(made)
    assert caught.value.retry_after_s == 40
    assert len(accounts.requests) == asked


async def test_a_spent_budget_is_looked_at_again_for_free(known: Maker, upstream: ScriptedUpstream) -> None:
    """After a minute one HEAD tells whether there is more by now; until then nothing at all is asked."""
    upstream.registry.budget = Budget(limit=100, remaining=1)
    made = known(upstream)
    assert await status(made) == 200
    with pytest.raises(UpstreamBusy):
        await status(made)
    assert len(upstream.seen(on("manifests"))) == 1
    made.clock.now += 61
    with pytest.raises(UpstreamBusy):
        await status(made)
    upstream.registry.budget.remaining = 5
    made.clock.now += 61
    assert await status(made) == 200
    assert [seen.method for seen in upstream.seen(on("manifests"))] == ["GET", "HEAD", "HEAD", "GET"]


async def test_many_at_once_do_not_spend_more_than_there_is(known: Maker, upstream: ScriptedUpstream) -> None:
    """What is under way counts as spent, so the reserve is left untouched."""
    upstream.registry.budget = Budget(limit=100, remaining=6)
    made = known(upstream)
    question = Question("GET", APP, LATEST.path, limit_bytes=4096, counted=True, reserve=2)
    assert await status(made, question) == 200
    outcomes: list[bool] = []

    async def ask() -> None:
        try:
            outcomes.append(await status(made, question) == 200)
        except UpstreamBusy:
            outcomes.append(False)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert sum(outcomes) == 3
    assert upstream.registry.budget.remaining == 2


async def test_blobs_are_asked_for_while_manifests_have_to_wait(known: Maker, upstream: ScriptedUpstream) -> None:
    """Who has got a manifest gets its layers, whatever was said about manifests since."""
    made = known(upstream)
    made.endpoints[0].budgets[0].refused([("retry-after", "60")])
    digest = upstream.shelf.put_blob(APP, b"content")
    path = f"/v2/{APP}/blobs/{digest}"
    question = Question("GET", APP, lambda _name: path, is_of_blob=True)
    async with made.questions.stream(question, made.endpoints[0]) as response:
        assert await response.read(100) == b"content"


async def test_blobs_wait_for_what_was_said_of_blobs(known: Maker, upstream: ScriptedUpstream) -> None:
    """A 429 to a blob that names a time ends questions for blobs, and for manifests too, until then."""
    digest = upstream.shelf.put_blob(APP, b"content")
    upstream.script(Busy(60), on("blobs"), times=1)
    made = known(upstream)
    blob = made.registry.blob(APP, digest_of(digest), 7)
    for wait_s in (60, 40):
        with pytest.raises(Unavailable) as caught:
            await read(blob)
        assert isinstance(caught.value.__cause__, UpstreamBusy)
        assert caught.value.__cause__.retry_after_s == wait_s
        made.clock.now += 20
    for ask in (lambda: made.registry.blob_size(APP, digest_of(digest)), lambda: status(made)):
        with pytest.raises(UpstreamBusy):
            await ask()
    assert len(upstream.requests) == 1
    made.clock.now += 20
    assert await read(blob) == b"content"
    assert await status(made) == 200


async def test_blobs_do_not_wait_for_a_time_that_nobody_named(known: Maker, upstream: ScriptedUpstream) -> None:
    """Who gives too many bodies at once says 429 to some; the others are not kept waiting by a guess of ours."""
    digest = upstream.shelf.put_blob(APP, b"content")
    upstream.script(Busy(None), on("blobs"), times=1)
    blob = known(upstream).registry.blob(APP, digest_of(digest), 7)
    with pytest.raises(Unavailable):
        await read(blob)
    assert await read(blob) == b"content"


async def test_one_credential_waits_with_its_blobs_and_the_next_is_used(
    known: Maker, accounts: ScriptedUpstream
) -> None:
    """The client gets its blob, and whoever comes next does not ask with the first one either."""
    digest = accounts.shelf.put_blob(APP, b"content")
    accounts.script(Busy(60), lambda seen: seen.kind == "blobs" and seen.header("authorization") == ALICE.basic)
    blob = known(accounts, credentials=[ALICE, BOB]).registry.blob(APP, digest_of(digest), 7)
    for _ in range(2):
        assert await read(blob) == b"content"
    assert [seen.status for seen in accounts.seen(on("blobs"))] == [429, 200, 200]


async def test_row_p6_logins_are_shared_by_all_questions(known: Maker, upstream: ScriptedUpstream) -> None:
    """One login per token and image, however many ask and whatever they ask for."""
    auth = upstream.registry.auth = Bearer({"alice": "one"})
    digest = upstream.shelf.put_blob(APP, b"content")
    registry = known(upstream, credentials=[ALICE]).registry
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(registry.manifest, APP, Tag("latest"))
    await registry.tags(APP)
    await registry.blob_size(APP, digest_of(digest))
    assert [login.user for login in auth.logins] == ["alice"]
