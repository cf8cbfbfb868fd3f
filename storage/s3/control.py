"""The control plane: boto3, in the words of this package. The only file that knows boto3 and botocore.

Every method blocks: call it in a pool. Keys are whole (with the prefix). Nothing is repeated here: each call is one
request, and what goes wrong is a `storage.s3.failures.Trouble`. Untyped values of boto3 do not leave this file.
"""

import hashlib
import os
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol

import boto3
from botocore import exceptions as botocore_errors
from botocore.config import Config

from storage.blobstore import Span
from storage.s3.bucket_objects import ObjectInfo, UploadPart, range_of, total_of, unquoted
from storage.s3.failures import Refused, Unreached
from storage.s3.settings import S3Settings
from storage.transfer.signing import Credentials

_CONNECT_S: Final = 5.0
_READ_S: Final = 30.0  # idle, per read of the socket
BATCH: Final = 1000
"""The most keys that one removal takes, and that one page of a listing has."""

# Having no rules is an error to S3.
_NO_RULES: Final = frozenset({"NoSuchLifecycleConfiguration", "NoSuchLifecycle"})

_NEVER_LEFT: Final = (
    botocore_errors.EndpointConnectionError,
    botocore_errors.ConnectTimeoutError,
    botocore_errors.ProxyConnectionError,
)
_BROKEN: Final = (botocore_errors.ConnectionError, botocore_errors.HTTPClientError)

Rules = list[dict[str, object]]
"""Lifecycle rules as S3 says them; those of others pass through as they are."""


class Body(Protocol):
    """What a slow upload reads from: blocking, like a file."""

    def read(self, size_bytes: int = -1, /) -> bytes:
        """The next bytes; empty at the end."""
        ...


