"""The catalog at every door: names as they are called there, of what the caller may read; pages lose nothing."""

import json

import pytest

from gateway.access.actions import Role
from storage import AddressKind, RepositoryRecord, Transaction
from storage.metadata import addresses, images, members
from storage.metadata.members import NewMember
from tests.gateway.edge.visitors import HERE
from tests.gateway.registry import Registry
from tests.storage.metadata import samples
from tests.storage.metadata.samples import NOW

PRIVATE = ("secret", "zz")


async def furnish(registry: Registry) -> dict[str, RepositoryRecord]:
    """Two repositories, the second private to most, and a view of both; a view of that one."""

    def make(tx: Transaction) -> dict[str, RepositoryRecord]:
        found = {}
        for name, named in (("common/a", ("x", "lib/y")), ("common/b", PRIVATE), ("zoo/c", ("x",))):
            found[name] = samples.repository(tx, name)
            for image in named:
                images.ensure(tx, found[name], image, now=NOW)
        for name, inside in (("common/all", ("common/a", "common/b")), ("zoo/all", ("common/all", "zoo/c"))):
            found[name] = samples.repository(tx, name, repository_type="virtual")
            members.put(tx, found[name].id, [NewMember(found[each].id) for each in inside])
        addresses.put(tx, found["common/all"].id, AddressKind.HOST, [HERE.host])
        return found

    return await registry.services.database.transaction(make)


async def reader(registry: Registry, *places: RepositoryRecord) -> str:
    """The header of a user who may read these."""
    user = await registry.services.accounts.create_user("reader", None)
    for place in places:
        await registry.services.accounts.put_grant(user.id, Role.READER, repository_id=place.id)
    minted = await registry.services.accounts.create_personal_token(user.id, label="")
    return minted.text


async def listed(
    registry: Registry, path: str, token: str = "", *, n: int = 100, host: str = "other.test"
) -> list[str]:
    """All names, page by page, by the links that the answers give."""
    found: list[str] = []
    following: str | None = f"{path}?n={n}"
    while following is not None:
        auth = f"Bearer {token}" if token else ""
        answer = await registry.ask("GET", following, headers={"Host": host}, auth=auth)
        assert answer.status == 200, answer
        page = json.loads(answer.body)["repositories"]
        assert len(page) <= n
        found += page
        link = answer.headers.get("link")
        following = link.partition(">")[0][1:] if link else None
    return found


EVERYTHING = [
    "common/a/lib/y",
    "common/a/x",
    "common/all/lib/y",
    "common/all/secret",
    "common/all/x",
    "common/all/zz",
    "common/b/secret",
    "common/b/zz",
    "zoo/all/lib/y",
    "zoo/all/secret",
    "zoo/all/x",
    "zoo/all/zz",
    "zoo/c/x",
]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 13, 100])
async def test_ct_01_views_list_what_their_members_have(registry: Registry, n: int) -> None:
    """Under their own names, in one bytewise order with all others, whatever the size of the pages."""
    await furnish(registry)

    assert await listed(registry, "/v2/_catalog", n=n) == EVERYTHING


@pytest.mark.parametrize("n", [1, 100])
async def test_a20_a_view_lists_nothing_of_members_that_the_caller_may_not_read(registry: Registry, n: int) -> None:
    """Nor anything of a view that the caller may not read, though its members are theirs."""
    made = await furnish(registry)
    token = await reader(registry, made["common/a"], made["common/all"])

    found = await listed(registry, "/v2/_catalog", token, n=n)

    assert found == [name for name in EVERYTHING if name.startswith("common/a") and name.split("/")[2] not in PRIVATE]


@pytest.mark.parametrize(
    ("path", "host", "names"),
    [
        ("/repositories/oci/a/v2/_catalog", "other.test", ["lib/y", "x"]),
        ("/repositories/oci/common/all/v2/_catalog", "other.test", ["lib/y", "secret", "x", "zz"]),
        ("/v2/_catalog", HERE.host, ["lib/y", "secret", "x", "zz"]),
        ("/repositories/oci/none/v2/_catalog", "other.test", []),
        ("/v2/_catalog", "other.test", EVERYTHING),
    ],
)
async def test_behind_a_door_names_are_what_they_are_there(
    registry: Registry, path: str, host: str, names: list[str]
) -> None:
    """One repository's images, as its clients call them; links lead on by the same door."""
    await furnish(registry)

    for n in (1, 100):
        assert await listed(registry, path, n=n, host=host) == names


async def test_a20_a_private_repository_behind_a_door_lists_as_one_that_is_not_there(registry: Registry) -> None:
    """Empty, to who may not read it."""
    made = await furnish(registry)
    token = await reader(registry, made["common/a"])

    for path in ("/repositories/oci/b", "/repositories/oci/none", "/repositories/oci/zoo/all"):
        assert await listed(registry, f"{path}/v2/_catalog", token) == []
    assert await listed(registry, "/repositories/oci/a/v2/_catalog", token) == ["lib/y", "x"]
