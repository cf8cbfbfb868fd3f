"""People with roles before a guard, and the refusals they get."""

import pytest

from gateway.access.actions import Action, Role
from gateway.access.principal import Limits
from gateway.edge.call import Visit
from gateway.edge.guard import Guard
from gateway.oci.errors import RegistryError
from storage import AccountRecord, RepositoryRecord
from tests.gateway.access.house import House
from tests.gateway.edge.visitors import basic

IMAGE = "acme/images/app"


async def login(house: House, user: AccountRecord, limits: Limits | None = None) -> str:
    """The header of a user with a personal token."""
    minted = await house.accounts.create_personal_token(user.id, label="", limits=limits or Limits())
    return basic(user.name, minted.text)


async def member(house: House, repository: RepositoryRecord, role: Role, name: str = "alice") -> AccountRecord:
    """A user with that role there."""
    user = await house.user(name)
    await house.accounts.put_grant(user.id, role, repository_id=repository.id)
    return user


async def refused(guard: Guard, seen: Visit, name: str = IMAGE, need: Action = Action.PULL) -> RegistryError:
    """The refusal, which there must be."""
    with pytest.raises(RegistryError) as caught:
        await guard.enter(seen, name, need)
    return caught.value