class Opened:
    """The answer to a GET, read by blocking calls; close it."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self._body = answer["Body"]
        self.size_bytes = int(answer["ContentLength"])
        total = total_of(answer.get("ContentRange", ""))
        self.total_bytes = self.size_bytes if total is None else total
        self.etag = unquoted(answer.get("ETag", ""))

    def read(self, size_bytes: int) -> bytes:
        """Up to so many bytes; empty at the end. Raises `Unreached` when the connection ends early."""
        with _trouble():
            return bytes(self._body.read(size_bytes))

    def close(self) -> None:
        """Close the connection if anything is left to come."""
        self._body.close()


class Control:
    """One client of one bucket, for any number of threads. `connect` before anything else."""

    def __init__(self, settings: S3Settings, *, connections: int) -> None:
        self._settings = settings
        self._connections = connections
        self._client: Any = None
        self._credentials: Any = None
        self.endpoint_url = settings.endpoint_url or ""

    def connect(self) -> None:
        """Make the client (0.2 s of CPU) and find credentials; repeating it is fine. Speaks to no S3 yet."""
        settings = self._settings
        with _trouble():
            session = boto3.Session(
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=settings.secret_access_key,
                profile_name=settings.profile,
                region_name=settings.region,
            )
            self._credentials = session.get_credentials()
            if self._credentials is None:
                raise Unreached(_NO_CREDENTIALS, passes=False)
            client = session.client(
                "s3",
                endpoint_url=settings.endpoint_url,
                verify=certificates(settings),
                config=_config(settings, connections=self._connections),
            )
            client.meta.events.register("before-call.s3.DeleteObjects", _add_content_md5)
        self.endpoint_url = client.meta.endpoint_url
        self._client = client

    def close(self) -> None:
        """Close idle connections."""
        if self._client is not None:
            self._client.close()

    # --- credentials ------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """Where the credentials come from, for messages."""
        if self._settings.access_key_id is not None:
            return "the configuration"
        method = str(getattr(self._credentials, "method", "nowhere"))
        return f"AWS's chain ({method})"

    def credentials(self) -> Credentials:
        """The credentials of now; refreshed from their source in time (botocore does so 10 to 15 minutes before)."""
        with _trouble():
            frozen = self._credentials.get_frozen_credentials()
        if not frozen.access_key or not frozen.secret_key:
            raise Unreached(_NO_CREDENTIALS, passes=False)
        return Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token or None)

    # --- multipart uploads ------------------------------------------------------------------------------------------

    def create(self, key: str) -> str:
        """Begin a multipart upload; its id."""
        return str(self._ask("create_multipart_upload", Key=key)["UploadId"])

    def complete(self, key: str, upload_id: str, parts: Sequence[tuple[int, str]]) -> None:
        """Make the object; an error that comes with status 200 is an error."""
        listed = [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in parts]
        self._ask("complete_multipart_upload", Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed})

    def abort(self, key: str, upload_id: str) -> None:
        """Drop an upload and its parts."""
        self._ask("abort_multipart_upload", Key=key, UploadId=upload_id)

    def list_parts(self, key: str, upload_id: str, after: int) -> tuple[list[tuple[int, int, str]], int | None]:
        """Some parts behind number `after` as (number, size in bytes, ETag), and what to ask on with."""
        page = self._ask("list_parts", Key=key, UploadId=upload_id, PartNumberMarker=after)
        parts = [(int(part["PartNumber"]), int(part["Size"]), unquoted(part["ETag"])) for part in page.get("Parts", ())]
        return parts, int(page["NextPartNumberMarker"]) if page.get("IsTruncated") else None

    def copy_part(self, key: str, part: UploadPart, *, source: str, span: Span) -> str:
        """Make a part of bytes of another object; its ETag."""
        answer = self._ask(
            "upload_part_copy",
            Key=key,
            UploadId=part.upload_id,
            PartNumber=part.number,
            CopySource={"Bucket": self._settings.bucket, "Key": source},
            CopySourceRange=range_of(span),
        )
        return unquoted(answer["CopyPartResult"]["ETag"])

    # --- objects ----------------------------------------------------------------------------------------------------

    def copy(self, source: str, target: str) -> None:
        """Copy an object of up to 5 GiB on the store's side."""
        self._ask("copy_object", Key=target, CopySource={"Bucket": self._settings.bucket, "Key": source})

    def delete(self, key: str) -> None:
        """Remove one object; an absent one is fine."""
        self._ask("delete_object", Key=key)

    def delete_batch(self, keys: Sequence[str]) -> None:
        """Remove up to `BATCH` objects; raises for the first that could not be."""
        answer = self._ask("delete_objects", Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
        for error in answer.get("Errors", ()):
            if error.get("Code") != "NoSuchKey":
                raise Refused(200, str(error.get("Code")), str(error.get("Message", "")))

    def list_objects(self, prefix: str, after: str, token: str | None) -> tuple[list[ObjectInfo], str | None]:
        """Some objects, ascending, and the token of the next page."""
        more = {"ContinuationToken": token} if token else {"StartAfter": after} if after else {}
        page = self._ask("list_objects_v2", Prefix=prefix, MaxKeys=BATCH, **more)
        found = [
            ObjectInfo(item["Key"], int(item["Size"]), unquoted(item.get("ETag", "")), _seconds(item["LastModified"]))
            for item in page.get("Contents", ())
        ]
        return found, page.get("NextContinuationToken") if page.get("IsTruncated") else None

    def list_uploads(
        self, prefix: str, after: tuple[str, str]
    ) -> tuple[list[tuple[str, str, int]], tuple[str, str] | None]:
        """Some unfinished uploads as (key, upload id, begun at), and what to ask on with."""
        more = {"KeyMarker": after[0], "UploadIdMarker": after[1]} if after[0] else {}
        page = self._ask("list_multipart_uploads", Prefix=prefix, MaxUploads=BATCH, **more)
        found = [(item["Key"], item["UploadId"], _seconds(item["Initiated"])) for item in page.get("Uploads", ())]
        following = (page.get("NextKeyMarker", ""), page.get("NextUploadIdMarker", ""))
        return found, following if page.get("IsTruncated") and following[0] else None

    # --- the bucket -------------------------------------------------------------------------------------------------

    def lifecycle(self) -> Rules:
        """All rules of the bucket, whoever made them."""
        try:
            return list(self._ask("get_bucket_lifecycle_configuration").get("Rules", ()))
        except Refused as refused:
            if refused.code in _NO_RULES:
                return []
            raise

    def put_lifecycle(self, rules: Rules) -> None:
        """Replace all rules of the bucket."""
        self._ask("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules})

    # --- the slow data plane ----------------------------------------------------------------------------------------

    def put(self, key: str, body: Body | bytes, size_bytes: int, *, part: UploadPart | None, if_absent: bool) -> str:
        """Write an object, or a part of one, from a blocking body of exactly this size; its ETag."""
        if part is not None:
            answer = self._ask(
                "upload_part",
                Key=key,
                Body=body,
                ContentLength=size_bytes,
                UploadId=part.upload_id,
                PartNumber=part.number,
            )
        else:
            condition = {"IfNoneMatch": "*"} if if_absent else {}
            answer = self._ask("put_object", Key=key, Body=body, ContentLength=size_bytes, **condition)
        return unquoted(answer["ETag"])

    def open(self, key: str, span: Span | None) -> Opened:
        """Begin to read an object or a span of it."""
        return Opened(self._ask("get_object", Key=key, **({} if span is None else {"Range": range_of(span)})))

    def head(self, key: str) -> ObjectInfo:
        """Look at an object. The code of an error is a guess of its status: HEAD has no body."""
        answer = self._ask("head_object", Key=key)
        modified_at = _seconds(answer["LastModified"])
        return ObjectInfo(key, int(answer["ContentLength"]), unquoted(answer.get("ETag", "")), modified_at)

    def _ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        with _trouble():
            answer: Mapping[str, Any] = getattr(self._client, operation)(Bucket=self._settings.bucket, **parameters)
        return answer


def certificates(settings: S3Settings) -> str | None:
    """The file of certificates to trust: the setting's, what AWS's tools would take, or None for the system's.

    Both planes ask here, so that they trust the same.
    """
    return str(settings.ca_file) if settings.ca_file is not None else os.environ.get("AWS_CA_BUNDLE") or None


_NO_CREDENTIALS: Final = (
    "no credentials were found; set access_key_id and secret_access_key, or give the process an environment, profile"
    " or role that has some"
)


def _config(settings: S3Settings, *, connections: int) -> Config:
    """Unsigned payloads and no checksums unless S3 demands them: the defaults fail on Ceph over https (411)."""
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing, "payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        max_pool_connections=connections,
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        tcp_keepalive=True,
        # Our own data plane knows no proxy: both go the same way.
        proxies={} if settings.data_plane == "own" else None,
    )


def _add_content_md5(params: dict[str, Any], **_: object) -> None:
    """Swift demands Content-MD5 where newer versions of boto3 send only a checksum of another kind."""
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()


@contextmanager
def _trouble() -> Iterator[None]:
    """Map everything that botocore raises."""
    try:
        yield
    except botocore_errors.ClientError as error:
        raise _refused(error) from error
    except _NEVER_LEFT as error:
        raise Unreached(f"cannot connect: {error}", nothing_sent=True) from error
    except _BROKEN as error:
        raise Unreached(f"the connection broke: {error}") from error
    except (botocore_errors.IncompleteReadError, botocore_errors.ResponseStreamingError) as error:
        raise Unreached(f"the answer ended early: {error}") from error
    except botocore_errors.BotoCoreError as error:  # a profile that does not exist, credentials that cannot be fetched
        raise Unreached(str(error), passes=False) from error


def _refused(error: Any) -> Refused:
    answer = error.response
    metadata = answer.get("ResponseMetadata", {})
    details = answer.get("Error", {})
    region = details.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region", "")
    status = int(metadata.get("HTTPStatusCode", 0))
    return Refused(status, str(details.get("Code") or "Unknown"), str(details.get("Message") or ""), region=region)


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
