"""Every row of the tables of attacks, against a real gateway, plain and inside TLS, whole and byte by byte."""

from collections import Counter

import pytest

from tests.security.wire.cases import GET, closed, judge, refused, served
from tests.security.wire.cases import Case as Row
from tests.security.wire.cases_framing import FRAMING
from tests.security.wire.cases_heads import HEADS
from tests.security.wire.cases_protocols import PROTOCOLS
from tests.security.wire.cases_recall import RECALL
from tests.security.wire.cases_sequences import SEQUENCES
from tests.security.wire.fortress import Fortress

pytestmark = pytest.mark.slow

TABLES = {"framing": FRAMING, "heads": HEADS, "protocols": PROTOCOLS, "sequences": SEQUENCES, "recall": RECALL}
ALL = tuple(row for table in TABLES.values() for row in table)
DRIBBLED_BYTES = 600
"""Each byte costs the gateway a turn, so longer ones are not sent in single bytes."""


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.id)
def test_an_attack_ends_as_the_table_says(row: Row, fortress: Fortress) -> None:
    """Exactly these statuses, the connection kept or closed as said, and the gateway stands."""
    judge(row, fortress)


@pytest.mark.parametrize("table", TABLES)
def test_an_attack_in_single_bytes_ends_no_other_way(table: str, fortress: Fortress) -> None:
    """Where the network cuts a request changes nothing of its meaning."""
    surprises = []
    for row in TABLES[table]:
        if len(row.send) < DRIBBLED_BYTES:
            try:
                judge(row, fortress, dribble=True)
            except AssertionError as surprise:  # all of them are worth knowing
                surprises.append(str(surprise))

    assert not surprises, "\n".join(surprises)


def test_the_tables_hold_what_was_promised() -> None:
    """At least 150 attacks, each with a name of its own and a reason; the stack's hostile inputs by their numbers."""
    names = Counter(row.id for row in ALL)

    assert len(ALL) >= 150
    assert names.most_common(1)[0][1] == 1, names.most_common(3)
    assert all(row.why and row.outcomes for row in ALL)
    for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 18):
        assert any(name.startswith(f"h{number}-") for name in names), number


WRONG = (
    served("fewer", "an answer that is not expected", GET * 2, 200),
    served("more", "an answer that does not come", GET, 200, 200),
    served("other", "another status", GET, 401),
    served("stays", "a connection that is not kept", GET.replace(b"1.1", b"1.0"), 200),
    closed("closes", "a connection that is kept", GET, 200),
    refused("nothing", "a refusal that does not come", GET),
)


@pytest.mark.parametrize("row", WRONG, ids=lambda row: row.id)
def test_a_table_that_is_wrong_is_noticed(row: Row, impatient_fortress: Fortress) -> None:
    """What is compared is what came: each kind of wrong expectation fails."""
    with pytest.raises(AssertionError):
        judge(row, impatient_fortress)
