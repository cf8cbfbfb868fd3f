"""The registry core: who, where, bytes, images."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_BYTE_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.BigInteger()
_SIZE = sa.BigInteger()


def upgrade() -> None:
    """Make all tables."""
    _places()
    _accounts()
    _rights()
    _keys_and_leases()
    _blobs()
    _images()
    _uploads()
    _manifests()


def _places() -> None:
    op.create_table(
        "storages",  # its rows never go, so its ids need no AUTOINCREMENT to be used once
        _key(),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_storages"),
        _unique("storages", "name"),
    )
    _table(
        "projects",
        _key(),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", _TIME, nullable=False),
        _unique("projects", "name"),
    )
    _table(
        "repositories",
        _key(),
        sa.Column("project_id", _ID, nullable=False),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("repository_type", sa.Text(), nullable=False),
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("flat_alias_prefix", _BYTE_TEXT, nullable=True),
        sa.Column("is_catch_all", sa.Boolean(), nullable=False),
        sa.Column("anonymous_read", sa.Boolean(), nullable=False),
        sa.Column("immutable_tags", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        _to("projects", "repositories", "project_id", ondelete="RESTRICT"),
        _to("storages", "repositories", "storage_id", ondelete="RESTRICT"),
        _unique("repositories", "flat_alias_prefix"),
        _unique("repositories", "project_id", "name"),
    )
    op.create_index(
        "uq_repositories_catch_all",
        "repositories",
        ["is_catch_all"],
        unique=True,
        sqlite_where=sa.column("is_catch_all").is_(sa.true()),
        postgresql_where=sa.column("is_catch_all").is_(sa.true()),
    )


def _accounts() -> None:
    _table(
        "accounts",
        _key(),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("is_admin", sa.Boolean(), nullable=False),
        sa.Column("is_auditor", sa.Boolean(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("project_id", _ID, nullable=True),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("updated_at", _TIME, nullable=False),
        _to("projects", "accounts", "project_id"),
        _unique("accounts", "name"),
    )
    _index("accounts", "project_id")


def _rights() -> None:
    _table(
        "grants",
        _key(),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("project_id", _ID, nullable=True),
        sa.Column("repository_id", _ID, nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        _to("accounts", "grants", "account_id"),
        _to("projects", "grants", "project_id"),
        _to("repositories", "grants", "repository_id"),
        _unique("grants", "account_id", "project_id"),
        _unique("grants", "account_id", "repository_id"),
        sa.CheckConstraint("(project_id IS NULL) <> (repository_id IS NULL)", name=op.f("ck_grants_one_scope")),
    )
    _index("grants", "project_id")
    _index("grants", "repository_id")
    _table(
        "credentials",
        _key(),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=True),
        sa.Column("service", sa.Text(), nullable=True),
        sa.Column("parent_id", _ID, nullable=True),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=True),
        sa.Column("last_used_at", _TIME, nullable=True),
        _to("accounts", "credentials", "account_id"),
        _to("credentials", "credentials", "parent_id"),
        _unique("credentials", "secret_hash"),
    )
    _index("credentials", "account_id")
    _index("credentials", "parent_id")
    _index("credentials", "expires_at")


def _keys_and_leases() -> None:
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("signs_from", _TIME, nullable=False),
        sa.Column("signs_until", _TIME, nullable=False),
        sa.Column("verifies_until", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("last_run_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _blobs() -> None:
    _table(
        "blobs",
        _key(),
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("encoding", sa.Text(), nullable=False),
        sa.Column("size_bytes", _SIZE, nullable=False),
        sa.Column("stored_bytes", _SIZE, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("condemned_at", _TIME, nullable=True),
        sa.Column("damaged_at", _TIME, nullable=True),
        sa.Column("verified_at", _TIME, nullable=True),
        _to("storages", "blobs", "storage_id", ondelete="RESTRICT"),
        _unique("blobs", "storage_id", "digest"),
    )
    _index("blobs", "condemned_at")
    op.create_table(
        "blob_aliases",
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("blob_id", _ID, nullable=False),
        _to("storages", "blob_aliases", "storage_id", ondelete="RESTRICT"),
        _to("blobs", "blob_aliases", "blob_id"),
        sa.PrimaryKeyConstraint("storage_id", "digest", name="pk_blob_aliases"),
    )
    _index("blob_aliases", "blob_id")
    op.create_table(
        "removals",
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("since", _TIME, nullable=False),
        _to("storages", "removals", "storage_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("storage_id", "key", name="pk_removals"),
    )


def _images() -> None:
    _table(
        "images",
        _key(),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("full_name", _BYTE_TEXT, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        _to("repositories", "images", "repository_id"),
        _unique("images", "repository_id", "name"),
    )
    _index("images", "full_name")
    op.create_table(
        "links",
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("blob_id", _ID, nullable=False),
        sa.Column("linked_at", _TIME, nullable=False),
        _to("images", "links", "image_id"),
        _to("blobs", "links", "blob_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("image_id", "digest", name="pk_links"),
    )
    _index("links", "blob_id")
    _index("links", "linked_at")


def _uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("image", _BYTE_TEXT, nullable=False),
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("account_id", _ID, nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("offset_bytes", _SIZE, nullable=False),
        sa.Column("digest_so_far", sa.Text(), nullable=True),
        sa.Column("boot", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("touched_at", _TIME, nullable=False),
        _to("repositories", "uploads", "repository_id"),
        _to("storages", "uploads", "storage_id", ondelete="RESTRICT"),
        _to("accounts", "uploads", "account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    _index("uploads", "touched_at")
    _index("uploads", "account_id")
    _index("uploads", "repository_id")


def _manifests() -> None:
    _table(
        "manifests",
        _key(),
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("artifact_type", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("annotations", sa.Text(), nullable=True),
        sa.Column("size_bytes", _SIZE, nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("pushed_by", _ID, nullable=True),
        sa.Column("pushed_at", _TIME, nullable=False),
        sa.Column("deleted_at", _TIME, nullable=True),
        sa.Column("deleted_tags", sa.Text(), nullable=True),
        _to("images", "manifests", "image_id"),
        _unique("manifests", "image_id", "digest"),
    )
    _index("manifests", "image_id", "subject", "digest")
    _index("manifests", "deleted_at")
    op.create_table(
        "manifest_references",
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("size_bytes", _SIZE, nullable=False),
        sa.Column("blob_id", _ID, nullable=True),
        _to("manifests", "manifest_references", "manifest_id"),
        _to("blobs", "manifest_references", "blob_id", ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("manifest_id", "position", name="pk_manifest_references"),
    )
    _index("manifest_references", "blob_id", "image_id")
    _index("manifest_references", "digest")
    op.create_table(
        "tags",
        sa.Column("image_id", _ID, nullable=False),
        sa.Column("name", _BYTE_TEXT, nullable=False),
        sa.Column("manifest_id", _ID, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("moved_at", _TIME, nullable=False),
        sa.Column("moved_by", _ID, nullable=True),
        _to("images", "tags", "image_id"),
        _to("manifests", "tags", "manifest_id"),
        sa.PrimaryKeyConstraint("image_id", "name", name="pk_tags"),
    )
    _index("tags", "manifest_id")


def _table(name: str, *parts: sa.schema.SchemaItem) -> None:
    """A table whose ids are never used twice."""
    op.create_table(name, *parts, sa.PrimaryKeyConstraint("id", name=f"pk_{name}"), sqlite_autoincrement=True)


def _key() -> sa.Column[int]:
    return sa.Column("id", _ID, nullable=False, autoincrement=True)


def _to(target: str, table: str, column: str, *, ondelete: str = "CASCADE") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete=ondelete)


def _unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"uq_{table}_{'_'.join(columns)}")


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))
