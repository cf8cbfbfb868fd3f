"""A held upload session: the digest that runs along, going back to a mark, and what is believed after a restart."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import trio

from storage.blobstore import Staging
from storage.digest import Digest, Hasher
from storage.errors import DigestMismatch, Unavailable
from storage.memory import MemoryStore
from storage.records import UploadRecord
from storage.upload import HasherCache, Upload, boot_id
from tests.storage.failing import FailingStore, Faults

RECORD = UploadRecord(
    id="session",
    repository_id=1,
    image="app",
    storage_id=1,
    account_id=1,
    algorithm="sha256",
    offset_bytes=0,
    digest_so_far=None,
    boot=boot_id(),
    created_at=0,
    touched_at=0,
)


@pytest.fixture
def faults() -> Faults:
    """The points that the session's staging area passes."""
    return Faults()


@pytest.fixture
async def staging(faults: Faults) -> AsyncIterator[Staging]:
    """A held, empty staging area."""
    async with FailingStore(MemoryStore(), faults).stage("session", create=True) as held:
        yield held


async def test_digest_runs_along(staging: Staging, faults: Faults) -> None:
    """What was appended in pieces is verified without reading it again."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    for piece in (b"one ", b"two ", b"three"):
        await upload.append(piece)
    assert (upload.offset, upload.moved) == (13, True)
    assert await upload.verify(Digest.of(b"one two three")) == Digest.of(b"one two three")
    assert "before rehash" not in faults.passed


async def test_other_algorithm_is_read_once(staging: Staging, faults: Faults) -> None:
    """A sha512 that nobody announced is checked by reading the bytes; the canonical digest comes back (row UP-21)."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    await upload.append(b"some bytes")
    assert await upload.verify(Digest.of(b"some bytes", "sha512")) == Digest.of(b"some bytes")
    assert faults.passed.count("before rehash") == 1


async def test_writer_and_append_share_the_digest(staging: Staging) -> None:
    """What comes in a thread and what comes on the loop are one sequence, and a mark goes back behind both."""
    upload = Upload(RECORD, staging, hasher=None)
    await upload.append(b"one ")
    mark = await upload.mark()
    for piece in (b"lost", b"two "):
        writer = await upload.writer()
        assert writer is not None
        writer.write([piece])
        if piece == b"lost":
            await upload.rollback(mark)
    await upload.append(b"three")
    assert (upload.offset, upload.moved) == (13, True)
    assert await upload.verify(Digest.of(b"one two three")) == Digest.of(b"one two three")


