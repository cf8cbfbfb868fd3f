import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage import Digest, Hasher, Pool
from storage.blobstore import BlobStore
from storage.database import Database
from storage.s3 import S3Store
from storage.s3_bucket import Bucket
from storage.s3_keys import ObjectName
from storage.s3_settings import S3Settings
from storage.s3_stagings import Stagings
from storage.spool import Spool
from tests.storage.staging_contract import StagingContract


class DevPlace:
    def __init__(self, database: Database, tmp_path: Path) -> None:
        self.database, self.tmp_path = database, tmp_path
        self.prefix = uuid.uuid4().hex
        self.stores = []

    async def open(self) -> S3Store:
        settings = S3Settings("c-dev", prefix=self.prefix, endpoint_url="http://127.0.0.1:21100", access_key_id="test", secret_access_key="testtest", part_bytes=5<<20)
        bucket = Bucket(settings, pool=Pool("s3", 8))
        pool = Pool("disk", 4)
        spool = Spool(self.tmp_path / "spool", budget_bytes=100 << 20, pool=pool)
        await spool.prepare()
        store = S3Store(bucket, Stagings(self.database, "main"), spool=spool)
        await store.prepare()
        self.stores.append(store)
        return store

    async def cut(self, key: str, size_bytes: int) -> None:
        raise NotImplementedError


class TestStaging(StagingContract):
    @pytest.fixture
    async def place(self, database, tmp_path: Path):
        place = DevPlace(database, tmp_path)
        yield place
        for store in place.stores:
            await store.aclose()
