"""Whoever raises a number of `changes` tells those who listen, on PostgreSQL; SQLite's readers see it by themselves.

The notification carries nothing: who hears it reads the table. The server sends it once per transaction, after the
commit, in the order of commits. The program of revision 0003 works as before: it does not listen.
"""

from collections.abc import Sequence
from typing import Final

from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

# As in revision 0002, which tells why, and a notification.
_LOCK: Final = 0x736C75696365
_RAISE: Final = (
    "INSERT INTO changes (scope, at) VALUES (changed, (SELECT coalesce(max(at), 0) + 1 FROM changes))"
    " ON CONFLICT (scope) DO UPDATE SET at = excluded.at"
)
_RAISER: Final = f"""
CREATE OR REPLACE FUNCTION changes_raise(changed text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
PERFORM pg_advisory_xact_lock({_LOCK});
{_RAISE};
PERFORM pg_notify('sluice_changes', '');
END $$
"""


def upgrade() -> None:
    """Replace the function; no table is touched, so nobody waits."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(_RAISER)
