"""Parts on their way into a bucket that does not take them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from storage import Database, Digest, Hasher, Pool, Staging, Unavailable
from storage.s3.bucket import Bucket
from storage.s3.stagings import Stagings
from storage.s3.store import S3Store
from storage.spool import Spool
from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import SLOW_DOWN, asks
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import settings_for

pytestmark = pytest.mark.slow

MIB = 1 << 20
PART_BYTES = 5 * MIB
ROOM_OF_A_PART = 9 * MIB


@pytest.fixture
def proxy(radosgw: S3Server) -> Iterator[FaultProxy]:
    """The way to the bucket."""
    with FaultProxy(int(radosgw.endpoint.rpartition(":")[2]), http=True) as made:
        yield made


@pytest.fixture
async def spool(tmp_path: Path) -> Spool:
    """Room for two parts."""
    made = Spool(tmp_path / "spool", budget_bytes=2 * ROOM_OF_A_PART, pool=Pool("spool", 4))
    await made.prepare()
    return made


@pytest.fixture
async def store(
    radosgw: S3Server, bucket: str, proxy: FaultProxy, spool: Spool, database: Database
) -> AsyncIterator[S3Store]:
    """A store that reaches its bucket through the proxy."""
    settings = settings_for(radosgw, bucket, endpoint_url=proxy.endpoint)
    made = S3Store(Bucket(settings, pool=Pool("s3", 8)), Stagings(database, "main"), spool=spool)
    await made.prepare()
    yield made
    await made.aclose()
    spool.close()


async def fill(staging: Staging) -> Digest:
    """Write some parts."""
    hasher = Hasher.portable()
    for _ in range(4 * PART_BYTES // MIB):
        await staging.write(bytes(MIB), hasher)
    return hasher.digest()


async def test_failed_parts_do_not_keep_the_room_that_others_wait_for(
    store: S3Store, spool: Spool, proxy: FaultProxy
) -> None:
    """Uploads that fill the spool between them, and whose parts fail, are told so; then there is room again."""
    failures = proxy.harm(SLOW_DOWN, when=asks("UploadPart"))

    async def upload(area: str) -> None:
        async with store.stage(area, create=True) as staging:
            with pytest.raises(Unavailable):
                await fill(staging)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(3):
                nursery.start_soon(upload, f"area-{number}")
    assert failures.hits
    assert spool.statistics().reserved_bytes == 0

    await Pool("proxy", 1).run(proxy.heal)
    async with store.stage("area-healed", create=True) as staging:
        digest = await fill(staging)
        assert (await staging.publish(digest)).size_bytes == 4 * PART_BYTES
