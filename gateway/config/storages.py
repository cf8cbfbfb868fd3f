"""The named storages: a directory of this machine, or a bucket of an S3 service. `kind` says which.

Every key once, with its unit, its bounds and the reason for its default, as in `gateway.config.settings`.
"""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, SecretStr, Tag, ValidationInfo, field_validator

from gateway.config.fields import (
    BucketName,
    BytesOrNone,
    EndpointUrl,
    Network,
    Prefix,
    Section,
)

_MIB: Final = 2**20
_GIB: Final = 2**30
_LEAST_PART: Final = 5 * _MIB  # what S3 takes of any part but the last
_MOST_PART: Final = 512 * _MIB
_MOST_LIFETIME_S: Final = 7 * 86400  # S3 signs no URL for longer


class DirectoryStorage(Section):
    """A named storage in a directory."""

    kind: Literal["directory"] = Field("directory", description="The bytes lie in a directory of this machine.")
    path: Path | None = Field(None, description="Directory; default: storages/NAME below the data directory.")
    compression: Literal["off", "auto"] = Field(
        "off", description="Keep blobs that compress well as seekable zstd: saves disk, costs CPU at every pull."
    )


class S3Storage(Section):
    """A named storage in a bucket of an S3 service, with a part of it on local disk."""

    kind: Literal["s3"] = Field("s3", description="The bytes lie in a bucket; this key must be set for that.")
    bucket: BucketName = Field(description="Name of the bucket, which must exist.")
    prefix: Prefix = Field("", description="What all keys begin with, such as registry/main; empty: the whole bucket.")
    endpoint_url: EndpointUrl | None = Field(
        None, description="URL of the service, such as https://s3.example:9000; default: AWS in `region`."
    )
    region: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$")] = Field(
        "us-east-1", description="Region that requests are signed for; most services other than AWS take any."
    )
    addressing: Literal["path", "virtual"] = Field(
        "path", description="Whether the bucket stands in the path of URLs, or before the host's name."
    )
    access_key_id: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Id of the access key; default: what AWS tools find in environment, profile, web identity or role.",
    )
    secret_access_key: SecretStr | None = Field(
        None, validate_default=True, description="The secret of that access key; both or neither."
    )
    profile: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="Profile of the AWS configuration files to take credentials from, instead of an access key."
    )
    ca_file: Path | None = Field(None, description="PEM file with the authorities that signed the service's name.")
    data_plane: Literal["own", "boto3"] = Field(
        "own", description="Who moves the bytes: Sluice's own client, or boto3 in threads (slower, for odd services)."
    )
    connections: Annotated[int, Field(gt=0, le=10_000)] = Field(
        64, description="Open connections to the service per worker; each transfer takes one."
    )
    part_bytes: Annotated[int, Field(ge=_LEAST_PART, le=_MOST_PART)] = Field(
        8 * _MIB, description="Bytes of a part of an upload: 8 MiB; parts of blobs above 80 GB are larger."
    )
    parts_in_flight: Annotated[int, Field(gt=0, le=64)] = Field(
        4, description="Parts of one upload that are sent at once."
    )
    spool_bytes: Annotated[int, Field(ge=2 * _LEAST_PART, le=1 << 50)] = Field(
        2 * _GIB,
        description="Disk for bytes on their way to the bucket, per worker; an upload waits while there is no room.",
    )
    hot_bytes: BytesOrNone = Field(
        10 * _GIB,
        description="Disk for blobs that are pulled often, per machine: 10 GiB; 0 reads each from the bucket.",
    )
    hot_path: Path | None = Field(None, description="Their directory; default: hot/NAME below the data directory.")
    window_bytes: Annotated[int, Field(ge=_MIB, le=_GIB)] = Field(
        8 * _MIB,
        description="Bytes read at once of a large blob whose reader may leave in the middle; what can be wasted.",
    )
    parallel_get: Annotated[int, Field(gt=0, le=32)] = Field(
        1, description="Ranges of one large blob that are read at once; for services that limit each connection."
    )
    parallel_range_bytes: Annotated[int, Field(ge=_MIB, le=_GIB)] = Field(
        4 * _MIB, description="Bytes of each of these ranges; they are held in memory."
    )
    public_endpoint_url: EndpointUrl | None = Field(
        None, description="URL under which clients reach the service, for redirects; default: `endpoint_url`."
    )
    redirect_networks: tuple[Network, ...] = Field(
        (),
        description="Networks whose clients are redirected to the service for blobs of repositories that allow it; "
        "nobody by default, 0.0.0.0/0 and ::/0 are everybody.",
    )
    redirect_lifetime_s: Annotated[int, Field(ge=10, le=_MOST_LIFETIME_S)] = Field(
        60,
        description="Seconds in which the URL of a redirect must be used: whoever has it reads the blob. A transfer "
        "that has begun goes on; who begins again asks here first.",
    )
    lifecycle_days: Annotated[int, Field(gt=0, le=365)] = Field(
        7,
        description="Days after its first byte when the service itself drops an unfinished upload, where it takes "
        "rules: longer than any push takes, and at least a day more than garbage.upload_expiry_s, whatever stands "
        "here.",
    )

    @field_validator("secret_access_key")
    @classmethod
    def _both_or_none(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "access_key_id" in info.data and (info.data["access_key_id"] is None) != (value is None):
            raise ValueError("must be set together with access_key_id, or neither")
        return value

    @field_validator("spool_bytes")
    @classmethod
    def _holds_two_parts(cls, value: int, info: ValidationInfo) -> int:
        if value < 2 * info.data.get("part_bytes", 0):
            raise ValueError("must hold two parts of part_bytes: one is filled while another is sent")
        return value

    @field_validator("profile")
    @classmethod
    def _one_source(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("access_key_id") is not None:
            raise ValueError("must not be set together with access_key_id")
        return value


KINDS: Final = ("directory", "s3")
"""What `kind` can be; the first where it is not given."""
UNKNOWN_KIND: Final = "unknown_kind"
"""The type of pydantic's error for any other."""


def _kind(value: object) -> str | None:
    """The tag of a storage: what is no table is left to the first kind, which says so; None for no known kind."""
    kind = value.get("kind", KINDS[0]) if isinstance(value, dict) else getattr(value, "kind", KINDS[0])
    return kind if kind in KINDS else None


NamedStorage = Annotated[
    Annotated[DirectoryStorage, Tag("directory")] | Annotated[S3Storage, Tag("s3")],
    Discriminator(
        _kind,
        custom_error_type=UNKNOWN_KIND,
        custom_error_message=f"must be {' or '.join(repr(kind) for kind in KINDS)}",
    ),
]
