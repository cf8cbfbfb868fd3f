"""The places that a secret is narrowed to, by name."""

from gateway.access.named_limits import project_names, repository_names
from gateway.access.principal import NO_LIMITS, Limits
from storage import Transaction
from tests.gateway.access.house import House


async def test_places_are_named_in_order_and_those_that_are_gone_left_out(house: House) -> None:
    """Ids become sorted names; an id without a row becomes nothing, and narrowing to nothing is no lack of limits."""
    second = await house.repository("globex", "two")
    first = await house.repository("acme", "one")
    limits = Limits(
        repository_ids=frozenset({second.id, first.id, 99}),
        project_ids=frozenset({second.project_id, first.project_id, 99}),
    )
    gone = Limits(repository_ids=frozenset({99}), project_ids=frozenset({99}))

    def look(tx: Transaction) -> list[tuple[list[str] | None, list[str] | None]]:
        return [(repository_names(tx, each), project_names(tx, each)) for each in (limits, gone, NO_LIMITS)]

    assert await house.database.read(look) == [
        (["acme/one", "globex/two"], ["acme", "globex"]),
        ([], []),
        (None, None),
    ]
