"""What a worker does for its stores beside answering: what is abandoned goes, what is damaged is put aside."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from gateway.app import worker_jobs
from gateway.jobs import Job
from storage import Digest
from storage.hotset_files import Entry, HotSetLayout
from tests.gateway.access.house import Clock
from tests.gateway.registry import NAME, Registry
from tests.gateway.test_installation import in_bucket
from tests.servers.bucket_server import S3Server

pytestmark = pytest.mark.slow

CONTENT = b"0123456789" * 10_000


def jobs_of(registry: Registry) -> dict[str, Job]:
    """The worker's jobs by name."""
    return {job.name: job for job in worker_jobs(registry.services)}


@pytest.fixture
async def in_s3(data_directory: Path, radosgw: S3Server, bucket: str) -> AsyncIterator[Registry]:
    """An installation in a bucket."""
    storage = {"storages": {"default": in_bucket(radosgw, bucket)}}
    async with Registry.open(data_directory, storage=storage) as registry:
        yield registry


async def test_each_bucket_and_each_hot_set_has_its_jobs(in_s3: Registry) -> None:
    """Strays and scrub once per installation, the hot set in each worker, which finds it locked or free."""
    jobs = jobs_of(in_s3)

    assert {name for name, job in jobs.items() if job.alone} == {
        "garbage",
        "ended_credentials",
        "scrub",
        "cache_bounds",
        "strays/default",
    }
    assert not jobs["hot_set/default"].alone


async def test_the_scrub_is_left_out_where_the_operator_says_so(data_directory: Path) -> None:
    """Services may charge for reads."""
    async with Registry.open(data_directory, scrub={"enabled": False}) as registry:
        assert "scrub" not in jobs_of(registry)


async def test_an_upload_that_nobody_knows_is_removed_and_others_are_not(
    in_s3: Registry, radosgw: S3Server, bucket: str
) -> None:
    """A multipart upload without a row goes when it is old enough; what is published and what is young stays."""
    await in_s3.push_blob(CONTENT)
    begun = radosgw.client().create_multipart_upload(Bucket=bucket, Key=f"blobs/ab/ab{'0' * 30}")
    (store,) = in_s3.services.stores.buckets.values()

    await jobs_of(in_s3)["strays/default"].run()
    assert radosgw.uploads(bucket) == [(begun["Key"], begun["UploadId"])]
    assert await store.sweep_strays(-5) == 1

    assert radosgw.uploads(bucket) == []
    assert len(radosgw.objects(bucket, "blobs/")) == 1


async def test_a_pull_that_finds_damage_has_it_put_aside(in_s3: Registry, radosgw: S3Server, bucket: str) -> None:
    """The answer does not end well, the log names the digest, the bytes go to quarantine, and a push heals it."""
    digest = await in_s3.push_blob(CONTENT)
    (key,) = radosgw.objects(bucket, "blobs/")
    radosgw.overwrite(bucket, key, CONTENT[:-1] + b"x")

    with structlog.testing.capture_logs() as events:
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the server makes an abort of
            await pulled(in_s3, digest)
        with trio.fail_after(20):
            while not [event for event in events if event["event"] == "blob_set_aside"]:  # noqa: ASYNC110 - a thread or a server tells, no event
                await trio.sleep(0.01)  # a real service is read once more
    gone = await in_s3.ask("HEAD", f"/v2/{NAME}/blobs/{digest}")
    await in_s3.push_blob(CONTENT)
    healed = await in_s3.ask("GET", f"/v2/{NAME}/blobs/{digest}")

    assert [(event["storage"], event["digest"]) for event in events if event["event"] == "blob_set_aside"] == [
        ("default", str(digest))
    ]
    assert gone.status == 404
    assert (healed.status, healed.body) == (200, CONTENT)
    assert len(radosgw.objects(bucket, "quarantine/")) == 1


async def pulled(registry: Registry, digest: Digest) -> Any:
    """The blob as a client gets it."""
    answer = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")
    assert len(answer.body) == len(CONTENT), "the answer was broken off"
    return answer


async def test_the_scrub_finds_what_nobody_pulls(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """A day after it was stored everything is due that a cycle of a day holds; it reads the bucket, not the copies."""
    clock = Clock()
    storage = {"storages": {"default": in_bucket(radosgw, bucket)}}
    async with Registry.open(data_directory, storage=storage, clock=clock, scrub={"cycle_s": 86400}) as registry:
        digest = await registry.push_blob(CONTENT)
        await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")
        (key,) = radosgw.objects(bucket, "blobs/")
        radosgw.overwrite(bucket, key, b"x" + CONTENT[1:])
        clock.now += 86400 + 1
        with structlog.testing.capture_logs() as events:
            await jobs_of(registry)["scrub"].run()

    assert [event["event"] for event in events] == ["blob_set_aside", "scrubbed"]
    assert events[0]["digest"] == str(digest)


async def test_the_hot_set_is_looked_after(in_s3: Registry, data_directory: Path) -> None:
    """One worker of the machine counts and tidies it: what somebody left growing and nobody came back for goes."""
    layout = HotSetLayout(data_directory / "hot" / "default")
    left, recent = (layout.growing_path(Entry(key, Digest.of(CONTENT), len(CONTENT)).name) for key in ("old", "new"))
    for file in (left, recent):
        file.write_bytes(b"some")
    os.utime(left, (0, 0))

    await jobs_of(in_s3)["hot_set/default"].run()

    assert not left.exists()
    assert recent.exists()
