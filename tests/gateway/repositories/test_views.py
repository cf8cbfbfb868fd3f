"""The images of a view by name: of which members, in which order, for whom."""

from gateway.repositories.views import image_names
from storage import Database, RepositoryRecord, Transaction
from storage.metadata import images, members
from storage.metadata.members import NewMember
from tests.gateway.repositories.shelf import Holder
from tests.storage.metadata import samples
from tests.storage.metadata.samples import NOW


async def filled(database: Database, name: str, *named: str) -> RepositoryRecord:
    """A repository with images of these names."""

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, name)
        for image in named:
            images.ensure(tx, record, image, now=NOW)
        return record

    return await database.transaction(make)


async def view_of(database: Database, name: str, *inside: NewMember) -> RepositoryRecord:
    """A virtual repository with these members."""

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, name, repository_type="virtual")
        members.put(tx, record.id, inside)
        return record

    return await database.transaction(make)


async def listed(
    database: Database, record: RepositoryRecord, *readable: RepositoryRecord, after: str = "", limit: int = 100
) -> list[str]:
    """What a caller sees who may read these."""
    caller = Holder(reads=frozenset(each.id for each in readable))

    def page(tx: Transaction) -> list[str]:
        return list(image_names(tx, record, caller.may_pull, after=after, limit=limit))

    return await database.survey(page)


async def test_the_images_of_one_repository(database: Database) -> None:
    """Its own, bytewise, beyond where the last page ended, up to a number."""
    record = await filled(database, "team/a", "b", "a/x", "a-x", "c")

    assert await listed(database, record) == ["a-x", "a/x", "b", "c"]
    assert await listed(database, record, after="a-x", limit=2) == ["a/x", "b"]
    assert await listed(database, record, limit=0) == []


async def test_the_images_of_a_view_are_those_of_its_members(database: Database) -> None:
    """Through views within it, each once, in one order; also in pages."""
    a, b = await filled(database, "team/a", "x", "y"), await filled(database, "team/b", "w", "x", "z")
    inner = await view_of(database, "team/inner", NewMember(b.id))
    outer = await view_of(database, "team/outer", NewMember(inner.id), NewMember(a.id))

    assert await listed(database, outer, a, b, inner) == ["w", "x", "y", "z"]
    assert await listed(database, outer, a, b, inner, after="w", limit=2) == ["x", "y"]


async def test_a18_a20_only_what_the_caller_may_read_is_listed(database: Database) -> None:
    """Neither a private member nor what is behind a private view in the view, but what another way leads to."""
    a, b = await filled(database, "team/a", "x", "y"), await filled(database, "team/b", "w")
    inner = await view_of(database, "team/inner", NewMember(b.id), NewMember(a.id, include=("y",)))
    outer = await view_of(database, "team/outer", NewMember(inner.id), NewMember(a.id, exclude=("y",)))

    assert await listed(database, outer, a) == ["x"]
    assert await listed(database, outer, a, inner) == ["x", "y"]
    assert await listed(database, outer, a, b) == ["x"]
    assert await listed(database, outer, b, inner) == ["w"]
    assert await listed(database, outer) == []


async def test_patterns_decide_which_names_a_member_gives(database: Database) -> None:
    """A name is listed if every pattern on one way to it lets it through."""
    a = await filled(database, "team/a", "lib/x", "lib/y", "z")
    inner = await view_of(database, "team/inner", NewMember(a.id, include=("lib/*",)))
    outer = await view_of(database, "team/outer", NewMember(inner.id, exclude=("lib/y",)))

    assert await listed(database, outer, a, inner) == ["lib/x"]
    assert await listed(database, inner, a) == ["lib/x", "lib/y"]
