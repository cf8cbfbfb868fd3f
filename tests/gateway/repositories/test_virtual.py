"""Virtual repositories: order, rights, and what a member in trouble means for the others."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from gateway.oci.errors import Code, RegistryError, unsupported
from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from gateway.repositories.contract import (
    ArrivingBlob,
    Caller,
    FoundManifest,
    ReferrersPage,
    Repository,
    TagPage,
    WritableRepository,
)
from gateway.repositories.hosted import HostedRepository
from gateway.repositories.opening import opener
from gateway.repositories.virtual import VirtualRepository
from gateway.upstream.errors import UpstreamBusy, UpstreamError, UpstreamFailed, UpstreamSlow
from storage import BlobReader, Digest, FoundBlob, RepositoryRecord, Span, Transaction, Unavailable
from storage.metadata import members
from storage.metadata.members import NewMember
from tests.gateway.repositories.shelf import CONFIG, LAYER, NOBODY, Holder, Shelf, refused
from tests.served import image_manifest
from tests.storage.hearing import questions
from tests.storage.metadata import samples
from tests.storage.place import read

T = TypeVar("T")
V1 = Tag("v1")
SKIP = json.dumps({"virtual": {"on_member_failure": "skip"}})


@dataclass
class Scripted:
    """A member that answers every question with one exception, and counts them."""

    record: RepositoryRecord
    error: Exception
    asked: int = 0

    async def manifest(self, image: str, reference: Reference) -> FoundManifest:
        """See `contract.Repository`."""
        raise self._counted()

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `contract.Repository`."""
        raise self._counted()

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `contract.Repository`."""
        raise AssertionError("nothing was found here")

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `contract.Repository`."""
        raise self._counted()

    async def referrers(
        self,
        image: str,
        subject: Digest,
        *,
        artifact_type: str | None,
        after: str,
        limit: int,
        build: Callable[[Iterator[Referrer]], T],
    ) -> ReferrersPage[T]:
        """See `contract.Repository`."""
        raise self._counted()

    def _counted(self) -> Exception:
        self.asked += 1
        return self.error


@dataclass
class House:
    """The members `common/hosted` and `common/other`, one more that is scripted, and the view `common/all`."""

    first: Shelf
    second: Shelf
    proxy: RepositoryRecord
    caller: Caller
    scripted: Scripted
    view: RepositoryRecord = field(init=False)

    async def assemble(self, *order: int, settings: str = "{}", exclude: tuple[str, ...] = ()) -> VirtualRepository:
        """The view, with members in this order; `exclude` is the first one's."""

        def make(tx: Transaction) -> RepositoryRecord:
            record = samples.repository(tx, "common/all", repository_type="virtual", settings=settings)
            inside = [NewMember(member) for member in order]
            members.put(tx, record.id, [NewMember(order[0], exclude=exclude), *inside[1:]])
            return record

        self.view = await self.first.scene.database.transaction(make)
        return self.open(self.caller)

    def open(self, caller: Caller) -> VirtualRepository:
        """The view as this caller gets it."""
        scene = self.first.scene
        usual = opener(database=scene.database, content=scene.content, clock=scene.clock)

        def open_repository(record: RepositoryRecord, caller: Caller) -> Repository:
            return self.scripted if record.id == self.proxy.id else usual(record, caller)

        return VirtualRepository(self.view, caller, database=scene.database, open_repository=open_repository)


@pytest.fixture
async def house(shelf: Shelf, other: Shelf) -> House:
    """All members may be read by the caller; the scripted one knows nothing."""
    proxy = await shelf.scene.database.transaction(samples.repository, "common/hub", repository_type="proxy")
    everything = Holder(reads=frozenset({shelf.record.id, other.record.id, proxy.id}))
    unknown = RegistryError(Code.MANIFEST_UNKNOWN, "unknown")
    return House(shelf, other, proxy, everything, Scripted(proxy, unknown))


# --- order and rights ------------------------------------------------------------------------------------------------


async def test_the_first_member_that_has_a_tag_gives_it(house: House) -> None:
    """Order decides, not age; the answer hangs on more than one image and is not to be remembered."""
    newer, older = await house.second.image("v1", config=b"{}"), await house.first.image("v1")
    view = await house.assemble(house.second.record.id, house.first.record.id)

    found = await view.manifest("app", V1)

    assert newer != older
    assert (found.document.digest, found.depends_on_rows) == (newer, False)


async def test_what_no_member_has_is_unknown(house: House) -> None:
    """A tag, a digest, a blob and an image; referrers of the unknown are none (row RF-04)."""
    await house.first.image("v1")
    view = await house.assemble(house.first.record.id, house.proxy.id)
    absent = Digest.of(b"absent")

    await refused(Code.MANIFEST_UNKNOWN, view.manifest("app", Tag("v2")))
    await refused(Code.MANIFEST_UNKNOWN, view.manifest("app", absent))
    await refused(Code.BLOB_UNKNOWN, view.find_blob("app", absent))
    await refused(Code.NAME_UNKNOWN, view.tags("none", after="", limit=10))
    none = await view.referrers("none", absent, artifact_type=None, after="", limit=10, build=list)
    assert none == ReferrersPage([])


