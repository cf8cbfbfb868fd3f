"""Other ways in to a repository, members of virtual ones, and what is known of upstream registries.

Who reaches what by which name depends on addresses and members: their triggers count in the scope `access`, as those of
revision 0002 do, which tells how and why. When a manifest was pulled and a tag was checked ends no answer: no triggers.

Programs of the revision before know nothing of these tables and lose nothing; they cannot delete a repository that is
a member of a virtual one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_BYTE_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_RAISE: Final = (
    "INSERT INTO changes (scope, at) VALUES ('access', (SELECT coalesce(max(at), 0) + 1 FROM changes))"
    " ON CONFLICT (scope) DO UPDATE SET at = excluded.at"
)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A table whose every change counts in `access`, and its columns."""

    table: str
    columns: tuple[str, ...]

    def head(self, event: str, kind: str) -> str:
        """The trigger up to its action; `event` is INSERT, UPDATE or DELETE."""
        of = f" OF {', '.join(self.columns)}" if event == "UPDATE" else ""
        return f"CREATE {kind} changes_{self.table}_{event.lower()} AFTER {event}{of} ON {self.table}"

    def when(self, event: str, comparison: str) -> str:
        """The condition that an update is one."""
        if event != "UPDATE":
            return ""
        return " WHEN (" + " OR ".join(f"OLD.{name} {comparison} NEW.{name}" for name in self.columns) + ")"


_COUNTED: Final = (
    _Counted("repository_addresses", ("kind", "name", "repository_id")),
    _Counted("repository_members", ("repository_id", "position", "member_id", "include", "exclude", "is_default")),
)


def upgrade() -> None:
    """Make the tables, and the triggers of two of them."""
    _make_ways_in()
    _make_upstreams()
    _make_cache()
    is_server = op.get_context().dialect.name == "postgresql"
    for counted in _COUNTED:
        for statement in _postgresql_statements(counted) if is_server else _sqlite_statements(counted):
            op.execute(statement)


def _make_ways_in() -> None:
    op.create_table(
        "repository_addresses",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_repository_addresses"),
        _of_repository("repository_addresses", "repository_id", "CASCADE"),
    )
    op.create_index("ix_repository_addresses_repository_id", "repository_addresses", ["repository_id"])
    op.create_table(
        "repository_members",
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("member_id", _ID, nullable=False),
        sa.Column("include", sa.Text(), nullable=False),
        sa.Column("exclude", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "position", name="pk_repository_members"),
        sa.UniqueConstraint("repository_id", "member_id", name="uq_repository_members_repository_id_member_id"),
        _of_repository("repository_members", "repository_id", "CASCADE"),
        _of_repository("repository_members", "member_id", "RESTRICT"),
    )
    op.create_index("ix_repository_members_member_id", "repository_members", ["member_id"])


def _make_upstreams() -> None:
    op.create_table(
        "upstream_credentials",
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("repository_id", "position", name="pk_upstream_credentials"),
        _of_repository("upstream_credentials", "repository_id", "CASCADE"),
    )
    op.create_table(
        "upstream_budgets",
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("allowed", sa.BigInteger(), nullable=True),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("window_s", sa.BigInteger(), nullable=True),
        sa.Column("observed_at", sa.BigInteger(), nullable=False),
        sa.Column("retry_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_upstream_budgets"),
    )


def _make_cache() -> None:
    op.create_table(
        "tag_checks",
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("image_id", "name", name="pk_tag_checks"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_tag_checks_image_id", ondelete="CASCADE"),
    )
    op.create_table(
        "manifest_pulls",
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("pulled_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("manifest_id", name="pk_manifest_pulls"),
        sa.ForeignKeyConstraint(
            ["manifest_id"], ["manifests.id"], name="fk_manifest_pulls_manifest_id", ondelete="CASCADE"
        ),
    )


def _of_repository(table: str, column: str, ondelete: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], ["repositories.id"], name=f"fk_{table}_{column}", ondelete=ondelete)


def _sqlite_statements(counted: _Counted) -> list[str]:
    return [
        f"{counted.head(event, 'TRIGGER')} FOR EACH ROW{counted.when(event, 'IS NOT')} BEGIN {_RAISE}; END"
        for event in ("INSERT", "UPDATE", "DELETE")
    ]


def _postgresql_statements(counted: _Counted) -> list[str]:
    function = f"changes_of_{counted.table}"
    body = "BEGIN PERFORM changes_raise('access'); RETURN NULL; END"
    statements = [f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"]
    for event in ("INSERT", "UPDATE", "DELETE"):
        tail = f"FOR EACH ROW{counted.when(event, 'IS DISTINCT FROM')} EXECUTE FUNCTION {function}()"
        statements.append(f"{counted.head(event, 'CONSTRAINT TRIGGER')} DEFERRABLE INITIALLY DEFERRED {tail}")
    return statements
