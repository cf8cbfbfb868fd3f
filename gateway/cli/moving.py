"""Two installations, open at once, for a move from one to the other: what `sluice migrate --to` needs besides the move.

Knows how they are configured; how rows and bytes move is `storage.moving`'s.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from gateway.access.secret_key import carry_secret_key, present_secret_key
from gateway.cli.session import require_installation, require_schema
from gateway.config import ConfigInvalid, DirectoryStorage, S3Storage, Settings, load
from gateway.installation import database_of, open_stores
from storage import Installation


def load_new(file: Path) -> Settings:
    """The new installation's settings: from its file alone, as variables of the environment are the old one's."""
    try:
        return load(file=file)
    except ConfigInvalid as error:
        raise click.UsageError(f"the configuration {file} has mistakes:\n{error}") from error


@asynccontextmanager
async def open_old(settings: Settings) -> AsyncIterator[Installation]:
    """The installation that is moved, if it exists, is ours to read and has this version's schema."""
    require_installation(settings)
    async with database_of(settings) as database:
        await require_schema(database)
        async with open_stores(settings, database, hot=False) as stores:
            yield Installation(database, stores.all)


@asynccontextmanager
async def open_new(settings: Settings) -> AsyncIterator[Installation]:
    """The installation that it is moved to, made if it is new; its schema is brought to this version."""
    settings.storage.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with database_of(settings) as database:
        await database.migrate()
        async with open_stores(settings, database, hot=False) as stores:
            yield Installation(database, stores.all)


def shared_storages(old: Settings, new: Settings) -> list[str]:
    """The storages that lie in the same place in both.

    `ClickException` if both have one database, or one place under two names.
    """
    if _database(old) == _database(new):
        raise click.ClickException("both configurations name the same database: there is nothing to move")
    places = {_place(old, name): name for name in old.storage.storages}
    shared = []
    for name in new.storage.storages:
        other = places.get(_place(new, name))
        if other not in {None, name}:
            raise click.ClickException(
                f"the new installation's storage {name} lies where the old one's storage {other} does: "
                "give it the same name, or a place of its own"
            )
        shared += [name] if other else []
    return shared


def carry_key(old: Settings, new: Settings) -> str | None:
    """Give the new installation the old one's secret key, unless it has one; a warning if it has another.

    Blocks. Without the same key, what the old one signed and sealed is of no use to the new one. Raises OSError, and
    ValueError for a key that cannot be used.
    """
    key = present_secret_key(old)
    if key is None:
        return "the old installation has no secret key: tokens that it gave out end with the move"
    if carry_secret_key(new, key) == key:
        return None
    return (
        "the new installation has another secret key: signing keys and credentials of upstreams are left behind. "
        "Tokens that were given out end with the move, and clients fetch new ones by themselves; credentials have to "
        "be set anew"
    )


def _database(settings: Settings) -> str:
    url = settings.storage.database_url
    return url.get_secret_value() if url else str(settings.storage.database_file.resolve())


def _place(settings: Settings, name: str) -> tuple[str | None, ...]:
    match settings.storage.storages[name]:
        case S3Storage(endpoint_url=endpoint_url, bucket=bucket, prefix=prefix):
            return endpoint_url, bucket, prefix
        case DirectoryStorage():
            return (str(settings.storage.directory(name).resolve()),)