async def test_a_digest_is_read_where_it_is(house: House) -> None:
    """By digest the members that have it here come first; such an answer hangs on the rows of its image alone."""
    digest = await house.second.image("v1")
    view = await house.assemble(house.proxy.id, house.first.record.id, house.second.record.id)

    found = await view.manifest("app", digest)
    blob = await view.find_blob("app", Digest.of(LAYER))

    assert (found.document.digest, found.depends_on_rows) == (digest, True)
    assert isinstance(blob, FoundBlob)
    async with view.open_blob(blob, Span(0, blob.size_bytes)) as reader:
        assert await read(reader) == LAYER
    assert house.scripted.asked == 0


async def test_a18_private_members_are_not_there(house: House) -> None:
    """Neither tag, digest, blob, list nor referrer of a member that the caller may not read; nor is it asked."""
    hidden = await house.first.image("v1", "secret")
    await house.second.image("v2", config=b"{}")
    await house.assemble(house.first.record.id, house.proxy.id, house.second.record.id)
    view = house.open(Holder(reads=frozenset({house.second.record.id})))

    await refused(Code.MANIFEST_UNKNOWN, view.manifest("app", Tag("secret")))
    await refused(Code.MANIFEST_UNKNOWN, view.manifest("app", hidden))
    await refused(Code.BLOB_UNKNOWN, view.find_blob("app", Digest.of(CONFIG)))
    assert (await view.tags("app", after="", limit=10)).names == ["v2"]
    assert house.scripted.asked == 0
    await refused(Code.NAME_UNKNOWN, house.open(NOBODY).tags("app", after="", limit=10))


async def test_a18_a_private_member_costs_no_lookup(house: House) -> None:
    """No time tells whether it has an image: word by word the same is asked of the database, and nothing about it."""
    hidden = await house.first.image("v1", image="a")
    await house.assemble(house.first.record.id, house.second.record.id)
    view = house.open(Holder(reads=frozenset({house.second.record.id})))
    heard = []
    for image in ("a", "b"):  # it has the first, and not the second
        async with questions(house.first.scene.database) as asked:
            await refused(Code.MANIFEST_UNKNOWN, view.manifest(image, V1))
            await refused(Code.MANIFEST_UNKNOWN, view.manifest(image, hidden))
            await refused(Code.BLOB_UNKNOWN, view.find_blob(image, Digest.of(CONFIG)))
            await refused(Code.NAME_UNKNOWN, view.tags(image, after="", limit=10))
            await view.referrers(image, hidden, artifact_type=None, after="", limit=10, build=list)
        heard.append([text.replace(f"'{image}'", "the image") for text in asked])

    assert heard[0] == heard[1]
    about_images = [text for text in heard[0] if "FROM images" in text]
    assert len(about_images) >= 4
    assert all(f"images.repository_id = {house.second.record.id} " in text for text in about_images)


async def test_a_pattern_keeps_names_from_a_member(house: House) -> None:
    """What does not fit is looked for in the others only."""
    await house.first.image("v1")
    mine = await house.second.image("v1", config=b"{}")
    view = await house.assemble(house.first.record.id, house.second.record.id, exclude=("app",))

    assert (await view.manifest("app", V1)).document.digest == mine


async def test_a12_a_view_is_read_only_by_type(house: House) -> None:
    """Nothing that writes is there to be called."""
    view = await house.assemble(house.first.record.id)

    assert not isinstance(view, WritableRepository)
    assert isinstance(house.first.hosted, WritableRepository)
    assert view.record == house.view


# --- lists -----------------------------------------------------------------------------------------------------------


async def test_tags_are_merged(house: House) -> None:
    """Each once, bytewise, in pages that lead through all of them."""
    await house.first.image("b", "a", "1", "_x", image="app")
    await house.second.image("b", "B", "v", image="app")
    view = await house.assemble(house.first.record.id, house.second.record.id)
    found: list[str] = []

    while page := (await view.tags("app", after=found[-1] if found else "", limit=2)).names:
        assert len(page) <= 2
        found += page

    assert found == ["1", "B", "_x", "a", "b", "v"]


async def test_referrers_are_merged(house: House) -> None:
    """Those of all members, each digest once, in pages by digest."""
    subject = {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(Digest.of(b"s")), "size": 1}
    pushed = set()
    for shelf, numbers in ((house.first, "123"), (house.second, "345")):
        await shelf.blob(CONFIG)
        for number in numbers:
            pushed.add(await shelf.put(image_manifest(CONFIG, subject=subject, annotations={"n": number})))
    view = await house.assemble(house.first.record.id, house.second.record.id)
    found: list[Digest] = []

    async def page() -> ReferrersPage[list[Referrer]]:
        after = str(found[-1]) if found else ""
        return await view.referrers("app", Digest.of(b"s"), artifact_type=None, after=after, limit=2, build=list)

    while listed := (await page()).built:
        found += [referrer.digest for referrer in listed]

    assert len(found) == len(pushed) == 5
    assert found == sorted(pushed, key=str)


