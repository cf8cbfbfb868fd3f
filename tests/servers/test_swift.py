"""The second S3 service that other tests rely on: it keeps objects and knows no conditional writes."""

import pytest
from botocore.exceptions import ClientError

from tests.servers.bucket_server import S3Server


@pytest.mark.slow
def test_an_object_is_kept_and_no_condition_taken(swift: S3Server) -> None:
    """What is put is listed and read; a write that may not replace is refused as not implemented."""
    bucket = swift.new_bucket()
    swift.client().put_object(Bucket=bucket, Key="a/key", Body=b"content")

    assert swift.objects(bucket) == {"a/key": 7}
    assert swift.content(bucket, "a/key") == b"content"
    with pytest.raises(ClientError, match="NotImplemented"):
        swift.client().put_object(Bucket=bucket, Key="a/key", Body=b"another", IfNoneMatch="*")
