"""Members of virtual repositories: their order and what is theirs, and that none contains itself."""

import pytest

from storage import Conflict, Database, MemberRecord, RepositoryRecord, Transaction
from storage.metadata import members, repositories
from storage.metadata.changes import ACCESS
from storage.metadata.members import MOST_LEVELS, MOST_MEMBERS, NewMember
from tests.storage.metadata.samples import repository


def virtual(tx: Transaction, name: str, *inside: RepositoryRecord) -> RepositoryRecord:
    """A virtual repository with these members."""
    made = repository(tx, f"virtual/{name}", repository_type="virtual")
    members.put(tx, made.id, [NewMember(each.id) for each in inside])
    return made


async def test_members_come_in_their_order_with_what_is_theirs(database: Database) -> None:
    """Patterns and the default come back; putting others replaces all."""

    def fill(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord, RepositoryRecord]:
        one, two = repository(tx, "team/z"), repository(tx, "team/a")
        return virtual(tx, "v"), one, two

    made, one, two = await database.transaction(fill)
    await database.transaction(
        members.put,
        made.id,
        [NewMember(one.id, include=("a/*", "b"), exclude=("a/x",)), NewMember(two.id, is_default=True)],
    )
    assert await database.read(members.of, made.id) == [
        MemberRecord(one, ("a/*", "b"), ("a/x",), is_default=False),
        MemberRecord(two, (), (), is_default=True),
    ]
    assert await database.read(members.virtuals_of, one.id) == [made]
    await database.transaction(members.put, made.id, [NewMember(two.id)])
    assert [each.repository for each in await database.read(members.of, made.id)] == [two]
    assert await database.read(members.virtuals_of, one.id) == []
    await database.transaction(members.put, made.id, [])
    assert await database.read(members.of, made.id) == []
    assert await database.read(members.of, one.id) == []


async def test_all_that_have_members_are_found_by_name(database: Database) -> None:
    """Listings of image names ask each of them; who has no members has no names."""

    def fill(tx: Transaction) -> list[RepositoryRecord]:
        one = repository(tx, "team/one")
        virtual(tx, "empty")
        return [virtual(tx, name, one) for name in ("b", "a")]

    made = await database.transaction(fill)

    assert await database.survey(members.virtuals) == made[::-1]


async def test_what_cannot_be_a_member_is_said(database: Database) -> None:
    """Nothing changes then; each refusal names the reason."""

    def fill(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord]:
        one = repository(tx, "team/one")
        return virtual(tx, "v", one), one

    made, one = await database.transaction(fill)
    refused = {
        "50 members at most, not 51": [NewMember(one.id)] * (MOST_MEMBERS + 1),
        "only one member can be the default": [NewMember(one.id, is_default=True), NewMember(2, is_default=True)],
        "repository 77 does not exist": [NewMember(77)],
        "team/one is a member twice": [NewMember(one.id), NewMember(one.id)],
        "virtual/v contains this one, or is it": [NewMember(made.id)],
    }
    for words, given in refused.items():
        with pytest.raises(Conflict, match=words):
            await database.transaction(members.put, made.id, given)
    assert [each.repository for each in await database.read(members.of, made.id)] == [one]


async def test_no_repository_contains_itself_through_others(database: Database) -> None:
    """However far away; a repository that is reached on two ways is no cycle."""

    def fill(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord]:
        inner = virtual(tx, "inner", repository(tx, "team/one"))
        left, right = virtual(tx, "left", inner), virtual(tx, "right", inner)
        return inner, virtual(tx, "outer", left, right)

    inner, outer = await database.transaction(fill)
    with pytest.raises(Conflict, match="virtual/outer contains this one"):
        await database.transaction(members.put, inner.id, [NewMember(outer.id)])
    assert len(await database.read(members.of, outer.id)) == 2


