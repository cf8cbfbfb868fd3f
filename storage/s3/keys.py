"""Names of everything that the S3 store keeps in a bucket, relative to the prefix. Does no I/O.

    blobs/<id[:2]>/<id>                                    the bytes of one blob
    markers/sha256/<hex>/<id>.<size_bytes>.<created_at>    empty; listing them rebuilds the rows
    staging/<staging id>/<offset, 20 digits>-<random>      bytes of an upload that are no part of an object yet
    quarantine/sha256/<hex>/<id>.<size_bytes>.<created_at> the bytes of a damaged blob
    probe/<random>/<what>                                  what was written to learn the store's abilities

The id of an object is random and made before its digest is known, so a commit copies nothing (docs/decisions/0012). The
key that a row holds is `sha256/<hex>/<id>.<size_bytes>.<created_at>`: it tells everything without a lookup, and is
never made twice.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Final, Self

from storage.blobstore import StoredObject
from storage.digest import CANONICAL, Digest
from storage.errors import BlobUnknown

BLOBS: Final = "blobs/"
MARKERS: Final = "markers/"
STAGING: Final = "staging/"
QUARANTINE: Final = "quarantine/"
PROBE: Final = "probe/"
IDENTITY: Final = "identity"

_MOST_CHARACTERS: Final = 200
_OBJECT_ID: Final = re.compile(r"[0-9a-z-]{1,80}")
_ROW_KEY: Final = re.compile(r"sha256/([0-9a-f]{64})/([0-9a-z-]{1,80})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,11})")
_SEGMENT: Final = re.compile(r"staging/([0-9a-z-]{1,64})/([0-9]{20})-[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ObjectName:
    """One published object: its digest (sha256), its id (1 to 80 of [0-9a-z-]), its size, and when it was published.

    `created_at` (Unix seconds) is said by who publishes, and the same when that is repeated: the bucket's own times
    differ between the bytes and the marker.
    """

    digest: Digest
    object_id: str
    size_bytes: int
    created_at: int

    def __post_init__(self) -> None:
        if self.digest.algorithm != CANONICAL:
            raise ValueError(f"objects are named by sha256, not {self.digest.algorithm}")
        check_object_id(self.object_id)

    @classmethod
    def parse(cls, key: str) -> Self:
        """Read a row's key; `BlobUnknown` for any that this store cannot have made."""
        match = _ROW_KEY.fullmatch(key) if len(key) <= _MOST_CHARACTERS else None
        if match is None:
            raise BlobUnknown(f"no object has the key {key[:80]!r}")
        return cls(Digest(CANONICAL, match[1]), match[2], int(match[3]), int(match[4]))

    @property
    def key(self) -> str:
        """The key that the row holds."""
        return f"{CANONICAL}/{self.digest.hex}/{self.object_id}.{self.size_bytes}.{self.created_at}"

    @property
    def blob(self) -> str:
        """Where the bytes lie."""
        return blob_key(self.object_id)

    @property
    def marker(self) -> str:
        """Where the empty object lies that says: this one was published."""
        return f"{MARKERS}{self.key}"

    @property
    def aside(self) -> str:
        """Where the bytes lie once they are known to be damaged."""
        return f"{QUARANTINE}{self.key}"

    @property
    def stored(self) -> StoredObject:
        """The object as its name tells of it; kept as it is, never compressed."""
        return StoredObject(self.key, self.digest, self.size_bytes, self.size_bytes, IDENTITY, self.created_at)


def marked(key: str) -> ObjectName | None:
    """The object that a listed marker speaks of; None for a key that this store did not make."""
    try:
        return ObjectName.parse(key.removeprefix(MARKERS))
    except BlobUnknown:
        return None


def check_object_id(object_id: str) -> str:
    """Give back a well-formed id; ValueError for any other, which is a mistake of the caller."""
    if not _OBJECT_ID.fullmatch(object_id):
        raise ValueError(f"malformed object id {object_id[:80]!r}: expected 1 to 80 of [0-9a-z-]")
    return object_id


def blob_key(object_id: str) -> str:
    """Where the bytes of an object lie, its digest being known or not."""
    return f"{BLOBS}{check_object_id(object_id)[:2]}/{object_id}"


def object_id_of(blob: str) -> str | None:
    """The id in the key of an object's bytes; None for a key that this store did not make."""
    object_id = blob.rpartition("/")[2]
    return object_id if _OBJECT_ID.fullmatch(object_id) and blob == blob_key(object_id) else None


def segment_key(staging_id: str, offset: int) -> str:
    """Where bytes of an upload from `offset` on lie, until they become part of an object; another one each time.

    A holder that was cut off may write late: never where its successor keeps other bytes.
    """
    return f"{STAGING}{staging_id}/{offset:020d}-{uuid.uuid4().hex}"


def segment_of(key: str) -> tuple[str, int] | None:
    """Staging id and offset in the key of a segment; None for a key that this store did not make."""
    match = _SEGMENT.fullmatch(key)
    return None if match is None else (match[1], int(match[2]))
