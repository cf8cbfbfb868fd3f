"""Addresses of repositories: each leads to one, of kinds that do not mix, and a door chooses among them."""

import pytest

from storage import FRONT_DOOR, AddressKind, Conflict, Database, Door, Transaction
from storage.metadata import addresses, repositories
from storage.metadata.changes import ACCESS
from tests.storage.metadata.samples import repository


async def test_addresses_are_replaced_kind_by_kind(database: Database) -> None:
    """What is put is what is there, in order; other kinds and other repositories stay as they are."""
    one = await database.transaction(repository, "team/one")
    other = await database.transaction(repository, "team/other")
    await database.transaction(addresses.put, one.id, AddressKind.HOST, ["b.example", "a.example:5000"])
    await database.transaction(addresses.put, one.id, AddressKind.NAMESPACE, ["docker.io"])
    await database.transaction(addresses.put, other.id, AddressKind.CATCH_ALL, ["c.example"])
    await database.transaction(addresses.put, one.id, AddressKind.HOST, ["b.example", "d.example"])

    assert await database.read(addresses.names_of, one.id) == {
        AddressKind.HOST: ("b.example", "d.example"),
        AddressKind.CATCH_ALL: (),
        AddressKind.NAMESPACE: ("docker.io",),
    }
    assert await database.read(addresses.find, AddressKind.HOST, "b.example") == one
    assert await database.read(addresses.find, AddressKind.HOST, "a.example:5000") is None
    assert await database.read(addresses.find, AddressKind.HOST, "docker.io") is None
    assert await database.read(addresses.find, AddressKind.CATCH_ALL, "c.example") == other


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (AddressKind.HOST, "own.example", "host own.example belongs to repository team/one"),
        (AddressKind.CATCH_ALL, "own.example", "host own.example belongs to repository team/one"),
        (AddressKind.HOST, "all.example", "the catch-all of host all.example belongs to repository team/one"),
        (AddressKind.CATCH_ALL, "all.example", "the catch-all of host all.example belongs to repository team/one"),
        (AddressKind.NAMESPACE, "docker.io", "namespace docker.io belongs to repository team/one"),
    ],
)
async def test_an_address_leads_to_one_repository(database: Database, kind: AddressKind, name: str, words: str) -> None:
    """Whoever has it is named, also where a host is to be of the other kind; nothing changes then."""
    one = await database.transaction(repository, "team/one")
    other = await database.transaction(repository, "team/other")
    await database.transaction(addresses.put, one.id, AddressKind.HOST, ["own.example"])
    await database.transaction(addresses.put, one.id, AddressKind.CATCH_ALL, ["all.example"])
    await database.transaction(addresses.put, one.id, AddressKind.NAMESPACE, ["docker.io"])

    with pytest.raises(Conflict, match=words):
        await database.transaction(addresses.put, other.id, kind, ["free.example", name])
    assert await database.read(addresses.names_of, other.id) == dict.fromkeys(AddressKind, ())


async def test_a_namespace_and_a_host_may_have_one_name(database: Database) -> None:
    """The one is looked up by what a client asks for, the other by where it came."""
    one = await database.transaction(repository, "team/one")
    other = await database.transaction(repository, "team/other")
    await database.transaction(addresses.put, one.id, AddressKind.HOST, ["docker.io"])
    await database.transaction(addresses.put, other.id, AddressKind.NAMESPACE, ["docker.io"])
    assert await database.read(addresses.find, AddressKind.NAMESPACE, "docker.io") == other


async def test_addresses_go_with_their_repository(database: Database) -> None:
    """Another may have them then."""
    one = await database.transaction(repository, "team/one")
    await database.transaction(addresses.put, one.id, AddressKind.HOST, ["own.example"])
    await database.transaction(repositories.delete, one.id)
    other = await database.transaction(repository, "team/other")
    await database.transaction(addresses.put, other.id, AddressKind.HOST, ["own.example"])
    assert await database.read(addresses.find, AddressKind.HOST, "own.example") == other


async def test_every_change_ends_remembered_answers_and_nothing_else_does(database: Database) -> None:
    """A name that comes, goes or is another's counts in `access`; putting the same again does not."""
    one = await database.transaction(repository, "team/one")

    async def counts(*names: str) -> bool:
        changes = database.changes()
        before = changes.look()
        assert before is not None
        await database.transaction(addresses.put, one.id, AddressKind.NAMESPACE, names)
        changes.look()
        return changes.changed_at(ACCESS) > before

    assert [await counts("a"), await counts("a"), await counts("b"), await counts(), await counts()] == [
        True,
        False,
        True,
        True,
        False,
    ]


# --- doors -------------------------------------------------------------------------------------------------------


def furnish(tx: Transaction) -> None:
    """A repository behind each kind of address, and a catch-all for the rest."""
    repository(tx, "team/app", flat_alias_prefix="flat")
    repository(tx, "all/all", is_catch_all=True)
    own = repository(tx, "hosts/own")
    rest = repository(tx, "hosts/rest")
    mirror = repository(tx, "hub/mirror")
    addresses.put(tx, own.id, AddressKind.HOST, ["own.example"])
    addresses.put(tx, rest.id, AddressKind.CATCH_ALL, ["rest.example"])
    addresses.put(tx, mirror.id, AddressKind.NAMESPACE, ["docker.io"])


OWN, REST, OTHER = Door(host="own.example"), Door(host="rest.example"), Door(host="other.example")


@pytest.mark.parametrize(
    ("door", "name", "expected"),
    [
        (OWN, "img", ("hosts/own", "img")),
        (OWN, "team/app/img", ("hosts/own", "team/app/img")),  # every name is an image there
        (OWN, "flat/img", ("hosts/own", "flat/img")),
        (REST, "team/app/img", ("team/app", "img")),
        (REST, "flat/img", ("team/app", "img")),
        (REST, "img", ("hosts/rest", "img")),
        (REST, "a/b/c/d", ("hosts/rest", "a/b/c/d")),
        (REST, "team/none/img", None),  # a project's names are its own
        (REST, "hosts/img", None),
        (OTHER, "img", ("all/all", "img")),
        (OTHER, "a/b", ("all/all", "a/b")),
        (OTHER, "team/app/img", ("team/app", "img")),
        (FRONT_DOOR, "img", ("all/all", "img")),
        (Door(namespace="docker.io"), "library/nginx", ("hub/mirror", "library/nginx")),
        (Door(namespace="docker.io"), "team/app/img", ("hub/mirror", "team/app/img")),
        (Door(namespace="docker.io", host="own.example"), "nginx", ("hub/mirror", "nginx")),
        (Door(namespace="ghcr.io"), "team/app/img", None),  # of no mirror, never of another way in
        (Door(namespace="own.example"), "img", None),
        (Door(repository="team/app"), "img", ("team/app", "img")),
        (Door(repository="team/app", host="own.example"), "a/b/c", ("team/app", "a/b/c")),
        (Door(repository="team/none"), "img", None),
        (Door(repository="team/app", namespace="docker.io"), "img", ("hub/mirror", "img")),
    ],
)
async def test_a_door_decides_which_repository_serves_a_name(
    database: Database, door: Door, name: str, expected: tuple[str, str] | None
) -> None:
    """A namespace, a path and a host of its own lead to one repository; other hosts only choose the catch-all."""
    await database.transaction(furnish)
    routed = await database.read(repositories.route, name, door)
    assert (routed and (routed[0].full_name, routed[1])) == expected
