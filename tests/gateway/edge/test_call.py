"""Visits and calls as values: where a client gets tokens, and whose call it is."""

import dataclasses

import pytest

from gateway.access.actions import Action
from gateway.access.principal import ANONYMOUS, Principal
from gateway.edge.address import External
from gateway.edge.call import Call
from storage import Database
from tests.gateway.edge.visitors import visit
from tests.storage.metadata import samples


@pytest.mark.parametrize(
    ("external", "realm"),
    [
        (External("http", "127.0.0.1:8080"), "http://127.0.0.1:8080/v2/token"),
        (External("https", "[2001:db8::1]:8443"), "https://[2001:db8::1]:8443/v2/token"),
        (External("https", "registry.example", "/a/b"), "https://registry.example/a/b/v2/token"),
    ],
)
def test_the_realm_is_on_the_host_that_the_client_spoke_to(external: External, realm: str) -> None:
    """CH-12: absolute, on the client's own way in, prefix included."""
    assert visit(at=external).realm() == realm


async def test_a_call_belongs_to_an_account_or_to_nobody(database: Database) -> None:
    """`account_id` is what rows are written with; an anonymous caller has none."""
    repository = await database.transaction(samples.repository, "acme/images")
    user = await database.transaction(samples.account, "alice")
    call = Call(visit(), Principal(user), repository, "app", "acme/images/app", frozenset({Action.PULL}))

    assert call.account_id == user.id
    assert dataclasses.replace(call, principal=ANONYMOUS).account_id is None


def test_a_visit_cannot_be_changed() -> None:
    """Nobody who is handed a visit can make it another's."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        visit().client = "192.0.2.8"  # type: ignore[misc]  # that is the point
