"""The S3 service that other tests rely on answers as one does."""

import urllib.error
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tests.servers.bucket_server import S3Server

pytestmark = pytest.mark.slow


def test_an_object_is_kept_and_seen_from_both_sides(radosgw: S3Server, bucket: str) -> None:
    """What is put over http is read over https, where only its own authority vouches for it."""
    radosgw.client().put_object(Bucket=bucket, Key="a/key", Body=b"content")

    assert radosgw.client(radosgw.tls_endpoint).get_object(Bucket=bucket, Key="a/key")["Body"].read() == b"content"
    assert radosgw.objects(bucket) == {"a/key": 7}
    assert radosgw.tls_endpoint is not None
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(radosgw.tls_endpoint, timeout=10)  # noqa: S310 - https, as just said


def test_a_wrong_secret_is_refused(radosgw: S3Server, bucket: str) -> None:
    """Requests are authenticated: a test that forgets to sign fails."""
    session = radosgw.client()
    session._request_signer._credentials.secret_key = "another"

    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        session.list_objects_v2(Bucket=bucket)


def test_buckets_are_apart(radosgw: S3Server, bucket: str) -> None:
    """A bucket that a test asks for is empty and nobody else's."""
    other = radosgw.new_bucket()
    radosgw.client().put_object(Bucket=other, Key="key", Body=b"")

    assert other != bucket
    assert radosgw.objects(bucket) == {}
    assert radosgw.uploads(bucket) == []
