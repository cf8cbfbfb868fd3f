"""Bytes and rows: the narrow waist under the gateway.

What is exported here is what `gateway` may use, besides the modules of `storage.metadata`. Nothing in this package
knows HTTP, manifest JSON or policy.
"""

from storage.blobstore import BlobReader, BlobStore, OpenFile, Properties, Span, Staging, StoredObject
from storage.blocking import Pool, PoolStatistics
from storage.database import Database, Transaction
from storage.digest import CANONICAL, HEX_LENGTHS, Digest, DigestInvalid, Hasher
from storage.errors import (
    BlobUnknown,
    Busy,
    Conflict,
    Damaged,
    DigestMismatch,
    NotFound,
    OffsetMismatch,
    StorageError,
    StorageFull,
    Unavailable,
    UploadUnknown,
)
from storage.records import (
    AccountRecord,
    BlobRecord,
    CredentialRecord,
    Document,
    GrantRecord,
    ImageRecord,
    ManifestRecord,
    ProjectRecord,
    ReferenceRecord,
    RepositoryRecord,
    SigningKeyRecord,
    TagRecord,
    UploadRecord,
)

__all__ = [
    "CANONICAL",
    "HEX_LENGTHS",
    "AccountRecord",
    "BlobReader",
    "BlobRecord",
    "BlobStore",
    "BlobUnknown",
    "Busy",
    "Conflict",
    "CredentialRecord",
    "Damaged",
    "Database",
    "Digest",
    "DigestInvalid",
    "DigestMismatch",
    "Document",
    "GrantRecord",
    "Hasher",
    "ImageRecord",
    "ManifestRecord",
    "NotFound",
    "OffsetMismatch",
    "OpenFile",
    "Pool",
    "PoolStatistics",
    "ProjectRecord",
    "Properties",
    "ReferenceRecord",
    "RepositoryRecord",
    "SigningKeyRecord",
    "Span",
    "Staging",
    "StorageError",
    "StorageFull",
    "StoredObject",
    "TagRecord",
    "Transaction",
    "Unavailable",
    "UploadRecord",
    "UploadUnknown",
]
