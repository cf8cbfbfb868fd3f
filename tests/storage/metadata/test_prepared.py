"""Selects that are compiled once give what they would give otherwise, for lists of any length."""

import pytest
import sqlalchemy as sa

from storage import Database, Transaction
from storage.metadata.prepared import Prepared
from storage.metadata.tables import images
from tests.storage.hearing import statements
from tests.storage.metadata import samples

NAMES = [f"image-{number}" for number in range(40)]
_NAMED = Prepared(
    sa.select(images.c.name, sa.literal("said"))
    .where(
        images.c.repository_id == sa.bindparam("repository"), images.c.name.in_(sa.bindparam("names", expanding=True))
    )
    .order_by(images.c.id)
)
_ALL = Prepared(sa.select(images.c.name).where(images.c.repository_id == sa.bindparam("repository")))


def furnish(tx: Transaction) -> int:
    """A repository with an image of every name; its id."""
    repository = samples.repository(tx, "a/b")
    for name in NAMES:
        values = {"repository_id": repository.id, "name": name, "full_name": f"a/b/{name}", "created_at": samples.NOW}
        tx.execute(sa.insert(images), values)
    return repository.id


@pytest.mark.parametrize("count", [0, 1, 2, 32, 33, 40])
async def test_lists_of_any_length(database: Database, count: int) -> None:
    """Each of them finds exactly what it names, also the second time, and when others were asked between."""

    def work(tx: Transaction) -> None:
        repository = furnish(tx)
        for names in (NAMES[:count], NAMES[:3], NAMES[40 - count :]):
            rows = _NAMED.all(tx, {"names": names, "repository": repository})
            assert [tuple(row) for row in rows] == [(name, "said") for name in names]

    await database.transaction(work)


async def test_one_row_or_none(database: Database) -> None:
    """Several are refused, whatever the database: who asks for one has made a mistake."""

    def work(tx: Transaction) -> None:
        repository = furnish(tx)
        assert _NAMED.one(tx, {"names": ["nobody"], "repository": repository}) is None
        assert _NAMED.scalar(tx, {"names": ["nobody"], "repository": repository}) is None
        assert _NAMED.scalar(tx, {"names": ["image-7"], "repository": repository}) == "image-7"
        with pytest.raises(sa.exc.MultipleResultsFound):
            _ALL.one(tx, {"repository": repository})

    await database.transaction(work)


async def test_values_are_never_text(database: Database) -> None:
    """What a client sends is a value to the database, quotes and all."""
    odd = "a' OR '1'='1"

    def work(tx: Transaction) -> None:
        repository = furnish(tx)
        with statements(tx) as heard:
            assert list(_NAMED.all(tx, {"names": [odd, "x"], "repository": repository})) == []
        assert len(heard) == 1

    await database.transaction(work)
