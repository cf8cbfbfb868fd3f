"""Rights on virtual repositories: reading is their own, pushing is the member's that takes it."""

from typing import Any

import pytest

from gateway.access.actions import Action, Role
from gateway.access.principal import ANONYMOUS, Limits, Principal, TokenAccess
from gateway.access.rights import own_rights, rights
from storage import RepositoryRecord, Transaction
from storage.metadata import members
from storage.metadata.members import NewMember
from tests.gateway.access.house import House
from tests.storage.metadata import samples

PULL = frozenset({Action.PULL})


async def _rights(house: House, caller: Principal, repository: RepositoryRecord) -> frozenset[Action]:
    return await house.database.read(rights, caller, repository, None)


async def _view(house: House, *inside: NewMember, anonymous_read: bool = True) -> RepositoryRecord:
    """The virtual repository `acme/all`."""

    def make(tx: Transaction) -> RepositoryRecord:
        record = samples.repository(tx, "acme/all", repository_type="virtual", anonymous_read=anonymous_read)
        members.put(tx, record.id, inside)
        return record

    return await house.database.transaction(make)


@pytest.mark.parametrize(
    ("on_view", "on_member", "held"),
    [
        (None, None, "pull"),
        (None, Role.READER, "pull"),
        (None, Role.WRITER, "pull push"),
        (Role.WRITER, None, "pull"),
        (Role.WRITER, Role.READER, "pull"),
        (Role.READER, Role.MAINTAINER, "pull push"),
        (Role.MAINTAINER, Role.WRITER, "pull push delete configure"),
        (Role.MAINTAINER, None, "pull delete configure"),
    ],
)
async def test_pushing_to_a_view_is_a_right_on_the_member_that_takes_it(
    house: House, on_view: Role | None, on_member: Role | None, held: str
) -> None:
    """A3: whatever role there is on the view; all other rights on it are its own."""
    hosted = await house.repository()
    view = await _view(house, NewMember(hosted.id, is_default=True))
    user = await house.user()
    for role, place in ((on_view, view), (on_member, hosted)):
        if role is not None:
            await house.accounts.put_grant(user.id, role, repository_id=place.id)

    found = await _rights(house, Principal(user), view)

    assert {str(action) for action in found} == set(held.split())


async def test_a_right_behind_a_private_view_is_none_on_it(house: House) -> None:
    """Nothing on the view, nothing through it; and nobody reads a view by reading its members."""
    hosted = await house.repository()
    view = await _view(house, NewMember(hosted.id, is_default=True), anonymous_read=False)
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.MAINTAINER, repository_id=hosted.id)

    assert await _rights(house, Principal(user), view) == set()
    assert await _rights(house, ANONYMOUS, view) == set()


async def test_limits_hold_on_both_sides_of_a_view(house: House) -> None:
    """A5: a key for the view alone pushes nowhere, one for both does, and one that only pulls never."""
    hosted = await house.repository()
    view = await _view(house, NewMember(hosted.id, is_default=True))
    user = await house.user()
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=hosted.id)
    await house.accounts.put_grant(user.id, Role.WRITER, repository_id=view.id)

    async def held(**limits: Any) -> set[Action]:
        return set(await _rights(house, Principal(user, limits=Limits(**limits)), view))

    assert await held(repository_ids=frozenset({view.id})) == {Action.PULL}
    assert await held(repository_ids=frozenset({view.id, hosted.id})) == {Action.PULL, Action.PUSH}
    assert await held(repository_ids=frozenset({hosted.id})) == set()
    assert await held(actions=PULL) == {Action.PULL}
    assert await held(actions=frozenset({Action.PUSH})) == {Action.PUSH}


async def test_where_nobody_takes_pushes_the_right_is_the_view_s(house: House) -> None:
    """Who would hold it is told that pushes go nowhere (405), everybody else that they lack it (401)."""
    hosted = await house.repository()
    view = await _view(house, NewMember(hosted.id))
    writer, other = await house.user(), await house.user("bob")
    await house.accounts.put_grant(writer.id, Role.WRITER, repository_id=view.id)
    await house.accounts.put_grant(other.id, Role.WRITER, repository_id=hosted.id)

    assert await _rights(house, Principal(writer), view) == {Action.PULL, Action.PUSH}
    assert await _rights(house, Principal(other), view) == {Action.PULL}


async def test_own_rights_are_those_of_the_account_behind_a_token(house: House) -> None:
    """A registry token names what was asked for, not what its account may read elsewhere; its limits go on to count."""
    here, there = await house.repository(), await house.repository("acme", "other")
    user = await house.user()
    for place in (here, there):
        await house.accounts.put_grant(user.id, Role.WRITER, repository_id=place.id)
    named = (TokenAccess("acme/images/app", here.id, PULL),)

    async def own(caller: Principal) -> list[set[Action]]:
        return [set(await house.database.read(own_rights, caller, place)) for place in (here, there)]

    both = {Action.PULL, Action.PUSH}
    assert await own(Principal(user, token_access=named)) == [both, both]
    limited = Limits(repository_ids=frozenset({there.id}), actions=PULL)
    assert await own(Principal(user, limits=limited, token_access=named)) == [set(), PULL]
    assert await own(Principal(None, token_access=named)) == [set(), set()]
