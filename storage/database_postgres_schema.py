"""Brings the schema of a PostgreSQL database up to date while replicas of this and the last version use it.

All revisions run in one transaction, so a migration that is killed has done nothing and is simply begun again. One
process migrates at a time, under an advisory lock; the others wait and find nothing left to do. A table's lock is
waited for shortly, as every read of the table waits behind that, and then tried for again.
"""

import time
from collections.abc import Callable
from typing import Final

import psycopg
import sqlalchemy as sa

from storage import migrations
from storage.database_postgres_failures import LOCK_TIMEOUT, code_of
from storage.database_postgres_line import MIGRATOR, READER, Role
from storage.database_postgres_server import Server
from storage.database_postgres_session import Session

# Among PostgreSQL's advisory locks: "sluice" and an "m" in ASCII.
_LOCK: Final = sa.select(sa.func.pg_try_advisory_xact_lock(0x736C756963656D))
_PAUSE_S: Final = 0.5
_TABLES_S: Final = 60.0  # of attempts to get the locks of tables; reads are short, so somebody else holds them


def migrate(server: Server, look: Callable[[], None], *, role: Role = MIGRATOR) -> None:
    """Blocking; `look` is called while it waits, and ends it by raising. Raises `Unavailable`."""
    if _is_done(server, look):
        return
    session = Session(server, role, look)
    give_up_at = time.monotonic() + _TABLES_S
    try:
        while True:
            try:
                if _attempt(session):
                    return
            except (psycopg.Error, sa.exc.DBAPIError) as error:
                if code_of(error) != LOCK_TIMEOUT or time.monotonic() > give_up_at:
                    raise session.told(error) from None
                session.close()
            look()
            time.sleep(_PAUSE_S)
    finally:
        session.close()


def _is_done(server: Server, look: Callable[[], None]) -> bool:
    session = Session(server, READER, look)
    try:
        revision = session.read(migrations.current)
    finally:
        session.close()
    return revision is not None and revision not in migrations.revisions()[1:]


def _attempt(session: Session) -> bool:
    """One transaction; False if another process is migrating."""
    connection = session.begin()
    if not connection.execute(_LOCK).scalar_one():
        session.line().execute(b"ROLLBACK")
        return False
    migrations.upgrade(connection)
    session.line().execute(b"COMMIT")
    return True
