"""What tests know of a running S3 service: where it is, who may use it, and how to look into its buckets.

The view is boto3's, from outside of Sluice, so that what a test finds there does not pass the code under test.
"""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import trustme
from botocore.config import Config

REGION: Final = "us-east-1"


@dataclass(frozen=True, slots=True)
class S3Server:
    """A running service. `tls_endpoint` is the same over https, with a certificate that only `ca_file` vouches for."""

    endpoint: str
    tls_endpoint: str | None
    ca_file: Path | None
    access_key_id: str
    secret_access_key: str
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def new_bucket(self) -> str:
        """The name of a new, empty bucket that no other test has."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self, endpoint: str | None = None) -> Any:
        """A boto3 client that tries once and sends neither checksums nor signed bodies."""
        config = Config(
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            signature_version="s3v4",
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
        )
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            verify=str(self.ca_file) if self.ca_file else None,
            config=config,
        )

    def objects(self, bucket: str, prefix: str = "") -> dict[str, int]:
        """Every key below the prefix with its size in bytes."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}

    def uploads(self, bucket: str) -> list[tuple[str, str]]:
        """Every multipart upload that was neither completed nor aborted: key and upload id."""
        pages = self.client().get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
        return [(entry["Key"], entry["UploadId"]) for page in pages for entry in page.get("Uploads", [])]

    def content(self, bucket: str, key: str) -> bytes:
        """The bytes of an object."""
        return bytes(self.client().get_object(Bucket=bucket, Key=key)["Body"].read())

    def overwrite(self, bucket: str, key: str, content: bytes) -> None:
        """Put other bytes in the place of an object, as a fault of the service would."""
        self.client().put_object(Bucket=bucket, Key=key, Body=content)


def private_authority(folder: Path) -> tuple[Path, Path]:
    """A certificate authority's file and a file with a key and certificate of it for 127.0.0.1 and localhost."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    ca_file, both = folder / "ca.pem", folder / "certificate.pem"
    authority.cert_pem.write_to_path(ca_file)
    both.touch(mode=0o600)
    issued.private_key_and_cert_chain_pem.write_to_path(both)
    return ca_file, both
