"""An installation's database and stores, from its settings: the one place where these are opened.

For workers, for commands that run beside them, and for moves from one installation to another. Knows what is
configured and in which order things open and close; not what anybody does with them. Whoever opens one gets what is
wrong with it as a storage error whose message says what to do.
"""

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from gateway.config import DirectoryStorage, S3Storage, Settings
from gateway.logs import get_logger
from storage import (
    BlobStore,
    CheckedStore,
    Database,
    FilesystemStore,
    HotSet,
    HotSetStore,
    Intakes,
    Pool,
    PostgresDatabase,
    S3Settings,
    SqliteDatabase,
    Stagings,
    StorageError,
    Unavailable,
)
from storage.metadata import storages

if TYPE_CHECKING:  # boto3 takes a quarter of the time that a command needs to start
    from storage import S3Store

_DAY_S: Final = 86400
_CONTROL_THREADS: Final = 16
"""Calls to one bucket's control plane at once: completions, deletions, listings; each waits for the service."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """Open stores by their names. `all` is what blobs are read and written through; the others are parts of that."""

    all: Mapping[str, BlobStore]
    buckets: Mapping[str, "S3Store"] = field(default_factory=dict)
    hot: Mapping[str, HotSetStore] = field(default_factory=dict)
    """Those of the buckets that have a hot set in front of them, by the same names."""
    checked: Mapping[str, CheckedStore] = field(default_factory=dict)
    """Those that check what they get from a bucket, by the same names: all that have a hot set, and the others, too."""
    notes: Sequence[tuple[str, str]] = ()
    """What a service cannot do and what that costs, each with the name of its storage."""


def database_of(settings: Settings) -> Database:
    """The database that the settings name, not opened. Raises `Unavailable` if it needs what is not installed."""
    url = settings.storage.database_url
    if url is None:
        return SqliteDatabase(settings.storage.database_file)
    return PostgresDatabase(url.get_secret_value(), connections=settings.storage.database_connections)


@asynccontextmanager
async def open_stores(
    settings: Settings, database: Database, *, hot: bool, clock: Callable[[], float] = time.time
) -> AsyncIterator[Stores]:
    """Open every store of an installation whose `database` is open and migrated; they are closed on leaving.

    `hot`: for who serves pulls: what comes from buckets is checked, and kept in hot sets where they have one. Raises
    `Unavailable` for a store that cannot be reached, or that cannot be what the database knows of.
    """
    disk = Pool("disk", settings.storage.threads)
    found: dict[str, BlobStore] = {}
    buckets: dict[str, S3Store] = {}
    fronts: dict[str, HotSetStore] = {}
    checked: dict[str, CheckedStore] = {}
    notes: list[tuple[str, str]] = []
    async with AsyncExitStack() as stack:
        intakes: Intakes | None = None
        for name, section in settings.storage.storages.items():
            match section:
                case DirectoryStorage():
                    found[name] = await _open_directory(settings, name, section, database=database, disk=disk)
                case S3Storage():
                    bucket, lacks = await stack.enter_async_context(
                        _open_bucket(settings, name, section, database=database, clock=clock)
                    )
                    notes += [(name, each) for each in lacks]
                    found[name] = buckets[name] = bucket
                    if hot:
                        if intakes is None:
                            intakes = await stack.enter_async_context(Intakes.open())
                        found[name] = checked[name] = CheckedStore(bucket, intakes)
                        front: HotSetStore | None = None
                        if section.hot_bytes:
                            front = await _with_hot_set(settings, name, section, bucket, intakes=intakes)
                        if front is not None:
                            found[name] = checked[name] = fronts[name] = front
        yield Stores(found, buckets, fronts, checked, notes)


# --- directories -----------------------------------------------------------------------------------------------------


async def _open_directory(
    settings: Settings, name: str, section: DirectoryStorage, *, database: Database, disk: Pool
) -> FilesystemStore:
    path = settings.storage.directory(name)
    store = FilesystemStore(path, pool=disk, compression=section.compression)
    if await store.is_blank() and (known := await database.survey(storages.blob_count, name)):
        raise Unavailable(
            f"the storage {name} at {path} is empty but the database knows {known} blobs in it: is the volume mounted?"
        )
    await store.prepare()
    return store


# --- buckets ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _open_bucket(
    settings: Settings, name: str, section: S3Storage, *, database: Database, clock: Callable[[], float]
) -> AsyncIterator[tuple["S3Store", Sequence[str]]]:
    """The store, closed on leaving (what is in flight then ends as if the connection broke), and what it cannot do."""
    from storage import Bucket, S3Store, Spool  # noqa: PLC0415 - as above

    bucket = Bucket(_s3_settings(settings, section), pool=Pool(f"s3-{name}", _CONTROL_THREADS))
    disk = Pool(f"spool-{name}", settings.storage.threads)
    spool = Spool(settings.storage.spool / name, budget_bytes=section.spool_bytes, pool=disk)
    store = S3Store(bucket, Stagings(database, name, clock=clock), spool=spool, clock=clock)
    async with aclosing(store):
        await spool.prepare()
        await store.prepare()
        if await _is_blank(store) and (known := await database.survey(storages.blob_count, name)):
            raise Unavailable(
                f"the storage {name} in {_place(section)} is empty but the database knows {known} blobs in it: "
                "are bucket, prefix and endpoint_url the right ones?"
            )
        try:
            yield store, bucket.abilities.notes
        finally:
            spool.close()


async def _is_blank(store: "S3Store") -> bool:
    """Whether nothing was ever published there; asks for one page of a listing."""
    async with store.scan() as found:
        return await anext(found, None) is None


def _place(section: S3Storage) -> str:
    where = section.endpoint_url or f"AWS, {section.region}"
    return f"bucket {section.bucket}{f', prefix {section.prefix}' if section.prefix else ''} ({where})"


def _s3_settings(settings: Settings, section: S3Storage) -> S3Settings:
    """The part of a section that the store knows, under the same names."""
    secret = section.secret_access_key
    kept_days = 1 + math.ceil(settings.garbage.upload_expiry_s / _DAY_S)  # no rule may end an upload that is open
    return S3Settings(
        bucket=section.bucket,
        prefix=section.prefix,
        endpoint_url=section.endpoint_url,
        region=section.region,
        addressing=section.addressing,
        access_key_id=section.access_key_id,
        secret_access_key=None if secret is None else secret.get_secret_value(),
        profile=section.profile,
        ca_file=section.ca_file,
        data_plane=section.data_plane,
        part_bytes=section.part_bytes,
        parts_in_flight=section.parts_in_flight,
        parallel_get=section.parallel_get,
        parallel_range_bytes=section.parallel_range_bytes,
        window_bytes=section.window_bytes,
        public_endpoint_url=section.public_endpoint_url,
        redirect_lifetime_s=section.redirect_lifetime_s,
        lifecycle_days=max(section.lifecycle_days, kept_days),
        connections=section.connections,
    )


# --- hot sets --------------------------------------------------------------------------------------------------------


async def _with_hot_set(
    settings: Settings, name: str, section: S3Storage, origin: "S3Store", *, intakes: Intakes
) -> HotSetStore | None:
    """The bucket behind its hot set; None, said in the log, where the local disk cannot be used: nothing is lost."""
    pool = Pool(f"hot-{name}", settings.storage.threads)
    hotset = HotSet(settings.storage.directory(name), capacity_bytes=section.hot_bytes, pool=pool)
    try:
        await hotset.prepare()
    except StorageError as error:
        _log.error("hot_set_unusable", storage=name, error=str(error), effect="pulls are read from the bucket")
        return None
    return HotSetStore(origin, hotset, intakes)
