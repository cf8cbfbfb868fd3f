"""The S3 store keeps the contract on OpenStack Swift too: a service without conditional writes and lifecycle rules."""

import pytest

from storage.blobstore import BlobStore
from tests.servers.bucket_server import S3Server
from tests.storage.place import LARGE, content_of, put
from tests.storage.s3.bucket_contract import BucketContract
from tests.storage.s3.buckets import opened, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(swift: S3Server) -> S3Server:
    """The service."""
    return swift


@pytest.fixture(scope="module")
def shared(server: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return server.new_bucket()


class TestOnSwift(BucketContract):
    """The contract, on the lesser service."""

    async def test_blob_in_parts(self, store: BlobStore) -> None:
        """A blob of several parts is completed, read and removed."""
        content = LARGE * 20
        stored = await put(store, "parts", content)
        assert await content_of(store, stored) == content
        await store.quarantine(stored.key)


async def test_abilities(server: S3Server, shared: str) -> None:
    """What is lacking is found out and noted, and the bucket is of use without it."""
    async with opened(settings_for(server, shared)) as bucket:
        await bucket.put_lifecycle()
        found = bucket.abilities
        assert (found.conditional_put, found.verifies_sha256, found.batch_delete) == (False, True, True)
        assert not found.lifecycle
        assert len(found.notes) == 2
        await bucket.put("twice", b"a", if_absent=True)
        await bucket.put("twice", b"b", if_absent=True)
        await bucket.delete("twice", "never")
        assert [each.key async for each in bucket.list("")] == []
