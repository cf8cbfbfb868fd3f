"""Bytes and rows: the narrow waist under the gateway.

What is exported here is what `gateway` may use, besides the modules of `storage.metadata`. Nothing in this package
knows HTTP, manifest JSON or policy.
"""

from storage.blobstore import BlobReader, BlobStore, OpenFile, Properties, Span, Staging, StoredObject
from storage.blocking import Pool, PoolStatistics
from storage.changes import Changes
from storage.content import Content, FoundBlob, TooManyUploads
from storage.database import Database, Transaction
from storage.database_embedded import SqliteDatabase
from storage.database_postgres import PostgresDatabase
from storage.digest import CANONICAL, HEX_LENGTHS, Digest, DigestInvalid, Hasher
from storage.errors import (
    BlobUnknown,
    Busy,
    Conflict,
    Damaged,
    DigestMismatch,
    NotFound,
    StorageError,
    StorageFull,
    Unavailable,
    UploadUnknown,
)
from storage.filesystem import FilesystemStore
from storage.fsck import Finding, Fsck, FsckTotals
from storage.memory import MemoryStore
from storage.moving import Move
from storage.moving_blobs import Installation, LostBlob, MoveTotals
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
from storage.sweep import Sweep, SweepReport, SweepSettings
from storage.upload import Upload

__all__ = [
    "CANONICAL",
    "HEX_LENGTHS",
    "AccountRecord",
    "BlobReader",
    "BlobRecord",
    "BlobStore",
    "BlobUnknown",
    "Busy",
    "Changes",
    "Conflict",
    "Content",
    "CredentialRecord",
    "Damaged",
    "Database",
    "Digest",
    "DigestInvalid",
    "DigestMismatch",
    "Document",
    "FilesystemStore",
    "Finding",
    "FoundBlob",
    "Fsck",
    "FsckTotals",
    "GrantRecord",
    "Hasher",
    "ImageRecord",
    "Installation",
    "LostBlob",
    "ManifestRecord",
    "MemoryStore",
    "Move",
    "MoveTotals",
    "NotFound",
    "OpenFile",
    "Pool",
    "PoolStatistics",
    "PostgresDatabase",
    "ProjectRecord",
    "Properties",
    "ReferenceRecord",
    "RepositoryRecord",
    "SigningKeyRecord",
    "Span",
    "SqliteDatabase",
    "Staging",
    "StorageError",
    "StorageFull",
    "StoredObject",
    "Sweep",
    "SweepReport",
    "SweepSettings",
    "TagRecord",
    "TooManyUploads",
    "Transaction",
    "Unavailable",
    "Upload",
    "UploadRecord",
    "UploadUnknown",
]
