"""Where names lead by every door, and what a view consists of for whom."""

import json
from collections.abc import Sequence

import pytest

from gateway.repositories import routing
from gateway.repositories.routing import Place, behind, by_full_name, destination, find, image_in, sources
from gateway.upstream.settings import UPSTREAM
from storage import FRONT_DOOR, AddressKind, Database, Door, RepositoryRecord, Transaction
from storage.metadata import addresses, members
from storage.metadata.members import NewMember
from tests.storage.metadata import samples

HUB = json.dumps({UPSTREAM: {"urls": ["https://registry-1.docker.io"]}})
ELSEWHERE = json.dumps({UPSTREAM: {"urls": ["https://ghcr.example"]}})


def everything(tx: Transaction, repository: RepositoryRecord) -> bool:
    """Who may read everywhere."""
    return True


async def make(database: Database, name: str, **given: object) -> RepositoryRecord:
    """A repository of that full name."""
    return await database.transaction(samples.repository, name, **given)


async def view_of(database: Database, name: str, *inside: NewMember) -> RepositoryRecord:
    """A virtual repository with these members."""
    record = await make(database, name, repository_type="virtual")
    await database.transaction(members.put, record.id, inside)
    return record


async def led(database: Database, name: str, door: Door = FRONT_DOOR) -> str | None:
    """The full name of where a name leads."""
    place = await database.read(find, name, door)
    return None if place is None else place.full_name


@pytest.mark.parametrize(
    ("name", "door", "leads_to"),
    [
        ("common/hub/library/nginx", FRONT_DOOR, "common/hub/library/nginx"),
        ("common/hub/nginx", FRONT_DOOR, "common/hub/library/nginx"),
        ("dh/nginx", FRONT_DOOR, "common/hub/library/nginx"),
        ("dh/bitnami/nginx", FRONT_DOOR, "common/hub/bitnami/nginx"),
        ("nginx", Door(host="hub.example"), "common/hub/library/nginx"),
        ("common/hub/x", Door(host="hub.example"), "common/hub/common/hub/x"),
        ("nginx", Door(host="gateway.example", repository="common/hub"), "common/hub/library/nginx"),
        ("library/nginx", Door(host="gateway.example", namespace="docker.io"), "common/hub/library/nginx"),
        ("common/hub/nginx", Door(host="gateway.example", namespace="docker.io"), "common/hub/library/nginx"),
        ("nginx", Door(host="gateway.example", namespace="ghcr.io"), None),
        ("nginx", Door(repository="common/hub", namespace="docker.io"), "common/hub/library/nginx"),
        ("nginx", Door(repository="common/images", namespace="docker.io"), None),
        ("nginx", Door(repository="common/none"), None),
        ("common/images/nginx", Door(host="other.example"), "common/images/nginx"),
        ("nginx", FRONT_DOOR, None),
        ("team/nginx", Door(host="all.example"), "common/images/team/nginx"),
    ],
)
async def test_every_way_leads_to_one_name(database: Database, name: str, door: Door, leads_to: str | None) -> None:
    """An image of a proxy of Docker Hub has one name there, by whichever address and however short it was written."""
    hub = await make(database, "common/hub", repository_type="proxy", settings=HUB, flat_alias_prefix="dh")
    images = await make(database, "common/images")
    for kind, host, record in (
        (AddressKind.HOST, "hub.example", hub),
        (AddressKind.CATCH_ALL, "all.example", images),
        (AddressKind.NAMESPACE, "docker.io", hub),
    ):
        await database.transaction(addresses.put, record.id, kind, [host])

    assert await led(database, name, door) == leads_to


@pytest.mark.parametrize(
    ("alias", "before"),
    [
        ("library", "library/nginx"),
        ("docker-remote", "docker-remote/library/nginx"),
        ("docker-remote", "docker-remote/nginx"),
    ],
)
async def test_a_migration_keeps_names_by_an_alias(database: Database, alias: str, before: str) -> None:
    """Field.md, section 0: what Nexus, Artifactory and Docker Hub called it, is it, whichever prefix was taken."""
    await make(database, "common/dockerhub-proxy", repository_type="proxy", settings=HUB, flat_alias_prefix=alias)

    assert await led(database, before) == "common/dockerhub-proxy/library/nginx"


@pytest.mark.parametrize(
    ("given", "image", "inside"),
    [
        ({"repository_type": "proxy", "settings": HUB}, "nginx", "library/nginx"),
        ({"repository_type": "proxy", "settings": HUB}, "a/nginx", "a/nginx"),
        ({"repository_type": "proxy", "settings": ELSEWHERE}, "nginx", "nginx"),
        ({"repository_type": "hosted", "settings": HUB}, "nginx", "nginx"),
        ({"repository_type": "hosted"}, "nginx", "nginx"),
        ({"repository_type": "proxy"}, "nginx", "nginx"),
    ],
)
async def test_only_proxies_of_docker_hub_have_longer_names(
    database: Database, given: dict[str, object], image: str, inside: str
) -> None:
    """Elsewhere an image of one word is an image of one word."""
    assert image_in(await make(database, "common/x", **given), image) == inside


