"""Bytes and rows: the narrow waist under the gateway.

What is exported here is what `gateway` may use, besides the modules of `storage.metadata`. Nothing in this package
knows HTTP, manifest JSON or policy.

What needs boto3 is imported when it is first asked for: that takes 0.1 s and 20 MB, and most installations and most
commands need no bucket.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from storage.arrivals import Arrivals, ArrivalsStatistics, Place
from storage.background import open_background
from storage.blobstore import BlobReader, BlobStore, OpenFile, Properties, Span, Staging, StoredObject
from storage.blocking import Pool, PoolStatistics
from storage.changes import Changes
from storage.checked_store import CheckedStore
from storage.content import Content, FoundBlob, TooManyUploads
from storage.damage import DamageReports, FoundDamage
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
from storage.eviction import Bounds, Eviction, EvictionReport
from storage.filesystem import FilesystemStore
from storage.fsck import Finding, Fsck, FsckTotals
from storage.hotset import HotSet
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from storage.intake_source import Source
from storage.memory import MemoryStore
from storage.moving import Move
from storage.moving_blobs import Installation, LostBlob, MoveTotals
from storage.rebuild import Rebuild, RebuildTotals
from storage.records import (
    FRONT_DOOR,
    AccountRecord,
    AddressKind,
    BlobRecord,
    BudgetRecord,
    CheckRecord,
    ColdManifest,
    CredentialRecord,
    Document,
    Door,
    GrantRecord,
    ImageRecord,
    ManifestRecord,
    MemberRecord,
    ProjectRecord,
    ReferenceRecord,
    RepositoryRecord,
    SigningKeyRecord,
    TagRecord,
    UploadRecord,
    WarmUpRecord,
)
from storage.s3.settings import S3Settings
from storage.s3.stagings import Stagings
from storage.scrub import Scrub, ScrubSettings
from storage.sweep import Sweep, SweepReport, SweepSettings
from storage.upload import Upload

if TYPE_CHECKING:
    from storage.s3.bucket import Bucket
    from storage.s3.store import S3Store
    from storage.spool import Spool

_LATER = {"Bucket": "storage.s3.bucket", "S3Store": "storage.s3.store", "Spool": "storage.spool"}

__all__ = [
    "CANONICAL",
    "FRONT_DOOR",
    "HEX_LENGTHS",
    "AccountRecord",
    "AddressKind",
    "Arrivals",
    "ArrivalsStatistics",
    "BlobReader",
    "BlobRecord",
    "BlobStore",
    "BlobUnknown",
    "Bounds",
    "Bucket",
    "BudgetRecord",
    "Busy",
    "Changes",
    "CheckRecord",
    "CheckedStore",
    "ColdManifest",
    "Conflict",
    "Content",
    "CredentialRecord",
    "DamageReports",
    "Damaged",
    "Database",
    "Digest",
    "DigestInvalid",
    "DigestMismatch",
    "Document",
    "Door",
    "Eviction",
    "EvictionReport",
    "FilesystemStore",
    "Finding",
    "FoundBlob",
    "FoundDamage",
    "Fsck",
    "FsckTotals",
    "GrantRecord",
    "Hasher",
    "HotSet",
    "HotSetStore",
    "ImageRecord",
    "Installation",
    "Intakes",
    "LostBlob",
    "ManifestRecord",
    "MemberRecord",
    "MemoryStore",
    "Move",
    "MoveTotals",
    "NotFound",
    "OpenFile",
    "Place",
    "Pool",
    "PoolStatistics",
    "PostgresDatabase",
    "ProjectRecord",
    "Properties",
    "Rebuild",
    "RebuildTotals",
    "ReferenceRecord",
    "RepositoryRecord",
    "S3Settings",
    "S3Store",
    "Scrub",
    "ScrubSettings",
    "SigningKeyRecord",
    "Source",
    "Span",
    "Spool",
    "SqliteDatabase",
    "Staging",
    "Stagings",
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
    "WarmUpRecord",
    "open_background",
]


def __getattr__(name: str) -> Any:
    """What is imported late; type checkers see it above."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
