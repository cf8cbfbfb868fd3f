"""Bytes for another installation: what is trouble with one blob, and what is trouble with a store."""

import errno
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from storage import BlobReader, BlobStore, BlobUnknown, Damaged, Digest, Hasher, Span, StoredObject, Unavailable
from storage.metadata import garbage
from storage.moving_blobs import Installation, drop_leftovers
from tests.storage.failing import FailingStore, Faults
from tests.storage.pair import LAYERS, Pair
from tests.storage.place import areas_of, objects_of, stage


class Unreadable(FailingStore):
    """A store that cannot give some blobs, for a reason of the test's."""

    def __init__(self, inner: BlobStore, reason: Callable[[StoredObject], Exception | None]) -> None:
        super().__init__(inner, Faults())
        self._reason = reason

    @asynccontextmanager
    async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
        """The inner store's bytes, unless there is a reason not to give them."""
        error = self._reason(stored)
        if error is not None:
            raise error
        async with super().open(stored, span) as reader:
            yield reader


def unreadable(pair: Pair, *errors: Exception, digest: Digest | None = None) -> None:
    """From now on the old store raises these, one after the other: for this blob, or for every one."""
    waiting = list(errors)

    def reason(stored: StoredObject) -> Exception | None:
        return waiting.pop(0) if waiting and digest in {None, stored.digest} else None

    pair.source = Installation(pair.source.database, {"main": Unreadable(pair.scene.store, reason)})


def bad_sector() -> Unavailable:
    """As a store reports what its disk could not read."""
    error = Unavailable("input/output error")
    error.__cause__ = OSError(errno.EIO, "input/output error")
    return error


@pytest.mark.parametrize(
    "error", [bad_sector(), BlobUnknown("gone"), Damaged("too short")], ids=lambda e: type(e).__name__
)
async def test_one_blob_that_cannot_be_read_is_left_out(pair: Pair, error: Exception) -> None:
    """The store works; this one object does not."""
    unreadable(pair, error, digest=Digest.of(LAYERS[1]))

    totals = await pair.move()

    assert [(lost.digest, lost.detail) for lost in totals.lost] == [(Digest.of(LAYERS[1]), str(error))]
    assert totals.copied_blobs == 4


async def test_a_store_that_does_not_answer_ends_the_move(pair: Pair) -> None:
    """It is not taken for empty; the next run goes on."""
    unreadable(pair, Unavailable("no answer"), digest=Digest.of(LAYERS[1]))

    with pytest.raises(Unavailable, match="no answer"):
        await pair.move()

    totals = await pair.move()
    assert totals.copied_blobs + totals.kept_blobs == 5
    assert totals.lost_blobs == 0


async def test_most_blobs_missing_means_that_the_volume_is(pair: Pair) -> None:
    """Then nothing is left out: the move ends and asks for it."""
    for number in range(20):
        await pair.scene.push(b"blob %d" % number, "app")
    unreadable(pair, *[BlobUnknown("gone")] * 25)

    with pytest.raises(Unavailable, match="is the volume of the storage main mounted"):
        await pair.move()


async def test_a_blob_that_is_removed_meanwhile_is_no_loss(pair: Pair) -> None:
    """Its row is gone by the time that the store does not have it."""
    found = await pair.scene.find(Digest.of(LAYERS[4], "sha512"))

    class Removing(Unreadable):
        """The sweep comes first."""

        @asynccontextmanager
        async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
            """Not this one any more."""
            if stored.digest == found.record.stored.digest:
                await pair.scene.unlink(Digest.of(LAYERS[4], "sha512"))
                for _ in range(3):
                    pair.scene.clock.advance(pair.scene.grace_s + 1)
                    await pair.scene.sweep().run()
            async with super().open(stored, span) as reader:
                yield reader

    pair.source = Installation(pair.source.database, {"main": Removing(pair.scene.store, lambda _: None)})

    totals = await pair.move()

    assert (totals.copied_blobs, totals.lost_blobs) == (4, 0)


async def test_a_blob_that_is_stored_anew_meanwhile_is_read_again(pair: Pair) -> None:
    """Its row has another key by the time that the store does not have the first."""
    found = await pair.scene.find(Digest.of(LAYERS[1]))

    class Healing(Unreadable):
        """Found damaged, and pushed again."""

        @asynccontextmanager
        async def open(self, stored: StoredObject, span: Span) -> AsyncIterator[BlobReader]:
            """Under its first key there is nothing."""
            if stored.key == found.record.stored.key:
                await pair.scene.store.remove(stored.key)
                await pair.scene.push(LAYERS[1], "app")
            async with super().open(stored, span) as reader:
                yield reader

    pair.source = Installation(pair.source.database, {"main": Healing(pair.scene.store, lambda _: None)})

    totals = await pair.move()

    assert (totals.copied_blobs, totals.lost_blobs) == (5, 0)


async def test_what_a_killed_move_left_is_dropped(pair: Pair) -> None:
    """Half a blob, and one that was published and has no row: neither takes space for ever, and rows keep theirs."""
    await pair.move()
    kept = set(await objects_of(pair.store))
    await stage(pair.store, str(uuid.uuid4()), b"half a blob")
    async with pair.store.stage(str(uuid.uuid4()), create=True) as staging:
        await staging.write(b"without a row", Hasher())
        await staging.publish(Digest.of(b"without a row"))
    async with pair.store.stage(str(uuid.uuid4()), create=True) as held:
        await drop_leftovers(pair.target, {"main": 2}, now=int(pair.scene.clock()))
        left = await areas_of(pair.store)

    assert set(left) == {held.staging_id}
    assert set(await objects_of(pair.store)) == kept
    on_record = await pair.target.database.survey(garbage.every_blob, after=0, limit=10)
    assert {blob.stored.key for blob in on_record} == kept
