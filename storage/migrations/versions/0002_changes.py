"""What changed: a number per scope, raised by triggers, so that whoever remembers an answer sees when it ended.

Triggers and not statements of ours, because the command line, other processes, cascades of foreign keys and an
operator's SQL count as well. Each change takes the next number of one sequence and gives it to its scope: `access`
(who may do what where), `image:N` or `blob:N`, where N is the id's remainder. The remainder bounds the table for
ever; two images that share a scope forget together, which costs a lookup and is never wrong.

Only what can end a *successful* answer about one manifest or blob counts. A new tag, manifest, link, blob, account,
secret, key or storage cannot; a new project, repository or grant can, as it may reroute a name.

A revision that adds a column to a table of `_RULES`, or rebuilds such a table (dropping it drops its triggers), has to
make the triggers anew; a test over every column of every table fails until that is decided.

SQLite has one writer at a time, so a number that is seen means that every lower one can be seen. PostgreSQL would
commit out of order: there the triggers are deferred to the commit, and take a lock that is held until the commit is
visible. Nothing is waited for after that lock but the commit itself, so it cannot deadlock with row locks, and the
numbers become visible in their order under READ COMMITTED (a stricter isolation would number by an old snapshot).
INSERT OR REPLACE (SQLite) and TRUNCATE (PostgreSQL) remove rows without firing these; nothing of ours does that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# As many scopes of images, and of blobs: a table of 8 MB at most, and a foreign change ends 1 memory in 65,536.
_REMAINDERS: Final = 65_536
# The lock's name among PostgreSQL's advisory locks: "sluice" in ASCII.
_LOCK: Final = 0x736C75696365
_RAISE: Final = (
    "INSERT INTO changes (scope, at) VALUES ({scope}, (SELECT coalesce(max(at), 0) + 1 FROM changes))"
    " ON CONFLICT (scope) DO UPDATE SET at = excluded.at"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A table, the SQL of its scope, the columns whose update counts, and whether a new row counts."""

    table: str
    scope: str
    columns: str
    on_insert: bool = False

    @property
    def events(self) -> tuple[str, ...]:
        return ("insert", "update", "delete") if self.on_insert else ("update", "delete")

    def event(self, event: str) -> str:
        return f"UPDATE OF {', '.join(self.columns.split())}" if event == "update" else event.upper()

    def differs(self, comparison: str) -> str:
        return " OR ".join(f"OLD.{column} {comparison} NEW.{column}" for column in self.columns.split())


def _remainder(kind: str, column: str) -> str:
    return f"'{kind}:' || (OLD.{column} % {_REMAINDERS})"


_ACCESS: Final = "'access'"
_RULES: Final = (
    # not: description, updated_at
    _Rule(
        "accounts",
        _ACCESS,
        "id name kind password_hash is_admin is_auditor is_enabled epoch project_id expires_at created_at",
    ),
    # not: label, last_used_at
    _Rule(
        "credentials",
        _ACCESS,
        "id account_id kind secret_hash limits service parent_id created_at expires_at",
    ),
    _Rule("grants", _ACCESS, "id account_id project_id repository_id role created_at", on_insert=True),
    _Rule("projects", _ACCESS, "id name description created_at", on_insert=True),
    _Rule(
        "repositories",
        _ACCESS,
        "id project_id name description format repository_type storage_id flat_alias_prefix is_catch_all anonymous_read"
        " immutable_tags settings created_at updated_at",
        on_insert=True,
    ),
    _Rule("storages", _ACCESS, "id name"),
    _Rule("signing_keys", _ACCESS, "kid algorithm sealed_key created_at signs_from signs_until verifies_until"),
    _Rule("images", _remainder("image", "id"), "id repository_id name full_name created_at"),
    _Rule(
        "manifests",
        _remainder("image", "image_id"),
        "id image_id digest media_type artifact_type subject annotations size_bytes pushed_by pushed_at deleted_at"
        " deleted_tags content",
    ),
    # not: created_at, moved_at, moved_by
    _Rule("tags", _remainder("image", "image_id"), "image_id name manifest_id"),
    # not: linked_at, which every push and many pulls renew
    _Rule("links", _remainder("image", "image_id"), "image_id digest blob_id"),
    # not: condemned_at (nothing linked it then), verified_at
    _Rule(
        "blobs",
        _remainder("blob", "id"),
        "id storage_id digest key encoding size_bytes stored_bytes created_at damaged_at",
    ),
)


def upgrade() -> None:
    """Make the table and the triggers."""
    op.create_table(
        "changes",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name="pk_changes"),
        sqlite_with_rowid=False,  # one page less to log per change
    )
    op.create_index("ix_changes_at", "changes", ["at"])
    if op.get_context().dialect.name == "postgresql":
        op.execute(_RAISER_OF_POSTGRESQL)
        statements = _postgresql_statements
    else:
        statements = _sqlite_statements
    for rule in _RULES:
        for statement in statements(rule):
            op.execute(statement)


def _sqlite_statements(rule: _Rule) -> list[str]:
    action = _RAISE.format(scope=rule.scope)
    statements = []
    for event in rule.events:
        when = f" WHEN {rule.differs('IS NOT')}" if event == "update" else ""
        head = f"CREATE TRIGGER changes_{rule.table}_{event} AFTER {rule.event(event)} ON {rule.table}"
        statements.append(f"{head} FOR EACH ROW{when} BEGIN {action}; END")
    return statements


_RAISER_OF_POSTGRESQL: Final = f"""
CREATE FUNCTION changes_raise(changed text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
PERFORM pg_advisory_xact_lock({_LOCK});
{_RAISE.format(scope="changed")};
END $$
"""


def _postgresql_statements(rule: _Rule) -> list[str]:
    function = f"changes_of_{rule.table}"
    body = f"BEGIN PERFORM changes_raise({rule.scope}); RETURN NULL; END"
    statements = [f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"]
    for event in rule.events:
        when = f" WHEN ({rule.differs('IS DISTINCT FROM')})" if event == "update" else ""
        head = f"CREATE CONSTRAINT TRIGGER changes_{rule.table}_{event} AFTER {rule.event(event)} ON {rule.table}"
        tail = f"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW{when} EXECUTE FUNCTION {function}()"
        statements.append(f"{head} {tail}")
    return statements