async def test_a_full_name_is_nothing_else(database: Database) -> None:
    """Aliases and catch-alls do not count, and a repository is no image."""
    record = await make(database, "common/images", flat_alias_prefix="team", is_catch_all=True)

    assert await database.read(by_full_name, "common/images/a/b") == Place(record, "a/b")
    for name in ("team/a/b", "common/images", "common/other/a", "a", "common//a"):
        assert await database.read(by_full_name, name) is None


async def test_what_is_behind_a_door(database: Database) -> None:
    """One repository, or none in particular where names decide."""
    record = await make(database, "common/hub")
    await database.transaction(addresses.put, record.id, AddressKind.HOST, ["hub.example"])
    await database.transaction(addresses.put, record.id, AddressKind.NAMESPACE, ["docker.io"])

    for door in (Door(host="hub.example"), Door(repository="common/hub"), Door(namespace="docker.io")):
        assert await database.read(behind, door) == record
    for door in (FRONT_DOOR, Door(host="x"), Door(repository="common/x"), Door(host="hub.example", namespace="x")):
        assert await database.read(behind, door) is None


# --- views -----------------------------------------------------------------------------------------------------------


def names(places: Sequence[Place]) -> list[str]:
    """Their full names."""
    return [place.full_name for place in places]


async def test_a_view_is_searched_in_order_and_through(database: Database) -> None:
    """Members as they are listed, those of a view in place of the view, each once."""
    a, b, c = [await make(database, f"team/{name}") for name in "abc"]
    inner = await view_of(database, "team/inner", NewMember(b.id), NewMember(c.id))
    outer = await view_of(database, "team/outer", NewMember(c.id), NewMember(inner.id), NewMember(a.id))

    found = await database.read(sources, outer, "x", everything)

    assert names(found) == ["team/c/x", "team/b/x", "team/a/x"]


async def test_patterns_hold_along_the_way(database: Database) -> None:
    """An image is looked for in a member only if every pattern on the way lets it through."""
    a, hub = await make(database, "team/a"), await make(database, "team/hub", repository_type="proxy", settings=HUB)
    inner = await view_of(database, "team/inner", NewMember(a.id, exclude=("x/secret",)), NewMember(hub.id))
    outer = await view_of(database, "team/outer", NewMember(inner.id, include=("x/*", "nginx")))

    assert names(await database.read(sources, outer, "x/y", everything)) == ["team/a/x/y", "team/hub/x/y"]
    assert names(await database.read(sources, outer, "x/secret", everything)) == ["team/hub/x/secret"]
    assert names(await database.read(sources, outer, "nginx", everything)) == ["team/a/nginx", "team/hub/library/nginx"]
    assert await database.read(sources, outer, "y", everything) == []


@pytest.mark.parametrize("pattern", ["nginx", "library/nginx", "library/*"])
@pytest.mark.parametrize("name", ["nginx", "library/nginx"])
async def test_patterns_hold_for_both_names_of_docker_hub(database: Database, name: str, pattern: str) -> None:
    """What is kept out (row P10) or let in under one of its names is so under the other; nothing else is."""
    hub = await make(database, "team/hub", repository_type="proxy", settings=HUB)
    without = await view_of(database, "team/without", NewMember(hub.id, exclude=(pattern,)))
    within = await view_of(database, "team/within", NewMember(hub.id, include=(pattern,)))

    assert await database.read(sources, without, name, everything) == []
    assert names(await database.read(sources, within, name, everything)) == ["team/hub/library/nginx"]
    assert names(await database.read(sources, without, "x/nginx", everything)) == ["team/hub/x/nginx"]
    assert await database.read(sources, within, "x/nginx", everything) == []


async def test_a18_what_may_not_be_read_is_not_looked_at(database: Database) -> None:
    """A private view within a view hides all that is in it, and nobody is asked about its members at all."""
    a, b = await make(database, "team/a"), await make(database, "team/b")
    inner = await view_of(database, "team/inner", NewMember(a.id))
    outer = await view_of(database, "team/outer", NewMember(inner.id), NewMember(b.id))
    asked: list[str] = []

    def may_pull(tx: Transaction, repository: RepositoryRecord) -> bool:
        asked.append(repository.full_name)
        return repository.id == b.id

    found = await database.read(sources, outer, "x", may_pull)

    assert names(found) == ["team/b/x"]
    assert asked == ["team/inner", "team/b"]


async def test_pushes_go_to_the_default_of_the_default(database: Database) -> None:
    """Through views to the repository that takes them; a pattern on the way may refuse the image."""
    a, b = await make(database, "team/a"), await make(database, "team/b")
    inner = await view_of(
        database, "team/inner", NewMember(a.id), NewMember(b.id, include=("team/*",), is_default=True)
    )
    outer = await view_of(database, "team/outer", NewMember(inner.id, is_default=True), NewMember(a.id))
    bare = await view_of(database, "team/bare", NewMember(a.id))

    assert await database.read(destination, outer, "team/x") == Place(b, "team/x")
    assert await database.read(destination, outer, "x") is None
    assert await database.read(destination, outer, None) == Place(b, "")
    assert await database.read(destination, bare, "x") is None
    assert await database.read(destination, bare, None) is None


def test_the_words_are_those_of_rows() -> None:
    """What the types are called is written in rows: it must not change."""
    assert (routing.HOSTED, routing.PROXY, routing.VIRTUAL) == ("hosted", "proxy", "virtual")
