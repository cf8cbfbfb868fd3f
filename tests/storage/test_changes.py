"""What who remembers answers may rely on, whichever database tells what changed."""

import pytest
import trio

from storage import Changes, Database, Transaction
from storage.metadata import projects
from storage.metadata.changes import ACCESS
from tests.storage.lease_rows import insert
from tests.storage.metadata.samples import NOW


def change(tx: Transaction, name: str) -> None:
    """Something that counts."""
    projects.create(tx, name=name, description="", now=NOW)


async def first_look(changes: Changes) -> int:
    """Wait until a look is certain, as it is soon after opening."""
    with trio.fail_after(10):
        while (look := changes.look()) is None:  # noqa: ASYNC110 - a thread or a server tells, no event
            await trio.sleep(0.005)
    return look


async def test_an_answer_holds_until_its_scope_changes(any_database: Database) -> None:
    """The rule of `look`: what was made after a look holds while its scopes have not changed since."""
    changes = any_database.changes()
    before = await first_look(changes)
    assert changes.changed_at(ACCESS) <= before

    await any_database.transaction(insert, "counts nowhere")
    assert changes.look() == before

    await any_database.transaction(change, "one")
    after = changes.look()
    assert after is not None
    assert changes.changed_at(ACCESS) > before
    assert changes.changed_at("image:1") <= before
    assert changes.changed_at(ACCESS) <= after


async def test_it_is_the_same_object(any_database: Database) -> None:
    """Who holds it need not ask again."""
    assert any_database.changes() is any_database.changes()


async def test_an_act_that_fails_changes_nothing(any_database: Database) -> None:
    """Only what is committed counts."""
    changes = any_database.changes()
    before = await first_look(changes)

    def fail(tx: Transaction) -> None:
        change(tx, "one")
        raise LookupError

    with pytest.raises(LookupError):
        await any_database.transaction(fail)
    assert changes.look() == before


async def test_the_last_certain_look_and_its_age(any_database: Database) -> None:
    """After closing a look is None, and the last one is told with its age."""
    changes = any_database.changes()
    before = await first_look(changes)
    await any_database.aclose()

    assert changes.look() is None
    number, age_s = changes.last_certain() or (-1, -1.0)
    assert number == before
    assert 0 <= age_s < 5
