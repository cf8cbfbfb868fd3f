"""The schema's history: one numbered file per change below `versions/`, applied by Alembic.

Revisions are written by hand and never import `storage.metadata.tables`: they say what the tables were at their time.
A test compares the result of all of them with `tables.py`.

Replicas are replaced one by one, so the program of revision N-1 works on the schema of revision N, and starts on it.
Therefore a revision only adds: a table, an index, a column that may be absent (nullable, or with a default), a trigger
that older programs need not know. What is no longer used goes one version after the program stopped using it. It
takes no lock of a table for longer than an instant: an existing table is not rewritten, and a new index on a large one
is a decision of its own.
"""

import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_HERE: Final = Path(__file__).parent
_VERSION: Final = sa.table("alembic_version", sa.column("version_num", sa.String))
_CURRENT: Final = sa.select(_VERSION.c.version_num)
# Alembic keeps the running migration in module globals, so one process can run one at a time.
_ALEMBIC: Final = threading.Lock()


def upgrade(connection: sa.Connection, *, to: str = "head") -> None:
    """Bring the schema to the newest revision (or up to `to`), inside the caller's transaction. Blocking.

    Does nothing to a schema of a revision that this program does not know: it is newer.
    """
    found = current(connection)
    if found is not None and found not in revisions():
        return
    config = _config()
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, to)


def revisions() -> tuple[str, ...]:
    """Every revision this program knows, newest first. Reads files."""
    script = ScriptDirectory.from_config(_config())
    return tuple(revision.revision for revision in script.walk_revisions())


def current(connection: sa.Connection) -> str | None:
    """The schema's revision; None before the first migration."""
    if not sa.inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(_CURRENT).scalar_one_or_none()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
