"""Staging areas of object stores: who holds one, what of it lies where, and its smallest pieces themselves."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_BYTE_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make both tables; programs of the revision before know nothing of them and lose nothing."""
    op.create_table(
        "stagings",
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("id", _BYTE_TEXT, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("storage_id", "id", name="pk_stagings"),
        sa.ForeignKeyConstraint(["storage_id"], ["storages.id"], name="fk_stagings_storage_id", ondelete="RESTRICT"),
    )
    op.create_table(
        "staging_segments",
        sa.Column("storage_id", _ID, nullable=False),
        sa.Column("id", _BYTE_TEXT, nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("storage_id", "id", "start", name="pk_staging_segments"),
        sa.ForeignKeyConstraint(
            ["storage_id", "id"],
            ["stagings.storage_id", "stagings.id"],
            name="fk_staging_segments_storage_id_id",
            ondelete="CASCADE",
        ),
    )
