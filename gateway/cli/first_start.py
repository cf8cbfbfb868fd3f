"""What the first start of an installation makes, and makes once.

The data directory, the first administrator, and a repository that takes every image, so that a push works at once.
Interrupted, it goes on where it was.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.access.accounts import FIRST_ADMIN, FirstAdmin, random_password
from gateway.access.errors import BadCredentials
from gateway.app import Services, open_services
from gateway.config import Settings
from gateway.logs import get_logger
from storage import Transaction
from storage.metadata import accounts, projects, repositories

PROJECT: Final = "common"
REPOSITORY: Final = "docker-hosted"
PASSWORD_FILE: Final = "admin-password"  # noqa: S105  # a file's name
_log = get_logger(__name__)


async def prepare(settings: Settings, *, password: str | None) -> FirstAdmin | None:
    """Make what is missing; gives the first administrator, if this was the first start. Raises storage errors."""
    settings.storage.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with open_services(settings, hot=False) as services:
        for name, note in services.stores.notes:  # here, and not in each worker
            _log.warning("store_lacks_ability", storage=name, detail=note)
        await services.database.transaction(_make_repository, services)
        if await services.database.read(_has_accounts):
            return None
        # The file comes before the account: killed in between, the next start uses what is in the file.
        file = settings.storage.data / PASSWORD_FILE
        chosen = password or _kept_password(file)
        admin = await services.accounts.ensure_admin(chosen)
        if admin is None and not password:
            await _drop_password(services, file, chosen)
        return None if admin is None else replace(admin, is_random=not password)


async def _drop_password(services: Services, file: Path, password: str) -> None:
    """Remove the file of a password that is nobody's: a replica on another machine was first, with one of its own."""
    try:
        await services.authenticator.basic(FIRST_ADMIN, password)
    except BadCredentials:
        file.unlink(missing_ok=True)  # noqa: ASYNC240 - one system call, at the start


def _has_accounts(tx: Transaction) -> bool:
    return bool(accounts.page(tx, after="", limit=1))


def _make_repository(tx: Transaction, services: Services) -> None:
    """The repository comes before the first account, so that whoever has an account has had it."""
    if _has_accounts(tx) or projects.find(tx, PROJECT) is not None:
        return
    now = int(services.clock())
    project = projects.create(tx, name=PROJECT, description="Made at the first start.", now=now)
    repositories.create(
        tx,
        project_id=project.id,
        name=REPOSITORY,
        description="Takes every image that names no other repository.",
        format="docker",
        repository_type="hosted",
        storage_id=services.content.storage_id(services.settings.storage.default),
        flat_alias_prefix=None,
        is_catch_all=True,
        anonymous_read=False,
        immutable_tags=(),
        now=now,
    )


def _kept_password(path: Path) -> str:
    """The random password in the file, which is made first if it is not there, complete and for its owner only."""
    if not path.exists():
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(random_password() + "\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # of two first starts at once, both use the password of one
            path.hardlink_to(unfinished)
        unfinished.unlink()
    return path.read_text(encoding="ascii").strip()