async def test_levels_are_bounded_from_both_sides(database: Database) -> None:
    """A tower of the most levels stands; one more is refused on top, at the bottom, and between two halves."""

    def tower(tx: Transaction, name: str, levels: int) -> list[RepositoryRecord]:
        made = [repository(tx, f"team/{name}")]
        for level in range(levels):
            made.append(virtual(tx, f"{name}{level}", made[-1]))
        return made[1:]

    def fill(tx: Transaction) -> tuple[list[RepositoryRecord], list[RepositoryRecord], RepositoryRecord]:
        return tower(tx, "a", MOST_LEVELS), tower(tx, "b", 2), virtual(tx, "single")

    high, low, single = await database.transaction(fill)
    for outer, inner in ((single, high[-1]), (high[0], single), (high[1], low[-1])):
        with pytest.raises(Conflict, match=f"{MOST_LEVELS} levels deep, not {MOST_LEVELS + 1}"):
            await database.transaction(members.put, outer.id, [NewMember(inner.id)])
    await database.transaction(members.put, high[1].id, [NewMember(high[0].id), NewMember(single.id)])
    await database.transaction(members.put, high[2].id, [NewMember(low[-1].id)])


async def test_a_member_is_not_deleted_under_its_virtual_repository(database: Database) -> None:
    """The virtual repository is named; taken out there, or with that one gone, it can go."""

    def fill(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord]:
        one = repository(tx, "team/one")
        return one, virtual(tx, "v", one)

    one, made = await database.transaction(fill)
    with pytest.raises(Conflict, match="member of the virtual repository virtual/v"):
        await database.transaction(repositories.delete, one.id)
    assert await database.read(repositories.get, one.id) == one
    assert await database.transaction(repositories.delete, made.id)
    assert await database.transaction(repositories.delete, one.id)


async def test_a_member_is_taken_out_of_some(database: Database) -> None:
    """The others keep it, members keep their order, and none is the default in its place."""

    def fill(tx: Transaction) -> list[RepositoryRecord]:
        one, two, three = (repository(tx, f"team/{name}") for name in ("one", "two", "three"))
        inside = [NewMember(one.id), NewMember(two.id, is_default=True), NewMember(three.id)]
        views = [virtual(tx, name) for name in ("a", "b", "c")]
        for view in views:
            members.put(tx, view.id, inside)
        members.take_out(tx, two.id, of=[views[0].id, views[2].id])
        members.take_out(tx, one.id, of=[])
        return views

    views = await database.transaction(fill)
    found = [await database.read(members.of, view.id) for view in views]

    assert [[each.repository.name for each in inside] for inside in found] == [
        ["one", "three"],
        ["one", "two", "three"],
        ["one", "three"],
    ]
    assert [any(each.is_default for each in inside) for inside in found] == [False, True, False]
    again = [NewMember(each.repository.id) for each in found[0]]
    await database.transaction(members.put, views[0].id, [*again, NewMember(views[1].id)])
    assert len(await database.read(members.of, views[0].id)) == 3


async def test_the_database_itself_keeps_a_member(database: Database) -> None:
    """Also a program that knows nothing of members cannot take one away."""

    def fill(tx: Transaction) -> RepositoryRecord:
        one = repository(tx, "team/one")
        virtual(tx, "v", one)
        return one

    one = await database.transaction(fill)
    with pytest.raises(Conflict, match="still referred to"):
        await database.transaction(
            lambda tx: tx.exec_driver_sql(f"DELETE FROM repositories WHERE id = {one.id}").rowcount  # noqa: S608 - a number
        )


async def test_members_that_change_end_remembered_answers(database: Database) -> None:
    """A member that comes, goes or gets other patterns counts in `access`; the same again does not."""

    def fill(tx: Transaction) -> tuple[RepositoryRecord, RepositoryRecord]:
        return virtual(tx, "v"), repository(tx, "team/one")

    made, one = await database.transaction(fill)

    async def counts(given: list[NewMember]) -> bool:
        changes = database.changes()
        before = changes.look()
        assert before is not None
        await database.transaction(members.put, made.id, given)
        changes.look()
        return changes.changed_at(ACCESS) > before

    first, second = [NewMember(one.id)], [NewMember(one.id, exclude=("x",))]
    assert [await counts(given) for given in (first, first, second, second, [], [])] == [True, False] * 3
