"""What a command works with, besides `serve`: the database of an installation, opened beside a running server.

Commands never make or migrate an installation by accident, and never leave files that the server cannot open.
"""

import os
import pwd
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import click
import trio

from gateway.access.accounts import Accounts
from gateway.access.errors import AccessError
from gateway.access.passwords import Passwords
from gateway.config import Settings
from gateway.installation import database_of
from gateway.oci.errors import RegistryError
from gateway.repositories.furnishing import WrongSetting
from storage import AccountRecord, Database, ProjectRecord, RepositoryRecord, StorageError
from storage.metadata import accounts, moving, projects, repositories

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """The open database and the acts on accounts."""

    settings: Settings
    database: Database
    accounts: Accounts

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    async def project(self, name: str) -> ProjectRecord:
        """The project of that name; `ClickException` if there is none."""
        found = await self.database.read(projects.find, name)
        if found is None:
            raise click.ClickException(f"there is no project {name}: see `sluice project list`")
        return found

    async def repository(self, full_name: str) -> RepositoryRecord:
        """The repository PROJECT/REPOSITORY; `ClickException` if there is none."""
        project, _, name = full_name.partition("/")
        found = await self.database.read(repositories.find, project, name)
        if found is None:
            raise click.ClickException(f"there is no repository {full_name}: see `sluice repo list`")
        return found

    async def account(self, name: str, kind: str | None = None) -> AccountRecord:
        """The account of that name; `ClickException` if there is none of that kind."""
        found = await self.database.read(accounts.find, name)
        if found is None or kind not in {None, found.kind}:
            what = kind or "account"
            raise click.ClickException(f"there is no {what} {name}: see `sluice {kind or 'user'} list`")
        return found


def run(settings: Settings, work: Callable[[Session], Awaitable[T]]) -> T:
    """Open the installation, do the work, close; errors become one clear line and exit code 1."""

    async def session() -> T:
        async with open_session(settings) as opened:
            return await work(opened)

    return perform(session)


def perform(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command's work in Trio; errors that people can do something about become one line and exit code 1."""
    try:
        return trio.run(work)
    except (StorageError, AccessError, RegistryError, WrongSetting) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or 'system'}: {error.strerror or error}") from error


@asynccontextmanager
async def open_session(settings: Settings) -> AsyncIterator[Session]:
    """The installation's database, if it exists, is ours to use and has this version's schema."""
    require_installation(settings)
    async with database_of(settings) as database:
        await require_schema(database)
        passwords = Passwords(threads=1, queue=1)
        yield Session(settings, database, Accounts(database, passwords, clock=time.time))


def require_installation(settings: Settings) -> None:
    """`ClickException` unless there is a database that belongs to us. One on a server is found when it is opened.

    Another user's command would leave a write-ahead log that the server may not open.
    """
    if settings.storage.database_url is not None:
        return
    file = settings.storage.database_file
    try:
        owner = file.stat().st_uid
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.ClickException(
            f"no installation in {settings.storage.data} ({file.name}: {reason}): name it with --data, "
            "or make one with `sluice serve`"
        ) from error
    if owner != os.geteuid():
        raise click.ClickException(f"{file} belongs to {_user(owner)}: run this command as that user")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user id {uid}"


async def require_schema(database: Database) -> None:
    """`ClickException` unless the schema is this version's, `Conflict` while a move to here has not ended."""
    revision, head = await database.revision(), await database.head()
    if revision is None:
        raise click.ClickException("the database is empty: `sluice serve` or `sluice migrate` fills it")
    if revision != head:
        raise click.ClickException(
            f"the database has schema {revision}, this version needs {head}: run `sluice migrate`, "
            "after a backup and with all servers of this version"
        )
    await database.read(moving.require_whole)
