"""Requests that a real client sends to a real service are known by their operations, and its errors are understood."""

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError

from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import ERROR_IN_200, INTERNAL, SLOW_DOWN, asks, operations
from tests.servers.bucket_server import S3Server

pytestmark = pytest.mark.slow

MIB = 1 << 20


@pytest.fixture
def proxy(radosgw: S3Server) -> Iterator[FaultProxy]:
    """A proxy in front of the service."""
    with FaultProxy(urlsplit(radosgw.endpoint).port or 0) as running:
        yield running


def test_operations_are_told_apart(radosgw: S3Server, bucket: str, proxy: FaultProxy) -> None:
    """Each call of a client is one request of that name."""
    client = radosgw.client(proxy.endpoint)
    client.put_object(Bucket=bucket, Key="one", Body=b"content")
    client.head_object(Bucket=bucket, Key="one")
    client.get_object(Bucket=bucket, Key="one")["Body"].read()
    client.copy_object(Bucket=bucket, Key="two", CopySource=f"{bucket}/one")
    upload = {"Bucket": bucket, "Key": "many"}
    upload["UploadId"] = client.create_multipart_upload(Bucket=bucket, Key="many")["UploadId"]
    first = client.upload_part(**upload, PartNumber=1, Body=b"x" * 5 * MIB)["ETag"]
    last = client.upload_part_copy(**upload, PartNumber=2, CopySource=f"{bucket}/one")["CopyPartResult"]["ETag"]
    client.list_parts(**upload)
    parts = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": last}]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    other = client.create_multipart_upload(Bucket=bucket, Key="other")["UploadId"]
    client.abort_multipart_upload(Bucket=bucket, Key="other", UploadId=other)
    client.list_objects_v2(Bucket=bucket)
    client.list_multipart_uploads(Bucket=bucket)
    client.delete_object(Bucket=bucket, Key="two")
    client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "one"}]})
    client.head_bucket(Bucket=bucket)

    assert operations(proxy.exchanges) == Counter(
        {
            "PutObject": 1,
            "HeadObject": 1,
            "GetObject": 1,
            "CopyObject": 1,
            "CreateMultipartUpload": 2,
            "UploadPart": 1,
            "UploadPartCopy": 1,
            "ListParts": 1,
            "CompleteMultipartUpload": 1,
            "AbortMultipartUpload": 1,
            "ListObjects": 1,
            "ListMultipartUploads": 1,
            "DeleteObject": 1,
            "DeleteObjects": 1,
            "HeadBucket": 1,
        }
    )
    assert radosgw.objects(bucket) == {"many": 5 * MIB + 7}


def test_errors_are_understood(radosgw: S3Server, bucket: str, proxy: FaultProxy) -> None:
    """A client that tries once reads the codes of canned errors, also of the one that comes with status 200."""
    client = radosgw.client(proxy.endpoint)
    proxy.harm(SLOW_DOWN, asks("PutObject"))
    proxy.harm(INTERNAL, asks("GetObject"))
    proxy.harm(ERROR_IN_200, asks("CopyObject"))

    with pytest.raises(ClientError, match="SlowDown"):
        client.put_object(Bucket=bucket, Key="one", Body=b"content")
    with pytest.raises(ClientError, match="InternalError"):
        client.get_object(Bucket=bucket, Key="one")
    with pytest.raises(ClientError, match="InternalError"):
        client.copy_object(Bucket=bucket, Key="two", CopySource=f"{bucket}/one")

    assert radosgw.objects(bucket) == {}
