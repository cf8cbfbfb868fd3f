"""Pulling through: asked once for all who ask, over processes too; what is unknown, and to whom."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest
import trio

from gateway.oci.errors import Code
from gateway.oci.names import Tag
from gateway.repositories.furnishing import Furnishing, Hands, furnish
from gateway.repositories.pulling import Means, Pulling
from gateway.upstream.errors import UpstreamDenied
from gateway.upstream.http import Credential
from gateway.upstream.settings import UpstreamSettings
from storage import Digest, RepositoryRecord, Transaction
from storage.metadata import members
from storage.metadata.members import NewMember
from tests.gateway.repositories.mirror import Mirror, asked, mirror
from tests.gateway.repositories.shelf import Holder, refused
from tests.served import sha256
from tests.storage.metadata import samples
from tests.upstream.login import Bearer
from tests.upstream.script import Says, Stall, on
from tests.upstream.scripted import ScriptedUpstream


async def test_fifty_cold_pulls_are_one(through: Mirror, upstream: ScriptedUpstream) -> None:
    """P7: fifty pulls of a cold tag at once cost one HEAD and one counted GET, also when the first leaves."""
    image = upstream.shelf.image("app", "latest", b"layer")
    record = await through.make()
    stalled = upstream.script(Stall(), on("manifests", method="HEAD"))
    found: list[str] = []

    async def pull() -> None:
        found.append(await through.digest(record, "app", "latest"))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(_cancelled_by, first, pull)
        for _ in range(50):
            nursery.start_soon(pull)
        while not stalled.hits:  # noqa: ASYNC110 - a thread counts them
            await trio.sleep(0.01)
        first.cancel()
        upstream.heal()

    assert found == [image.digest] * len(found)
    assert len(found) >= 50
    assert asked(upstream) == ["HEAD manifests latest", f"GET manifests {image.digest}"]


async def _cancelled_by(scope: trio.CancelScope, pull: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await pull()


async def test_two_workers_ask_once(anywhere: Mirror, upstream: ScriptedUpstream) -> None:
    """Two processes over one database that pull 20 cold tags at once make 20 counted pulls."""
    made = [upstream.shelf.image("app", f"v{number}", b"%d" % number) for number in range(20)]
    record = await anywhere.make()
    found: list[str] = []

    async def pull(worker: Mirror, number: int) -> None:
        found.append(await worker.digest(record, "app", f"v{number}"))

    scene, root = anywhere.scene, anywhere.docked.root
    async with mirror(scene, upstream, root) as second, trio.open_nursery() as nursery:
        for number in range(20):
            for worker in (anywhere, second):
                nursery.start_soon(pull, worker, number)

    assert sorted(found) == sorted(2 * [each.digest for each in made])
    assert upstream.registry.counted_pulls == 20


async def test_what_is_unknown_is_not_asked_for_again_at_once(through: Mirror, upstream: ScriptedUpstream) -> None:
    """A "not found" is believed for `negative_ttl_s`, for tags, digests and blobs; then it is asked again."""
    clock, record = through.scene.clock, await through.make(negative_ttl_s=30)
    image = upstream.shelf.image("app", None, b"layer")
    absent = Digest.of(b"absent")

    for _ in range(2):
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", "latest"))
        await refused(Code.MANIFEST_UNKNOWN, through.manifest(record, "app", absent))
        await refused(Code.BLOB_UNKNOWN, through.find(record, "app", sha256(b"no")))
        clock.advance(29)
    assert len(asked(upstream)) == 3
    upstream.shelf.tags.setdefault("app", {})["latest"] = image.digest
    clock.advance(1)

    assert await through.digest(record, "app", "latest") == image.digest


async def test_what_one_repository_is_denied_another_may_have(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Security row A5 of caches: 401 and 403 are 404 for this repository alone; a copy elsewhere is not given away."""
    upstream.registry.auth = Bearer({"user": "pw"})
    image = upstream.shelf.image("secret/app", "latest", b"layer")
    allowed = await through.make(credentials=[Credential("user", "pw")])
    stranger = await through.make()

    await refused(Code.MANIFEST_UNKNOWN, through.manifest(stranger, "secret/app", "latest"))
    assert await through.digest(allowed, "secret/app", "latest") == image.digest
    for digest in image.blobs:
        assert await through.blob(allowed, "secret/app", digest)
    await through.idle()

    await refused(Code.MANIFEST_UNKNOWN, through.manifest(stranger, "secret/app", image.digest))
    for digest in image.blobs:
        await refused(Code.BLOB_UNKNOWN, through.find(stranger, "secret/app", digest))


