"""Every statement of the rows, as both databases would get it: no construct of one only, and no walk over a table."""

import importlib
import pkgutil
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

import storage.metadata
from storage import Database, Transaction
from storage.metadata import tables
from storage.metadata.prepared import Prepared

ON_SERVER = [pytest.mark.postgres, pytest.mark.slow]
WITHOUT_STATEMENTS = {"tables", "changes", "prepared"}
MODULES = sorted({each.name for each in pkgutil.iter_modules(storage.metadata.__path__)} - WITHOUT_STATEMENTS)
NAMED: dict[str, Any] = {
    f"{module}.{name}": value
    for module in MODULES
    for name, value in vars(importlib.import_module(f"storage.metadata.{module}")).items()
}
PREPARED = {name: value for name, value in NAMED.items() if isinstance(value, Prepared)}
STATEMENTS: dict[str, Any] = {
    name: value.statement if isinstance(value, Prepared) else value
    for name, value in NAMED.items()
    if isinstance(value, sa.Select | sa.Insert | sa.Update | sa.Delete | Prepared)
}
OURS = (
    "images.",
    "blobs.",
    "uploads.",
    "manifests.",
    "tags.",
    "garbage.",
    "pulls.",
    "upstreams.",
    "members.",
    "addresses.",
)
WALKS = {
    "garbage._IMAGES_OF": "sorts the images of one blob, for the report on a damaged one",
    "manifests._REFERRED_SIZES": "tells apart the sizes that manifests give one blob",
    "images._PAGE_OF": "sorts the images that somebody may read: 82 ms of a survey for 100,000",
    "members._VIRTUALS": "sorts the virtual repositories of an installation",
    "members._VIRTUALS_OF": "sorts the virtual repositories of one member",
    "pulls._COLDEST": "sorts the manifests of one cache by what several tables say of them",
    "pulls._OLD": "as the one before",
    "tags._OF_MANIFEST": "sorts the tags of one manifest",
}
"""Statement that walks over an index or sorts -> what, and why it may."""
WHOLE = {
    "upstreams._DROP_BUDGETS": "looks at all budgets when there is one more: a row for each credential of an upstream"
}
"""The same for those that read a table to its end."""

FINDS_NOTHING = {"sharing._HOLDERS", "sharing._ANY"}
"""What asks for others than itself, of which there is none in a database with one row of each kind."""


@pytest.mark.parametrize("name", STATEMENTS)
def test_both_databases_understand_it(name: str) -> None:
    """The statement compiles for SQLite and for PostgreSQL, and asks the same of its caller."""
    asked = [
        {key for key in STATEMENTS[name].compile(dialect=dialect).params if not key.startswith("param_")}
        for dialect in (sqlite.dialect(), postgresql.dialect())
    ]
    assert asked[0] == asked[1]


def fill(tx: Transaction) -> None:
    """One row in every table, of texts "a" and numbers 1, so that whoever asks for these finds something."""
    for table in tables.metadata.sorted_tables:
        present = tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if not present:
            tx.execute(sa.insert(table).values({column.name: _sample(column) for column in table.columns}))


def _sample(column: sa.Column[Any]) -> object:
    if column.name in {"damaged_at", "deleted_at"} or column is tables.grants.c.project_id:
        return None
    match column.type:
        case sa.Boolean():
            return True
        case sa.LargeBinary():
            return b"a"
        case sa.Text() | sa.String():
            return "a"
        case _:
            return 1


def test_statements_are_found() -> None:
    """The collection reaches every module of rows."""
    assert len([name for name in STATEMENTS if name.startswith(OURS)]) > 60
    assert {name.partition(".")[0] for name in STATEMENTS} == set(MODULES)


@pytest.mark.parametrize("name", PREPARED)
async def test_what_is_prepared_gives_what_sqlalchemy_gives(database: Database, name: str) -> None:
    """The same rows of the same types for the same values."""
    prepared = PREPARED[name]
    values = {key: _value(bind) for key, bind in prepared.statement.compile().binds.items() if bind.required}

    def both(tx: Transaction) -> list[list[tuple[Any, ...]]]:
        fill(tx)
        return [
            [tuple(row) for row in rows] for rows in (prepared.all(tx, values), tx.execute(prepared.statement, values))
        ]

    mine, theirs = await database.transaction(both)
    assert mine == theirs
    assert [[type(value) for value in row] for row in mine] == [[type(value) for value in row] for row in theirs]
    assert mine or name in FINDS_NOTHING


def _values(statement: Any) -> dict[str, Any]:
    """Some value for each parameter."""
    return {key: _value(bind) for key, bind in statement.compile().binds.items()}


def _value(bind: sa.BindParameter[Any]) -> object:
    value: object = "a" if isinstance(bind.type, sa.Text | sa.String) else 1
    return [value] if bind.expanding else value


def _plan(tx: Transaction, statement: Any, ask: str = "EXPLAIN QUERY PLAN") -> list[str]:
    """The steps that the database takes for it."""
    if isinstance(statement, sa.Select) and statement._limit_clause is None:
        statement = statement.limit(100)
    texts: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, text: str, values: Any, *_: object) -> None:
        texts.append((text, values))

    sa.event.listen(tx, "before_cursor_execute", note)
    tx.execute(statement, _values(statement))
    sa.event.remove(tx, "before_cursor_execute", note)
    text, values = texts[0]
    return [row[-1] for row in tx.exec_driver_sql(f"{ask} {text}", values)]


PLANNED = [name for name, each in STATEMENTS.items() if name.startswith(OURS) and not isinstance(each, sa.Insert)]


@pytest.mark.parametrize("closed_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", PLANNED)
async def test_rows_are_found_by_an_index(database: Database, name: str) -> None:
    """No step walks over a table or sorts it, but for the statements that say why they may."""
    steps = await database.transaction(_plan, STATEMENTS[name])
    assert steps
    walks = [step for step in steps if step.startswith("SCAN") or "TEMP B-TREE" in step]
    assert bool(walks) == (name in WALKS | WHOLE), "\n".join(steps)


@pytest.mark.parametrize("closed_database", [pytest.param("postgresql", marks=ON_SERVER)], indirect=True)
async def test_postgresql_finds_them_by_an_index_too(database: Database) -> None:
    """The server accepts each statement, and has an index for it: told to avoid walks over tables, it takes none."""

    def walking(tx: Transaction) -> dict[str, list[str]]:
        tx.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plans = {name: _plan(tx, STATEMENTS[name], "EXPLAIN") for name in PLANNED}
        return {name: steps for name, steps in plans.items() if any("Seq Scan" in step for step in steps)}

    assert (await database.transaction(walking)).keys() == WHOLE.keys()
