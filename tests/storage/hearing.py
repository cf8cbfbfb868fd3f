"""What a database is asked, in its own words."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import sqlalchemy as sa

from storage import Database, Transaction


@contextmanager
def statements(tx: Transaction) -> Iterator[list[str]]:
    """What is executed on this connection meanwhile. SQLite tells it with the values in their places."""
    heard: list[str] = []
    with _of_sqlite(tx, heard) if tx.dialect.name == "sqlite" else _of_others(tx, heard):
        yield heard


@asynccontextmanager
async def questions(database: Database) -> AsyncIterator[list[str]]:
    """What a database in a SQLite file is asked meanwhile by reads, and by surveys that come one after the other."""
    heard: list[str] = []
    with ExitStack() as stack:
        await database.read(lambda tx: stack.enter_context(_of_sqlite(tx, heard)))
        await database.survey(lambda tx: stack.enter_context(_of_sqlite(tx, heard)))
        yield heard


@contextmanager
def _of_sqlite(tx: Transaction, heard: list[str]) -> Iterator[None]:
    driver: Any = tx.connection.dbapi_connection
    driver.set_trace_callback(heard.append)
    try:
        yield
    finally:
        driver.set_trace_callback(None)


@contextmanager
def _of_others(tx: Transaction, heard: list[str]) -> Iterator[None]:
    def hear(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        heard.append(statement)

    sa.event.listen(tx, "before_cursor_execute", hear)
    try:
        yield
    finally:
        sa.event.remove(tx, "before_cursor_execute", hear)
