"""The contract of blob stores for one S3 service; a test file says which: see `test_s3` and `test_s3_swift`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import Database
from storage.errors import Damaged
from tests.servers.bucket_server import S3Server
from tests.storage.blobstore_contract import BlobStoreContract
from tests.storage.place import LARGE, Place, objects_of, put
from tests.storage.s3.bucket_place import BucketPlace, place_in
from tests.storage.s3.buckets import settings_for


class BucketContract(BlobStoreContract):
    """`WAY` says how the service is spoken to; subclasses give the fixtures `server` and `shared`, a bucket of it."""

    WAY = "http"

    @pytest.fixture
    async def place(
        self, server: S3Server, shared: str, database: Database, tmp_path: Path
    ) -> AsyncIterator[BucketPlace]:
        """A prefix of its own."""
        async with place_in(server, settings_for(server, shared, self.WAY), database, tmp_path) as place:
            yield place

    async def test_scan_lists_damaged_objects(self, place: Place) -> None:
        """A damaged object is listed as it was published: the markers are listed, and only reading finds the damage."""
        store = await place.open()
        healthy, damaged = await put(store, "healthy", LARGE), await put(store, "damaged", LARGE)
        await place.cut(damaged.key, 40)
        assert await objects_of(store) == {healthy.key: healthy, damaged.key: damaged}
        with pytest.raises(Damaged):
            await store.stat(damaged.key)
