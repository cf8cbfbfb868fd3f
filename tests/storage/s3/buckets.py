"""Buckets of a real S3 service as tests of the store reach them: on each way there is, below a prefix of their own."""

import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from storage.blocking import Pool
from storage.s3.bucket import Bucket
from storage.s3.settings import S3Settings
from tests.servers.bucket_server import S3Server

WAYS: Final = ("http", "https", "boto3")
"""Our own client, plain and over TLS; and boto3 in threads, over TLS, where it is pickiest."""
_NUMBERS: Final = itertools.count(1)


def settings_for(server: S3Server, bucket: str, way: str = "http", **changes: Any) -> S3Settings:
    """What an operator would say; below a prefix that no other test has, unless `prefix` is among the changes."""
    encrypted = way != "http"
    values: dict[str, Any] = {
        "prefix": f"test-{os.getpid()}-{next(_NUMBERS)}",
        "endpoint_url": server.tls_endpoint if encrypted else server.endpoint,
        "ca_file": server.ca_file if encrypted else None,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        "data_plane": "boto3" if way == "boto3" else "own",
        "part_bytes": 5 << 20,
    }
    return S3Settings(bucket, **(values | changes))


@asynccontextmanager
async def opened(settings: S3Settings) -> AsyncIterator[Bucket]:
    """The bucket, ready, and closed again."""
    bucket = Bucket(settings, pool=Pool("s3", 8))
    try:
        await bucket.open()
        yield bucket
    finally:
        await bucket.aclose()