async def test_a_warning_of_a_member_is_the_view_s(house: House) -> None:
    """Who may be told something old is told so, with the greatest age."""
    await house.first.image("v1")

    class Stale(Scripted):
        async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
            return TagPage(["v2"], warning="old", age_s=70)

        async def referrers(
            self,
            image: str,
            subject: Digest,
            *,
            artifact_type: str | None,
            after: str,
            limit: int,
            build: Callable[[Iterator[Referrer]], T],
        ) -> ReferrersPage[T]:
            return ReferrersPage(build(iter(())), warning="old", age_s=70)

    house.scripted = Stale(house.proxy, AssertionError())
    view = await house.assemble(house.first.record.id, house.proxy.id)

    assert await view.tags("app", after="", limit=10) == TagPage(["v1", "v2"], warning="old", age_s=70)
    listed = await view.referrers("app", Digest.of(b"s"), artifact_type=None, after="", limit=10, build=list)
    assert listed == ReferrersPage([], warning="old", age_s=70)


# --- trouble ---------------------------------------------------------------------------------------------------------

TROUBLES = [
    UpstreamFailed("broken"),
    UpstreamSlow("late"),
    Unavailable("database away"),
    RegistryError(Code.UNAVAILABLE, "busy", status=503),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: type(each).__name__)
async def test_p10_a_member_in_trouble_stops_the_search(house: House, trouble: Exception) -> None:
    """Row P10: a name that may be the troubled member's is not served by the next, which anybody may fill."""
    await house.first.image("v1")
    house.scripted.error = trouble
    view = await house.assemble(house.proxy.id, house.first.record.id)

    for act in (
        lambda: view.manifest("app", V1),
        lambda: view.tags("app", after="", limit=10),
        lambda: view.referrers("app", Digest.of(b"s"), artifact_type=None, after="", limit=10, build=list),
    ):
        with pytest.raises((RegistryError, Unavailable)) as caught:
            await act()
        if isinstance(caught.value, RegistryError):
            assert (caught.value.status, caught.value.code) == (503, Code.UNAVAILABLE)
    assert house.scripted.asked == 3


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda each: type(each).__name__)
async def test_a_member_in_trouble_is_skipped_where_the_settings_say_so(house: House, trouble: Exception) -> None:
    """Then lists say that they are not whole; what no other member has is still the trouble and not "unknown"."""
    digest = await house.first.image("v1")
    house.scripted.error = trouble
    view = await house.assemble(house.proxy.id, house.first.record.id, settings=SKIP)

    assert (await view.manifest("app", V1)).document.digest == digest
    page = await view.tags("app", after="", limit=10)
    assert (page.names, page.warning is not None) == (["v1"], True)
    referring = await view.referrers("app", digest, artifact_type=None, after="", limit=10, build=list)
    assert (referring.built, referring.warning) == ([], page.warning)
    with pytest.raises((RegistryError, Unavailable)) as caught:
        await view.manifest("app", Tag("v2"))
    assert not isinstance(caught.value, RegistryError) or caught.value.status == 503
    assert (await view.tags("none", after="", limit=10)).names == []


@pytest.mark.parametrize("settings", ["{}", SKIP])
async def test_a_digest_needs_no_order(house: House, settings: str) -> None:
    """What has this digest is the same wherever it is: trouble elsewhere does not keep it from those who have it."""
    digest = await house.first.image("v1")
    house.scripted.error = UpstreamFailed("broken", retry_after_s=7)
    view = await house.assemble(house.proxy.id, house.first.record.id, settings=settings)

    assert (await view.manifest("app", digest)).document.digest == digest
    assert isinstance(await view.find_blob("app", Digest.of(LAYER)), FoundBlob)
    error = await refused(Code.UNAVAILABLE, view.find_blob("app", Digest.of(b"absent")))
    assert (error.status, error.headers["Retry-After"]) == (503, "7")
    assert str(error).endswith(f"cannot answer: {house.proxy.full_name}")


@pytest.mark.parametrize("settings", ["{}", SKIP])
@pytest.mark.parametrize("error", [UpstreamBusy("later", retry_after_s=9), unsupported("no", ())])
async def test_what_is_no_trouble_is_told_as_it_is(
    house: House, error: UpstreamError | RegistryError, settings: str
) -> None:
    """A spent budget is the client's to wait for, and a refusal is a refusal; a busy member may be skipped."""
    house.scripted.error = error
    view = await house.assemble(house.proxy.id, house.first.record.id, settings=settings)

    with pytest.raises(type(error)) as caught:
        await view.manifest("app", V1)

    assert caught.value is error


async def test_views_are_opened_by_their_type(house: House) -> None:
    """The process' opener makes them, with members of any kind."""
    digest = await house.first.image("v1")
    await house.assemble(house.first.record.id)
    scene = house.first.scene
    opened = opener(database=scene.database, content=scene.content, clock=scene.clock)(house.view, house.caller)

    assert isinstance(opened, VirtualRepository)
    assert (await opened.manifest("app", V1)).document.digest == digest
    assert isinstance(house.first.hosted, HostedRepository)
