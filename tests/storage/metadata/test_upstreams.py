"""What is known of upstreams: credentials in order, budgets by prefix, checks that go with their image."""

from dataclasses import replace

from storage import BudgetRecord, CheckRecord, Database
from storage.metadata import repositories, upstreams
from tests.storage.metadata.pieces import image
from tests.storage.metadata.samples import repository

BUDGET = BudgetRecord("hub/anonymous", 100, 99, 21600, 1_700_000_000, None)


async def test_credentials_are_replaced_and_keep_their_order(database: Database) -> None:
    """Each repository has its own; they go with it."""
    one = await database.transaction(repository, "hub/one")
    other = await database.transaction(repository, "hub/other")
    await database.transaction(upstreams.put_credentials, one.id, [b"z", b"a\0", b"m"])
    await database.transaction(upstreams.put_credentials, other.id, [b"theirs"])
    assert await database.read(upstreams.credentials, one.id) == [b"z", b"a\0", b"m"]
    await database.transaction(upstreams.put_credentials, one.id, [b"new"])
    assert await database.read(upstreams.credentials, one.id) == [b"new"]
    await database.transaction(upstreams.put_credentials, one.id, [])
    assert await database.read(upstreams.credentials, one.id) == []
    assert await database.read(upstreams.credentials, other.id) == [b"theirs"]
    assert await database.transaction(repositories.delete, other.id)
    assert await database.read(upstreams.credentials, other.id) == []


async def test_a_budget_is_replaced_as_a_whole(database: Database) -> None:
    """Also values that were known and are not any more."""
    assert await database.read(upstreams.budget, BUDGET.name) is None
    await database.transaction(upstreams.put_budget, BUDGET)
    assert await database.read(upstreams.budget, BUDGET.name) == BUDGET
    changed = replace(BUDGET, allowed=None, remaining=None, window_s=None, retry_at=1_700_000_060)
    await database.transaction(upstreams.put_budget, changed)
    assert await database.read(upstreams.budget, BUDGET.name) == changed


async def test_budgets_are_found_by_the_beginning_of_their_names(database: Database) -> None:
    """Letter by letter, capitals apart, in bytewise order; nothing in a name is a pattern."""
    for name in ("hub/b", "hub/B", "hub/", "Hub/a", "hub", "hubble", "hub/é", "h%/a", "hub0"):
        await database.transaction(upstreams.put_budget, replace(BUDGET, name=name))

    async def names(prefix: str) -> list[str]:
        return [each.name for each in await database.read(upstreams.budgets, prefix)]

    assert await names("hub/") == ["hub/", "hub/B", "hub/b", "hub/é"]
    assert await names("h%") == ["h%/a"]
    assert len(await names("")) == 9


async def test_budgets_of_which_nothing_is_heard_any_more_go(database: Database) -> None:
    """A new password is a new name, so old ones go when one comes; not while an upstream wants no question."""
    month = 30 * 86400
    old, waiting, last = (replace(BUDGET, name=f"hub/{each}") for each in ("old", "waiting", "last"))
    await database.transaction(upstreams.put_budget, old)
    await database.transaction(upstreams.put_budget, replace(waiting, retry_at=BUDGET.observed_at + month))
    await database.transaction(upstreams.put_budget, replace(last, observed_at=BUDGET.observed_at + 1))
    came = replace(BUDGET, name="hub/new", observed_at=BUDGET.observed_at + month + 1)

    await database.transaction(upstreams.put_budget, replace(last, observed_at=BUDGET.observed_at + 1))
    assert len(await database.read(upstreams.budgets, "")) == 3
    await database.transaction(upstreams.put_budget, came)

    assert [each.name for each in await database.read(upstreams.budgets, "")] == ["hub/last", "hub/new", "hub/waiting"]


async def test_checks_are_per_tag_and_go_with_their_image(database: Database) -> None:
    """Written again, forgotten, or gone with the repository."""
    place = await database.transaction(image, "hub/cache/nginx")
    assert await database.read(upstreams.checked, place.id, "latest") is None
    await database.transaction(upstreams.put_check, place.id, "latest", 5, None)
    await database.transaction(upstreams.put_check, place.id, "1.27", 6, '"x"')
    await database.transaction(upstreams.put_check, place.id, "latest", 7, 'W/"y"')
    assert await database.read(upstreams.checked, place.id, "latest") == CheckRecord(7, 'W/"y"')
    await database.transaction(upstreams.forget_check, place.id, "latest")
    assert await database.read(upstreams.checked, place.id, "latest") is None
    assert await database.read(upstreams.checked, place.id, "1.27") == CheckRecord(6, '"x"')
    assert await database.transaction(repositories.delete, place.repository_id)
    assert await database.read(upstreams.checked, place.id, "1.27") is None
