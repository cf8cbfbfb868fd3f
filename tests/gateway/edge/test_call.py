"""Visits and calls as values: where a client gets tokens, and whose call it is."""

import dataclasses

import pytest

from gateway.access.actions import Action
from gateway.access.principal import ANONYMOUS, Principal
from gateway.edge.address import External
from gateway.edge.call import Call
from gateway.oci.paths import MOUNTS
from gateway.repositories.routing import Place
from storage import Database, Door, Transaction
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


@pytest.mark.parametrize(
    ("external", "door", "path"),
    [
        (External("http", "a.example"), Door(host="a.example"), "/v2/acme/images/app/blobs/x"),
        (
            External("http", "a.example", "/mirror"),
            Door(repository="acme/images"),
            "/mirror/v2/acme/images/app/blobs/x",
        ),
        (External("http", "a.example"), Door(namespace="docker.io"), f"{MOUNTS}common/all/v2/app/blobs/x"),
    ],
)
async def test_up_02_a_path_is_what_the_client_asks_next(
    database: Database, external: External, door: Door, path: str
) -> None:
    """With what stands before it on the client's way in; for a mirror the repository's own path."""
    repository, view = [await database.transaction(samples.repository, name) for name in ("acme/images", "common/all")]
    seen = dataclasses.replace(visit(at=external), door=door)
    call = Call(seen, ANONYMOUS, repository, "app", "acme/images/app", frozenset(), view=Place(view, "app"))

    assert call.path("blobs/x") == path
    assert call.token_name == ("acme/images/app" if door.namespace is None else "common/all/app")
    agreeing = dataclasses.replace(seen, door=dataclasses.replace(door, repository="common/all"))
    assert dataclasses.replace(call, visit=agreeing, name="app").path("x") == f"{external.prefix}/v2/app/x"


async def test_repositories_ask_what_the_account_may_do_elsewhere(database: Database) -> None:
    """A registry token names the image that was asked for: what its account may do in others rows say."""
    public = await database.transaction(samples.repository, "acme/public", anonymous_read=True)
    private = await database.transaction(samples.repository, "acme/private")
    admin = await database.transaction(samples.account, "boss", is_admin=True)
    guest = Call(visit(), Principal(None, token_access=()), public, "a", "a", frozenset()).caller
    boss = Call(visit(), Principal(admin, token_access=()), public, "a", "a", frozenset()).caller

    def look(tx: Transaction) -> list[bool]:
        return [who.may_pull(tx, place) for who in (guest, boss) for place in (public, private)]

    assert await database.read(look) == [True, False, True, True]
