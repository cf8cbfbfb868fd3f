"""The guard at every door: hosts, paths and namespaces lead to the same image, and views to nothing of others."""

import dataclasses

import pytest

from gateway.access.actions import Action, Role
from gateway.access.principal import Principal
from gateway.edge.call import Visit
from gateway.edge.guard import Guard
from gateway.oci.errors import RegistryError
from gateway.oci.scopes import parse_scopes
from storage import FRONT_DOOR, AddressKind, Door, RepositoryRecord, Transaction
from storage.metadata import addresses, members
from storage.metadata.members import NewMember
from tests.gateway.access.house import House
from tests.gateway.edge.guarded import IMAGE, login, member, refused
from tests.gateway.edge.visitors import as_sent, bearer, visit
from tests.storage.metadata import samples

# --- doors -----------------------------------------------------------------------------------------------------------


async def mirror(house: House, repository: RepositoryRecord, namespace: str = "docker.io") -> None:
    """Make the repository the mirror of that registry."""
    await house.database.transaction(addresses.put, repository.id, AddressKind.NAMESPACE, [namespace])


def through(door: Door, *authorization: str) -> Visit:
    """A request that came in there."""
    return dataclasses.replace(visit(*authorization), door=door)


async def test_every_door_leads_to_the_same_image_and_asks_for_the_same_right(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """A19: by full name, path, host and namespace it is one image; without the right it is 401 at each of them."""
    await mirror(house, repository)
    await house.database.transaction(addresses.put, repository.id, AddressKind.HOST, ["images.example"])
    header = await login(house, await member(house, repository, Role.READER))
    doors = {
        IMAGE: FRONT_DOOR,
        "app": Door(host="gateway.example", repository="acme/images"),
        "app/": Door(host="images.example"),
        "app//": Door(host="gateway.example", namespace="docker.io"),
    }

    for name, door in doors.items():
        call = await guard.enter(through(door, header), name.rstrip("/"), Action.PULL)
        assert (call.repository.id, call.image, call.name) == (repository.id, "app", name.rstrip("/"))
        assert (await refused(guard, through(door), name.rstrip("/"))).status == 401
        assert (await refused(guard, through(door, header), name.rstrip("/"), Action.PUSH)).status == 401


async def test_a_token_is_for_the_image_by_whichever_door(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """ACC-09, A19: a token asked for at one door opens all doors to that image, and none to another image."""
    await mirror(house, repository)
    await house.database.transaction(addresses.put, repository.id, AddressKind.HOST, ["images.example"])
    reader = Principal(await member(house, repository, Role.READER))
    doors = {
        FRONT_DOOR: (IMAGE, f"{IMAGE}/app"),
        Door(host="images.example"): ("app", IMAGE),
        Door(host="gateway.example", repository="acme/images"): ("app", "app2"),
        Door(host="gateway.example", namespace="docker.io"): ("app", "library/app"),
    }

    for asked_at, (name, _) in doors.items():
        scopes = parse_scopes([f"repository:{name}:pull"])
        token = bearer((await house.tokens.grant(reader, scopes, offline=False, door=asked_at)).token)
        for door, (right, wrong) in doors.items():
            assert (await guard.enter(through(door, token), right, Action.PULL)).image == "app"
            assert (await refused(guard, through(door, token), wrong)).status == 401


async def test_a_full_name_is_granted_behind_any_door(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """Challenges of a mirror have full names, and its clients send them to the token endpoint of the host they use."""
    await mirror(house, repository)
    await house.database.transaction(addresses.put, repository.id, AddressKind.HOST, ["images.example"])
    reader = Principal(await member(house, repository, Role.READER))
    door = Door(host="images.example")

    answer = await house.tokens.grant(reader, parse_scopes([f"repository:{IMAGE}:pull"]), offline=False, door=door)

    assert [(scope.name, scope.actions) for scope in answer.granted] == [(IMAGE, frozenset({"pull"}))]
    found = await guard.enter(
        through(dataclasses.replace(door, namespace="docker.io"), bearer(answer.token)), "app", Action.PULL
    )
    assert found.image == "app"


@pytest.mark.parametrize("namespace", ["ghcr.io", "", "docker.io:443", "acme/images", "*"])
async def test_a_namespace_that_nobody_mirrors_is_unknown_to_everybody(
    guard: Guard, house: House, repository: RepositoryRecord, namespace: str
) -> None:
    """404 without a challenge, with or without credentials, whatever the name: it is a table, never an address."""
    await mirror(house, repository)
    admin = await login(house, await house.accounts.create_user("admin", None, is_admin=True))
    answers = [
        as_sent(await refused(guard, through(Door(host="gateway.example", namespace=namespace), *header), name))
        for header in ((), (admin,))
        for name in (IMAGE, "app")
    ]

    assert {answer[0] for answer in answers} == {404}
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][1] == {}


async def test_a_mirror_s_challenge_asks_for_the_full_name(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """The token endpoint is not told of `ns`: the scope says it all. A dead token gets the same scope."""
    await mirror(house, repository)
    door = Door(host="gateway.example", namespace="docker.io")

    for header in ((), (bearer("dead"),)):
        error = await refused(guard, through(door, *header), "library/app")
        assert 'scope="repository:acme/images/library/app:pull"' in error.headers["WWW-Authenticate"]


async def test_a_namespace_and_a_path_must_agree(guard: Guard, house: House, repository: RepositoryRecord) -> None:
    """Who asks for one registry's image by the path of another's mirror gets neither."""
    await mirror(house, repository)
    other = await house.repository("acme", "other", anonymous_read=True)
    header = await login(house, await member(house, repository, Role.READER))

    agreeing = Door(host="gateway.example", repository="acme/images", namespace="docker.io")
    assert (await guard.enter(through(agreeing, header), "app", Action.PULL)).repository.id == repository.id
    contradicting = Door(host="gateway.example", repository=other.full_name, namespace="docker.io")
    assert (await refused(guard, through(contradicting, header), "app")).status == 404


async def test_a_mirror_knows_its_images_by_full_names_too(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """Containerd with a path in its hosts.toml puts that path before every name and still sends `ns`."""
    await mirror(house, repository)
    header = await login(house, await member(house, repository, Role.READER))
    door = Door(host="gateway.example", namespace="docker.io")

    assert (await guard.enter(through(door, header), f"{IMAGE}/x", Action.PULL)).image == "app/x"
    assert (await guard.enter(through(door, header), "acme/other/x", Action.PULL)).image == "acme/other/x"


# --- virtual repositories --------------------------------------------------------------------------------------------


async def view_of(house: House, *members_of: NewMember, anonymous_read: bool = True) -> RepositoryRecord:
    """The virtual repository `acme/all`."""

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, "acme/all", repository_type="virtual", anonymous_read=anonymous_read)
        members.put(tx, record.id, members_of)
        return record

    return await house.database.transaction(make)


async def test_a_push_to_a_view_is_a_push_to_its_default_member(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """The right counts there and the call acts there; the client goes on calling it by the view's name."""
    view = await view_of(house, NewMember(repository.id, is_default=True))
    user = await member(house, repository, Role.WRITER)
    header = await login(house, user)

    call = await guard.enter(visit(header), "acme/all/app", Action.PUSH)

    assert (call.repository.id, call.image, call.name) == (repository.id, "app", "acme/all/app")
    assert call.view is not None
    assert call.view.record.id == view.id
    assert call.path("blobs/x") == "/v2/acme/all/app/blobs/x"
    assert await house.database.transaction(guard.confirm, call, Action.PUSH) == repository
    await house.accounts.put_grant(user.id, Role.READER, repository_id=repository.id)
    with pytest.raises(RegistryError):
        await house.database.transaction(guard.confirm, call, Action.PUSH)


async def test_who_may_not_push_to_the_member_may_not_through_the_view(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """A3: a role on the view is none on what is behind it."""
    view = await view_of(house, NewMember(repository.id, is_default=True))
    header = await login(house, await member(house, view, Role.MAINTAINER))

    assert (await refused(guard, visit(header), "acme/all/app", Action.PUSH)).status == 401
    assert (await guard.enter(visit(header), "acme/all/app", Action.PULL)).view is None


async def test_a_private_view_is_no_way_in_for_who_may_only_push_behind_it(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """The view's own door stays closed to who has no right on it."""
    await view_of(house, NewMember(repository.id, is_default=True), anonymous_read=False)
    header = await login(house, await member(house, repository, Role.WRITER))

    assert (await refused(guard, visit(header), "acme/all/app", Action.PUSH)).status == 401


async def test_a_view_s_token_pushes_through_the_view_and_nowhere_else(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """The entry names the view's image: the member's own name needs a token of its own."""
    await view_of(house, NewMember(repository.id, is_default=True))
    writer = Principal(await member(house, repository, Role.WRITER))
    token = bearer((await house.ask(writer, "repository:acme/all/app:pull,push")).token)

    assert (await guard.enter(visit(token), "acme/all/app", Action.PUSH)).repository.id == repository.id
    assert (await refused(guard, visit(token), IMAGE, Action.PUSH)).status == 401


async def test_a_view_without_a_fitting_default_takes_nothing(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """The call stays with the view, which is read-only: the endpoint says 405."""
    view = await view_of(house, NewMember(repository.id, include=("team/*",), is_default=True))
    header = await login(house, await member(house, repository, Role.WRITER))

    assert (await guard.enter(visit(header), "acme/all/app", Action.PUSH)).repository.id == view.id
    assert (await guard.enter(visit(header), "acme/all/team/app", Action.PUSH)).repository.id == repository.id


# --- mounts ----------------------------------------------------------------------------------------------------------


async def test_a_token_has_asked_for_what_it_names_by_any_name(
    guard: Guard, house: House, repository: RepositoryRecord
) -> None:
    """MT-03, CH-06: only who might get more by asking is told to ask; what may not be known changes nothing."""
    await mirror(house, repository)
    hidden = await house.repository("secret", "images")
    await mirror(house, hidden, "hidden.example")
    writer = Principal(await member(house, repository, Role.WRITER))
    names = [IMAGE, "secret/images/app", "no/such/image"]
    token = bearer((await house.ask(writer, *(f"repository:{name}:pull" for name in names))).token)
    call = await guard.enter(visit(token), IMAGE, Action.PUSH)
    at = {
        door: dataclasses.replace(call, visit=through(door, token))
        for door in (FRONT_DOOR, Door(namespace="docker.io"), Door(namespace="hidden.example"))
    }

    asked = [await guard.never_asked_for(call, name) for name in (*names, "acme/images/other")]

    assert asked == [False, False, False, True]
    assert not await guard.never_asked_for(at[Door(namespace="docker.io")], "app")
    assert await guard.never_asked_for(at[Door(namespace="hidden.example")], "app")
    assert not await guard.never_asked_for(dataclasses.replace(call, principal=writer), "acme/images/other")
