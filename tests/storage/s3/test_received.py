"""Blobs of known digest and length: one request that the store verifies, and nothing kept of what was wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import Database, Digest, DigestMismatch, Hasher
from storage.s3.keys import ObjectName
from tests.servers.bucket_server import S3Server
from tests.storage.place import content_of, objects_of
from tests.storage.s3.buckets import settings_for
from tests.storage.s3.mortal import PART_BYTES, Life, Workers, workers_in
from tests.storage.s3.test_staging import DATA, MIB, calls, chunks_of, digest_of, patch, publish, write

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture
async def workers(radosgw: S3Server, shared: str, database: Database, tmp_path: Path) -> AsyncIterator[Workers]:
    """An installation over the bucket, below a prefix of its own."""
    async with workers_in(radosgw, settings_for(radosgw, shared), database, tmp_path) as made:
        yield made


async def test_known_digest_is_one_request(workers: Workers) -> None:
    """A blob whose digest and length are known is one PUT that the store verifies, and the marker."""
    life = Life()
    store = await workers.store(life)
    async with store.stage("session", create=True) as staging:
        assert staging.verifies(digest_of(DATA), len(DATA))
        await staging.receive(digest_of(DATA), len(DATA), chunks_of(DATA))
        stored = await staging.publish(digest_of(DATA))
        await staging.discard()
    assert calls(life) == ["put", "put"]
    assert await content_of(store, stored) == DATA


async def test_known_digest_that_is_wrong(workers: Workers) -> None:
    """Other bytes than the digest's are refused by the store; nothing stays, and the area is empty as before."""
    store = await workers.store()
    async with store.stage("session", create=True) as staging:
        with pytest.raises(DigestMismatch):
            await staging.receive(digest_of(b"other"), len(DATA), chunks_of(DATA))
        assert staging.offset == 0
        assert await staging.published() is None
        await write(staging, DATA[:MIB], Hasher())
        await staging.publish(digest_of(DATA[:MIB]))
        await staging.discard()
    name = ObjectName.parse(next(iter(await objects_of(store))))
    assert workers.place.keys() == {name.blob: MIB, name.marker: 0}


async def test_client_leaves_while_it_is_received(workers: Workers) -> None:
    """What the body raises comes out as it is, and the session can be used again."""
    store = await workers.store()

    async def leave() -> AsyncIterator[bytes]:
        yield DATA[:MIB]
        raise ConnectionResetError("the client left")

    async with store.stage("session", create=True) as staging:
        with pytest.raises(ConnectionResetError, match="the client left"):
            await staging.receive(digest_of(DATA), len(DATA), leave())
        assert staging.offset == 0
    await patch(store, DATA[: 6 * MIB])
    await publish(store, DATA[: 6 * MIB])


@pytest.mark.parametrize(("digest", "size_bytes"), [("sha512", len(DATA)), ("sha256", PART_BYTES - 1)])
async def test_what_is_not_received(workers: Workers, digest: str, size_bytes: int) -> None:
    """The store verifies sha256 only; and what fits into one part is safer in the spool."""
    store = await workers.store()
    async with store.stage("session", create=True) as staging:
        claimed = Digest.of(b"", digest)
        assert not staging.verifies(claimed, size_bytes)
        with pytest.raises(ValueError, match="cannot be received"):
            await staging.receive(claimed, size_bytes, chunks_of(b""))
