"""Lists of images that are fetched ahead: what happens to the list when something happens to it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from gateway.oci.errors import manifest_unknown
from gateway.oci.names import Reference, Tag
from gateway.repositories.contract import ArrivingBlob, FoundManifest
from gateway.repositories.warming import MOST_AT_ONCE, MOST_OF_PROJECT, TooManyWarmUps, Wanted, Warming, WarmUps
from gateway.upstream.errors import UpstreamSlow
from storage import Database, Digest, Document, Pool, RepositoryRecord, Span, Unavailable, WarmUpRecord
from storage.metadata import warm_ups
from tests.served import image_manifest
from tests.storage.metadata.samples import repository

BUSY = 4
"""So many projects have all turns of a worker."""
DOCUMENTS = {tag: image_manifest(b"{}", tag.encode()) for tag in "abcde"}
"""Images with two blobs each."""
ALL = [Wanted("app", Tag(tag)) for tag in DOCUMENTS]
A, B = ALL[:2]
INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE = "application/vnd.oci.image.manifest.v1+json"


class _Reader:
    """One byte of a blob, when it is whole."""

    file = None

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait = wait

    async def chunks(self) -> AsyncIterator[bytes]:
        await self._wait()
        yield b"x"


class _Repository:
    """A proxy of documents by reference; every blob has to come, which takes as long as `wait` takes."""

    def __init__(self, record: RepositoryRecord, documents: dict[str, bytes], wait: Callable[[], Any]) -> None:
        self.record = record
        self.documents = documents
        self.wait = wait
        self.opened: list[Digest] = []
        self.asked: list[str] = []

    async def manifest(self, image: str, reference: Reference) -> FoundManifest:
        """See `contract.Repository`."""
        self.asked.append(str(reference))
        await trio.lowlevel.checkpoint()
        content = self.documents.get(str(reference))
        if content is None:
            raise manifest_unknown(image, str(reference))
        media_type = INDEX if b'"manifests"' in content else IMAGE
        return FoundManifest(Document(Digest.of(content), media_type, content))

    async def find_blob(self, image: str, digest: Digest) -> ArrivingBlob:
        """See `contract.Repository`."""
        await trio.lowlevel.checkpoint()

        @asynccontextmanager
        async def opened(span: Span) -> AsyncIterator[_Reader]:
            self.opened.append(digest)
            assert span == Span(9, 10)
            yield _Reader(self.wait)

        return ArrivingBlob(digest, 10, opened)


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


def _index(*children: bytes, platform: str = "amd64") -> bytes:
    described = [
        {
            "mediaType": INDEX if b'"manifests"' in each else IMAGE,
            "digest": str(Digest.of(each)),
            "size": len(each),
            "platform": {"os": "linux", "architecture": platform},
        }
        for each in children
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": described}).encode()


@pytest.fixture
async def record(database: Database) -> RepositoryRecord:
    """The row of a repository."""
    return await database.transaction(repository, "team/hub")


async def _ended(database: Database, begun: WarmUpRecord) -> WarmUpRecord:
    with trio.fail_after(20):
        while True:
            found = await database.read(warm_ups.get, begun.repository_id, begun.id)
            assert found is not None
            if found.state != warm_ups.RUNNING:
                return found
            await trio.sleep(0.01)


async def _in_project(
    database: Database, project: str, documents: dict[str, bytes], wait: Callable[[], Any]
) -> _Repository:
    """A repository of that project."""
    return _Repository(await database.transaction(repository, f"{project}/hub"), documents, wait)


def _warming(repository: _Repository, *platforms: str) -> Warming:
    return Warming(repository, "app", platforms=platforms, pool=Pool("parse", 1), heard=lambda _: None)  # type: ignore[arg-type]  # the reading half


async def test_an_index_bomb_ends(record: RepositoryRecord) -> None:
    """C4: forty levels that each name the next twice are asked for as deep as is sane, and each document once."""
    documents: dict[str, bytes] = {}
    inner = image_manifest(b"{}", b"layer")
    for _ in range(40):
        documents[str(Digest.of(inner))] = inner
        inner = _index(inner, inner)
    documents["bomb"] = inner
    repository = _Repository(record, documents, _nothing)

    await _warming(repository).run(Tag("bomb"))

    assert len(repository.asked) == 5
    assert repository.opened == []


@pytest.mark.parametrize(
    ("wanted", "fetched"), [(("linux/arm64",), 2), (("linux/arm",), 0), ((), 2), (("linux/arm64", "linux/amd64"), 2)]
)
async def test_a_platform_is_a_whole_part_of_another(
    record: RepositoryRecord, wanted: tuple[str, ...], fetched: int
) -> None:
    """`linux/arm` does not stand for `linux/arm64`."""
    image = image_manifest(b"{}", b"layer")
    documents = {"latest": _index(image, platform="arm64"), str(Digest.of(image)): image}
    repository = _Repository(record, documents, _nothing)

    await _warming(repository, *wanted).run(Tag("latest"))

    assert len(repository.opened) == fetched


async def test_what_fails_is_told_and_stops_nothing(database: Database, record: RepositoryRecord) -> None:
    """Each image has its own reason; trouble of an upstream and of ours alike."""
    troubles = iter((UpstreamSlow("too slow"), Unavailable("no disk")))

    async def wait() -> None:
        await trio.lowlevel.checkpoint()
        if (error := next(troubles, None)) is not None:
            raise error

    documents = {tag: image_manifest(b"{}", tag.encode()) for tag in ("a", "b", "c")}
    names = ("a", "b", "gone", "c")
    repository = _Repository(record, documents, wait)
    async with WarmUps.open(database) as warming:
        begun = await warming.begin(repository, [Wanted("app", Tag(each)) for each in names])  # type: ignore[arg-type]
        found = await _ended(database, begun)

    assert (found.state, found.images_done) == (warm_ups.DONE, 4)
    assert {image for image, _ in found.failures} >= {"app:a", "app:gone"}
    assert "app:c" not in {image for image, _ in found.failures}


async def test_the_end_of_the_worker_stops_a_list_and_says_so(database: Database, record: RepositoryRecord) -> None:
    """Whoever looks later does not wait for ever."""
    documents = {"a": image_manifest(b"{}", b"layer")}
    repository = _Repository(record, documents, trio.sleep_forever)
    async with WarmUps.open(database) as warming:
        begun = await warming.begin(repository, [Wanted("app", Tag("a"))])  # type: ignore[arg-type]

    found = await database.read(warm_ups.get, record.id, begun.id)

    assert found is not None
    assert (found.state, found.images_done) == (warm_ups.STOPPED, 0)


async def test_a_defect_ends_a_list_and_not_the_worker(database: Database, record: RepositoryRecord) -> None:
    """The next list is worked on."""

    async def broken() -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a defect")

    documents = {"a": image_manifest(b"{}", b"layer")}
    async with WarmUps.open(database) as warming:
        first = await warming.begin(_Repository(record, documents, broken), [Wanted("app", Tag("a"))])  # type: ignore[arg-type]
        stopped = await _ended(database, first)
        second = await warming.begin(_Repository(record, documents, _nothing), [Wanted("app", Tag("a"))])  # type: ignore[arg-type]
        done = await _ended(database, second)

    assert (stopped.state, done.state) == (warm_ups.STOPPED, warm_ups.DONE)


async def test_a_worker_takes_so_many_lists_of_a_project_and_no_more(
    database: Database, record: RepositoryRecord
) -> None:
    """Each may be a thousand images; who comes later is told to come again, and other projects are not."""
    documents = {"a": image_manifest(b"{}", b"layer")}
    is_free = trio.Event()
    repository = _Repository(record, documents, is_free.wait)
    elsewhere = await _in_project(database, "other", documents, is_free.wait)
    async with WarmUps.open(database) as warming:
        begun = [await warming.begin(repository, [A]) for _ in range(MOST_OF_PROJECT)]  # type: ignore[arg-type]
        with pytest.raises(TooManyWarmUps, match="of this project"):
            await warming.begin(repository, [A])  # type: ignore[arg-type]
        begun.append(await warming.begin(elsewhere, [A]))  # type: ignore[arg-type]
        is_free.set()
        ended = [await _ended(database, each) for each in begun]
        await warming.begin(repository, [A])  # type: ignore[arg-type]

    assert {each.state for each in ended} == {warm_ups.DONE}


async def test_a_worker_takes_so_many_lists_and_no_more(database: Database) -> None:
    """However many projects there are."""
    async with WarmUps.open(database) as warming:
        for number in range(MOST_AT_ONCE // MOST_OF_PROJECT):
            repository = await _in_project(database, f"p{number}", DOCUMENTS, trio.sleep_forever)
            for _ in range(MOST_OF_PROJECT):
                await warming.begin(repository, [A])  # type: ignore[arg-type]
        one_more = await _in_project(database, "late", DOCUMENTS, trio.sleep_forever)
        with pytest.raises(TooManyWarmUps):
            await warming.begin(one_more, [A])  # type: ignore[arg-type]


async def test_a_project_waits_for_no_list_of_another(database: Database, record: RepositoryRecord) -> None:
    """However many lists that one has, and however long its upstream takes."""
    slow = _Repository(record, DOCUMENTS, trio.sleep_forever)
    quick = await _in_project(database, "other", DOCUMENTS, _nothing)
    async with WarmUps.open(database) as warming:
        stuck = [await warming.begin(slow, [A, B]) for _ in range(MOST_OF_PROJECT)]  # type: ignore[arg-type]
        done = await _ended(database, await warming.begin(quick, [A, B]))  # type: ignore[arg-type]
        still = await database.read(warm_ups.get, record.id, stuck[0].id)

    assert (done.state, done.images_done) == (warm_ups.DONE, 2)
    assert still is not None
    assert (still.state, still.images_done) == (warm_ups.RUNNING, 0)


async def test_projects_have_turns_image_by_image(database: Database) -> None:
    """Who comes when all are busy is next as soon as one of the others has an image, not when its list is done."""
    begun: list[str] = []
    is_free = trio.Event()
    async with WarmUps.open(database) as warming:
        lists = []
        for number in range(BUSY + 1):
            name = f"p{number}" if number < BUSY else "late"

            async def wait(name: str = name) -> None:
                begun.append(name)
                await is_free.wait()

            repository = await _in_project(database, name, DOCUMENTS, wait)
            lists.append(await warming.begin(repository, ALL))  # type: ignore[arg-type]
            await trio.testing.wait_all_tasks_blocked()
        assert "late" not in begun
        is_free.set()
        ended = [await _ended(database, each) for each in lists]

    assert {each.state for each in ended} == {warm_ups.DONE}
    assert begun.index("late") < 2 * 2 * BUSY  # the others have one image each, and at most another one by then
    assert len(begun) == 2 * len(ALL) * (BUSY + 1)