async def test_writer_of_a_resumed_session(staging: Staging, faults: Faults) -> None:
    """Bytes whose hasher is gone are read once before more are taken in a thread."""
    await staging.write(b"from another worker, ", Hasher())
    upload = Upload(RECORD, staging, hasher=None)
    writer = await upload.writer()
    assert writer is not None
    writer.write([b"and ", b"from here"])
    await upload.verify(Digest.of(b"from another worker, and from here"))
    assert faults.passed.count("before rehash") == 1


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_wrong_digest(staging: Staging, algorithm: str) -> None:
    """Bytes that are not what the digest says are refused, and the error tells both."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    await upload.append(b"some bytes")
    with pytest.raises(DigestMismatch) as caught:
        await upload.verify(Digest.of(b"others", algorithm))
    assert caught.value.claimed == str(Digest.of(b"others", algorithm))
    assert caught.value.actual == str(Digest.of(b"some bytes", algorithm))


async def test_resumed_without_hasher(staging: Staging, faults: Faults) -> None:
    """Appending to bytes whose hasher is gone reads them once, and never again."""
    await staging.write(b"from another worker, ", Hasher())
    upload = Upload(RECORD, staging, hasher=None)
    await upload.append(b"and ")
    await upload.append(b"from here")
    await upload.verify(Digest.of(b"from another worker, and from here"))
    assert faults.passed.count("before rehash") == 1


async def test_row_is_believed(staging: Staging, faults: Faults) -> None:
    """The digest in the row saves the second read if it is of exactly these bytes and of this boot."""
    await staging.write(b"saved", Hasher())
    record = replace(RECORD, offset_bytes=5, digest_so_far=Digest.of(b"saved"))
    await Upload(record, staging, hasher=None).verify(Digest.of(b"saved"))
    assert "before rehash" not in faults.passed


@pytest.mark.parametrize(
    "change",
    [{"boot": "another boot"}, {"offset_bytes": 4}, {"offset_bytes": 6}, {"digest_so_far": None}],
    ids=["boot", "shorter", "longer", "no-digest"],
)
async def test_row_is_not_believed(staging: Staging, change: dict[str, object]) -> None:
    """After another boot, or at another offset, the bytes themselves are read: what the row says may be wrong."""
    await staging.write(b"truth", Hasher())
    believable = replace(RECORD, offset_bytes=5, digest_so_far=Digest.of(b"saved"))
    record = replace(believable, **change)  # type: ignore[arg-type]
    upload = Upload(record, staging, hasher=None)
    assert upload.digest_if_known() is None
    assert await upload.verify(Digest.of(b"truth")) == Digest.of(b"truth")


async def test_rollback_forgets(staging: Staging) -> None:
    """Going back to a mark leaves neither bytes nor digest of what came after it, and the session goes on."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    await upload.append(b"good ")
    mark = await upload.mark()
    await upload.append(b"a chunk that broke its promise")
    await upload.rollback(mark)
    assert upload.offset == 5
    await upload.append(b"end")
    await upload.verify(Digest.of(b"good end"))


async def test_rollback_twice(staging: Staging) -> None:
    """One mark serves one rollback; after it a new mark serves the next."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    for _ in range(2):
        mark = await upload.mark()
        await upload.append(b"bad")
        await upload.rollback(mark)
    await upload.append(b"good")
    await upload.verify(Digest.of(b"good"))


async def test_failed_write_leaves_digest_and_bytes_in_step(staging: Staging, faults: Faults) -> None:
    """After a write that failed, the same bytes can be sent again."""
    upload = Upload(RECORD, staging, hasher=Hasher())
    await upload.append(b"before ")
    faults.arm(0, Unavailable("the disk hiccups"))
    with pytest.raises(Unavailable):
        await upload.append(b"after")
    await upload.append(b"after")
    await upload.verify(Digest.of(b"before after"))


async def test_cancelled_rehash_is_forgotten(staging: Staging) -> None:
    """A reading that was cut short leaves no half digest behind."""
    data = bytes(3 << 20)
    for start in range(0, len(data), 1 << 20):
        await staging.write(data[start : start + (1 << 20)], Hasher())
    upload = Upload(RECORD, staging, hasher=None)
    with trio.CancelScope() as scope:
        scope.cancel()
        await upload.mark()
    assert upload.hasher is None
    await upload.verify(Digest.of(data))


def test_cache_gives_the_hasher_of_exactly_these_bytes() -> None:
    """A kept hasher is given back once, and only if the area still holds what it has seen."""
    cache, hasher = HasherCache(), Hasher()
    hasher.update(b"12345")
    cache.put("a", hasher)
    assert cache.take("a", 5) is hasher
    assert cache.take("a", 5) is None
    cache.put("a", hasher)
    assert cache.take("a", 6) is None
    fresh = cache.take("new", 0)
    assert fresh is not None
    assert fresh.size_bytes == 0
    cache.put("a", hasher)
    cache.forget("a")
    assert cache.take("a", 5) is None


def test_cache_is_bounded() -> None:
    """Of too many sessions the one that rested longest is read again."""
    cache = HasherCache()
    for number in range(1100):
        hasher = Hasher()
        hasher.update(b"x")
        cache.put(str(number), hasher)
    assert cache.take("0", 1) is None
    assert cache.take("1099", 1) is not None


def test_boot_id_is_stable() -> None:
    """Within one process the boot has one name."""
    assert boot_id() == boot_id() != ""