@pytest.mark.parametrize(("kind", "when_denied"), [("proxy", "failure"), ("hosted", "failure"), ("proxy", "unknown")])
async def test_p10_a_denied_name_is_nobody_elses_where_the_settings_say_so(
    through: Mirror, upstream: ScriptedUpstream, kind: str, when_denied: str
) -> None:
    """Row P10: the next member of a view answers for a name that was never pulled only if "denied" may be "unknown".

    Most registries say it of what they do not have, so by default it does; what is not there is looked for behind it.
    """
    private = await through.make(kind, when_denied=when_denied, negative_ttl_s=30)
    public = await through.make()
    image = upstream.shelf.image("app", "latest", b"anybody's")
    denied = upstream.script(Says(403), on("manifests"), times=1)

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, "common/all", repository_type="virtual")
        members.put(tx, record.id, [NewMember(private.id), NewMember(public.id)])
        return record

    view = await through.scene.database.transaction(make)
    caller = Holder(reads=frozenset({private.id, public.id}))

    async def pull() -> str:
        return str((await through.at(view, caller).manifest("app", Tag("latest"))).document.digest)

    if when_denied == "unknown":
        assert await pull() == image.digest
    else:
        for _ in range(2):  # the second time it is remembered
            assert (await refused(Code.UNAVAILABLE, pull())).status == 503
            with pytest.raises(UpstreamDenied):
                await through.manifest(private, "app", "latest")
        through.scene.clock.advance(30)
        assert await pull() == image.digest
        assert (await through.digest(private, "app", "latest")) == image.digest
        await refused(Code.MANIFEST_UNKNOWN, through.at(view, caller).manifest("app", Tag("absent")))
    assert denied.hits == 1


async def test_new_credentials_end_what_every_process_remembers(anywhere: Mirror, upstream: ScriptedUpstream) -> None:
    """A "not found" was told to somebody else: with the row of the next request no process believes it any more."""
    upstream.registry.auth = Bearer({"user": "pw"})
    image = upstream.shelf.image("app", "latest", b"layer")
    record, scene = await anywhere.make(negative_ttl_s=3600), anywhere.scene
    wanted = Furnishing(credentials=[Credential("user", "pw")])

    async with mirror(scene, upstream, anywhere.docked.root) as second:
        for worker in (anywhere, second):
            await refused(Code.MANIFEST_UNKNOWN, worker.manifest(record, "app", "latest"))
        entered = await scene.database.transaction(_enter, record, wanted)
        for worker in (anywhere, second):
            assert await worker.digest(entered, "app", "latest") == image.digest


def _enter(tx: Transaction, record: RepositoryRecord, wanted: Furnishing) -> RepositoryRecord:
    """Change the repository as the API does, with credentials sealed as mirrors open them."""

    def seal(credential: Credential, _repository_id: int, _position: int) -> bytes:
        return json.dumps([credential.username, credential.secret]).encode()

    hands = Hands(seal, admit=lambda _field: None, find_member=lambda _tx, _name: None)
    return furnish(tx, record, wanted, hands=hands, now=1)


async def test_what_is_remembered_by_settings_does_not_hold_them(through: Mirror) -> None:
    """They may have 60 KiB, of certificates and patterns, and fifty thousand unknown names are remembered by them."""
    record = await through.make()
    places = [record, replace(record, settings="x" * 60_000), replace(record, id=record.id + 1)]
    settings = UpstreamSettings((through.upstream.url,))

    keys = [Pulling(each, settings, cast("Means", None), keeps_tags=False).key("a", "b", "c") for each in places]

    assert len(set(keys)) == len(places)
    assert all(len(repr(key)) < 300 for key in keys)
