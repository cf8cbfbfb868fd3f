"""Repositories: their settings, who sees them in listings, and which one serves an image name."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import Conflict, Database, RepositoryRecord, Transaction
from storage.metadata import grants, repositories, tables
from tests.storage.metadata.samples import NOW, account, project, repository


async def test_a_new_repository_has_what_was_asked_for(database: Database) -> None:
    """All settings come back, with the names of project and storage, by name and by id."""
    made = await database.transaction(
        repository,
        "team/app",
        description="d",
        flat_alias_prefix="t/x",
        anonymous_read=True,
        immutable_tags=["v*", "1"],
    )
    assert (made.project, made.name, made.full_name, made.storage) == ("team", "app", "team/app", "default")
    assert (made.format, made.repository_type) == ("docker", "hosted")
    assert (made.flat_alias_prefix, made.anonymous_read, made.is_catch_all) == ("t/x", True, False)
    assert made.immutable_tags == ("v*", "1")
    assert (made.created_at, made.updated_at) == (NOW, NOW)
    assert await database.read(repositories.find, "team", "app") == made
    assert await database.read(repositories.get, made.id) == made
    assert await database.read(repositories.find, "team", "other") is None
    assert await database.read(repositories.find, "other", "app") is None
    assert await database.read(repositories.get, made.id + 1) is None


@pytest.mark.parametrize(
    ("full_name", "given", "words"),
    [
        ("team/app", {}, "repository team/app exists already"),
        ("team/new", {"flat_alias_prefix": "flat"}, "alias prefix flat belongs to repository team/app"),
        ("team/new", {"is_catch_all": True}, "team/app is the catch-all already"),
        ("team/new", {"project_id": 77}, "project 77 does not exist"),
        ("team/new", {"storage_id": 77}, "referred to does not exist"),
    ],
)
async def test_what_is_taken_or_missing_is_named(
    database: Database, full_name: str, given: dict[str, object], words: str
) -> None:
    """Name, alias and the place of the catch-all exist once; project and storage must exist."""
    await database.transaction(repository, "team/app", flat_alias_prefix="flat", is_catch_all=True)
    with pytest.raises(Conflict, match=words):
        await database.transaction(repository, full_name, **given)


async def test_the_database_itself_refuses_a_second_catch_all(database: Database) -> None:
    """Also two writers that did not see each other could not both become the catch-all."""
    made = await database.transaction(repository, "team/app", is_catch_all=True)
    other = await database.transaction(repository, "team/other")
    with pytest.raises(Conflict, match="is_catch_all"):
        await database.transaction(
            lambda tx: tx.execute(
                sa.text("UPDATE repositories SET is_catch_all = true WHERE id = :id"), {"id": other.id}
            )
        )
    assert await database.read(repositories.catch_all) == made


async def test_the_same_name_in_two_projects_is_two_repositories(database: Database) -> None:
    """Names are unique within a project only."""
    one = await database.transaction(repository, "a/app")
    two = await database.transaction(repository, "b/app")
    assert one.id != two.id


async def test_changing_settings_leaves_the_others(database: Database) -> None:
    """Only what is named changes; an alias can be taken away; the time of the change is kept."""
    made = await database.transaction(repository, "team/app", flat_alias_prefix="flat", description="d")
    changed = await database.transaction(
        repositories.update, made.id, now=NOW + 5, flat_alias_prefix=None, immutable_tags=("v*",), is_catch_all=True
    )
    assert changed is not None
    assert (changed.flat_alias_prefix, changed.immutable_tags, changed.is_catch_all) == (None, ("v*",), True)
    assert (changed.description, changed.updated_at, changed.created_at) == ("d", NOW + 5, NOW)
    again = await database.transaction(repositories.update, made.id, now=NOW + 6, is_catch_all=True)
    assert again is not None  # being the catch-all already is no conflict with itself
    assert await database.transaction(repositories.update, made.id + 1, now=NOW, description="x") is None


async def test_redirects_are_off_until_they_are_allowed(database: Database) -> None:
    """Said when it is made or later; other changes leave it, and so do settings of another version beside it."""
    plain = await database.transaction(repository, "team/app")
    allowed = await database.transaction(repository, "team/other", redirect_pulls=True)
    assert (plain.redirect_pulls, allowed.redirect_pulls) == (False, True)

    await database.transaction(
        lambda tx: tx.execute(
            sa.text("UPDATE repositories SET settings = '{\"later\": 1}' WHERE id = :id"), {"id": plain.id}
        )
    )
    changed = await database.transaction(repositories.update, plain.id, now=NOW, redirect_pulls=True)
    described = await database.transaction(repositories.update, plain.id, now=NOW, description="d")
    settings = await database.read(
        lambda tx: tx.execute(
            sa.select(tables.repositories.c.settings).where(tables.repositories.c.id == plain.id)
        ).scalar_one()
    )
    taken = await database.transaction(repositories.update, plain.id, now=NOW, redirect_pulls=False)

    assert changed is not None
    assert changed.redirect_pulls
    assert described is not None
    assert described.redirect_pulls
    assert json.loads(settings) == {"later": 1, "redirect_pulls": True}
    assert taken is not None
    assert not taken.redirect_pulls


async def test_changes_cannot_take_what_another_has(database: Database) -> None:
    """Alias and catch-all are refused when changed as when made."""
    await database.transaction(repository, "team/app", flat_alias_prefix="flat", is_catch_all=True)
    other = await database.transaction(repository, "team/other")
    with pytest.raises(Conflict, match="flat belongs to repository team/app"):
        await database.transaction(repositories.update, other.id, now=NOW, flat_alias_prefix="flat")
    with pytest.raises(Conflict, match="team/app is the catch-all"):
        await database.transaction(repositories.update, other.id, now=NOW, is_catch_all=True)


async def test_a_deleted_repository_takes_its_grants_along_and_its_id_is_not_used_again(database: Database) -> None:
    """Deleting says whether there was one; the next of the same name has another id (security row A15)."""
    made = await database.transaction(repository, "team/app")
    user = await database.transaction(account, "user")
    await database.transaction(grants.put, account_id=user.id, repository_id=made.id, role="writer", now=NOW)
    assert await database.transaction(repositories.delete, made.id)
    assert not await database.transaction(repositories.delete, made.id)
    assert await database.read(grants.of_account, user.id) == []
    assert (await database.transaction(repository, "team/app")).id > made.id


async def test_pages_are_ordered_by_project_then_name_and_miss_nothing(database: Database) -> None:
    """`a` comes before `a-b` although `a/` sorts after `a-` as text; each repository is on exactly one page."""
    names = ["a/x", "a/y", "a-b/x", "b/a", "a.c/z", "a/Z"]
    for name in names:
        await database.transaction(repository, name)
    expected = sorted(names, key=lambda name: [part.encode() for part in name.split("/")])
    for limit in (1, 2, 4):
        seen: list[str] = []
        while page := await database.survey(
            repositories.page, project=None, after=seen[-1] if seen else "", limit=limit, readable_by=None
        ):
            seen += [record.full_name for record in page]
        assert seen == expected
    page = await database.survey(repositories.page, project="a", after="a/Z", limit=10, readable_by=None)
    assert [record.name for record in page] == ["x", "y"]


async def test_a_listing_for_an_account_shows_what_it_may_read(database: Database) -> None:
    """Readable: by its own role on the repository or its project, or anonymously; 0 stands for everybody."""

    def fill(transaction: Transaction) -> tuple[int, int]:
        user, other = account(transaction, "user"), account(transaction, "other")
        direct = repository(transaction, "p/direct")
        repository(transaction, "p/hidden")
        repository(transaction, "q/by-project")
        repository(transaction, "r/public", anonymous_read=True)
        theirs = repository(transaction, "s/theirs")
        grants.put(transaction, account_id=user.id, repository_id=direct.id, role="writer", now=NOW)
        grants.put(transaction, account_id=user.id, project_id=project(transaction, "q").id, role="reader", now=NOW)
        grants.put(transaction, account_id=other.id, repository_id=theirs.id, role="admin", now=NOW)
        return user.id, other.id

    user, other = await database.transaction(fill)

    async def readable(account_id: int | None, name: str | None = None) -> list[str]:
        page = await database.survey(repositories.page, project=name, after="", limit=100, readable_by=account_id)
        return [record.full_name for record in page]

    assert await readable(user) == ["p/direct", "q/by-project", "r/public"]
    assert await readable(user, "p") == ["p/direct"]
    assert await readable(other) == ["r/public", "s/theirs"]
    assert await readable(0) == ["r/public"]
    assert len(await readable(None)) == 5
    ids = await database.survey(grants.readable_ids, user)
    assert len(ids) == 3


async def test_settings_of_one_type_come_back_as_they_were_given(database: Database) -> None:
    """What only some types have is text to the rows; what all have stays, whichever of the two changes."""
    made = await database.transaction(
        repository, "hub/cache", repository_type="proxy", settings='{"upstream": {"a": 1}}'
    )
    assert (made.repository_type, json.loads(made.settings)) == ("proxy", {"upstream": {"a": 1}})

    async def change(**changes: Any) -> tuple[dict[str, object], bool]:
        changed = await database.transaction(lambda tx: repositories.update(tx, made.id, now=NOW, **changes))
        assert changed is not None
        assert await database.read(repositories.get, made.id) == changed
        return {key: each for key, each in json.loads(changed.settings).items() if each is not True}, (
            changed.redirect_pulls
        )

    assert await change(redirect_pulls=True) == ({"upstream": {"a": 1}}, True)
    assert await change(settings='{"upstream": {"b": 2}}') == ({"upstream": {"b": 2}}, True)
    assert await change(settings='{"virtual": {}}', redirect_pulls=False) == ({"virtual": {}}, False)
    assert await change(settings='{"redirect_pulls": true}') == ({}, False)  # not said there
    assert await change(description="else") == ({}, False)


# --- routing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("team/app/img", ("team/app", "img")),
        ("team/app/a/b/c", ("team/app", "a/b/c")),
        ("team/app", None),  # a full path needs an image, and a project's names are its own
        ("team/none/img", None),
        ("flat/img", ("team/flat", "img")),
        ("flat/a/b", ("team/flat", "a/b")),
        ("flat/deep/img", ("team/deep", "img")),  # the longest prefix wins
        ("flat/deep", ("team/flat", "deep")),  # at least one segment must stay
        ("flat", ("all/all", "flat")),
        ("flatter/img", ("all/all", "flatter/img")),  # whole segments only
        ("img", ("all/all", "img")),
        ("all-alias/img", ("all/all", "img")),
        ("t/a/img", ("t/a", "img")),  # a full path goes before an alias that is the same
    ],
)
async def test_which_repository_serves_a_name(database: Database, name: str, expected: tuple[str, str] | None) -> None:
    """Full path, then the longest flat alias, then the catch-all, which leaves the names of projects alone."""

    def fill(transaction: Transaction) -> None:
        repository(transaction, "team/app")
        repository(transaction, "team/flat", flat_alias_prefix="flat")
        repository(transaction, "team/deep", flat_alias_prefix="flat/deep")
        repository(transaction, "all/all", is_catch_all=True, flat_alias_prefix="all-alias")
        repository(transaction, "t/a")
        repository(transaction, "t/b", flat_alias_prefix="t/a")

    await database.transaction(fill)
    routed = await database.read(repositories.route, name)
    assert (routed and (routed[0].full_name, routed[1])) == expected


async def test_without_a_catch_all_other_names_go_nowhere(database: Database) -> None:
    """No repository is guessed."""
    await database.transaction(repository, "team/app", flat_alias_prefix="flat")
    for name in ("img", "team/app", "other/img", "a/b/c/d"):
        assert await database.read(repositories.route, name) is None
    assert await database.read(repositories.catch_all) is None


async def test_the_longest_of_the_given_prefixes(database: Database) -> None:
    """`by_alias` picks by length, whatever the order, and knows that there may be none."""
    await database.transaction(repository, "team/a", flat_alias_prefix="x")
    longer = await database.transaction(repository, "team/b", flat_alias_prefix="x/y")
    assert await database.read(repositories.by_alias, ["x", "x/y", "x/y/z"]) == longer
    assert await database.read(repositories.by_alias, ["z"]) is None
    assert await database.read(repositories.by_alias, []) is None


SEGMENT = st.sampled_from(["a", "b", "c"])
PATH = st.lists(SEGMENT, min_size=1, max_size=4).map("/".join)
PLACES = st.dictionaries(
    st.tuples(SEGMENT, SEGMENT).map("/".join), st.tuples(st.none() | PATH, st.booleans()), max_size=5
)


def expected_route(made: list[RepositoryRecord], name: str) -> tuple[str, str] | None:
    """The rule of `route`, as it is said rather than as it is made."""
    for record in made:
        if name.startswith(f"{record.full_name}/"):
            return record.full_name, name.removeprefix(f"{record.full_name}/")
    aliased = [each for each in made if each.flat_alias_prefix and name.startswith(f"{each.flat_alias_prefix}/")]
    if aliased:
        best = max(aliased, key=lambda each: len(each.flat_alias_prefix or ""))
        return best.full_name, name.removeprefix(f"{best.flat_alias_prefix}/")
    project, *rest = name.split("/")
    if rest and project in {each.project for each in made}:
        return None
    return next(((each.full_name, name) for each in made if each.is_catch_all), None)


@pytest.fixture(scope="module")
def memory() -> Iterator[sa.Connection]:
    """Empty tables in memory, for many small examples."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        tables.metadata.create_all(connection)
        connection.commit()
        yield connection
    engine.dispose()


@settings(max_examples=50)  # enough for five places; a mutated rule fails within ten
@given(places=PLACES, names=st.lists(PATH, min_size=1, max_size=10))
def test_routing_follows_the_rule_for_any_names(
    memory: sa.Connection, places: dict[str, tuple[str | None, bool]], names: list[str]
) -> None:
    """For any repositories and names the statement decides as the rule says."""
    made: list[RepositoryRecord] = []
    try:
        for full_name, (alias, is_catch_all) in places.items():
            taken = {record.flat_alias_prefix for record in made}
            made.append(
                repository(
                    memory,
                    full_name,
                    flat_alias_prefix=None if alias in taken else alias,
                    is_catch_all=is_catch_all and not any(record.is_catch_all for record in made),
                )
            )
        for name in names:
            routed = repositories.route(memory, name)
            assert (routed and (routed[0].full_name, routed[1])) == expected_route(made, name)
    finally:
        memory.rollback()
