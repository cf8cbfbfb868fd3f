"""How far images are that somebody asked to be fetched ahead, so that every worker can tell.

It ends no answer: no triggers. Programs of the revision before know nothing of it and lose nothing.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "warm_ups",
        sa.Column("id", _ID, nullable=False),
        sa.Column("repository_id", _ID, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("images_done", sa.BigInteger(), nullable=False),
        sa.Column("blobs", sa.BigInteger(), nullable=False),
        sa.Column("fetched_bytes", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Text(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_warm_ups"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repositories.id"], name="fk_warm_ups_repository_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_warm_ups_repository_id", "warm_ups", ["repository_id"])
