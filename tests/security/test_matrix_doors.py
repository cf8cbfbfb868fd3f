"""The authorisation matrix of the registry API at the other doors: alias, path, host, namespace, and through a view."""

from dataclasses import dataclass

import pytest

from gateway.oci import paths
from tests.people import change, make_place, unique
from tests.protocol.approaches import Approach
from tests.security.principals import NAMES, REFUSED, Person, assemble
from tests.security.test_authorisation_matrix import CONFIG, HELD, IMAGE, LAYER, V2
from tests.served import OCI_MANIFEST, Served

pytestmark = pytest.mark.slow  # some thousand requests

DOORS = ("alias", "path", "host", "namespace", "view")
ON_VIEW = {"owner", "admin"}
"""Who may delete in the view itself; everybody may pull there."""


@dataclass(frozen=True)
class Doors:
    """One private repository with an address of every kind, a public view of it, and people with roles on it."""

    gateway: Served
    ways: dict[str, Approach]
    scopes: tuple[str, ...]
    people: dict[str, Person]


@pytest.fixture(scope="module")
def doors(gateway: Served) -> Doors:
    """The matrix's private repository with all of these; pushes to the view go to it."""
    place = make_place(gateway)
    view = make_place(
        gateway,
        project=place.project,
        repository_type="virtual",
        members=[{"repository": place.name, "default": True}],
        anonymous_read=True,
    )
    alias, host, namespace = unique("alias"), f"{unique('host')}.example", f"{unique('ns')}.io"
    change(
        gateway,
        f"repos/{place.name}",
        {"flat_alias_prefix": alias, "host_names": [host], "namespaces": [namespace]},
    )
    for content in (CONFIG, LAYER):
        gateway.push_blob(f"{place.name}/app", content)
    put = gateway.admin("PUT", f"/v2/{place.name}/app/manifests/v1", IMAGE, {"Content-Type": OCI_MANIFEST})
    assert put.status == 201
    ways = {
        "alias": Approach(gateway, "", f"/v2/{alias}/app/"),
        "path": Approach(gateway, "", f"/repositories/oci/{place.name}/v2/app/"),
        "host": Approach(gateway, "", "/v2/app/", {"Host": host}),
        "namespace": Approach(gateway, "", "/v2/app/", within=lambda path: _with(path, f"ns={namespace}")),
        "view": Approach(gateway, "", f"/v2/{view.name}/app/"),
    }
    scopes = tuple(f"repository:{name}/app:*" for name in (place.name, view.name))
    people = assemble(gateway, place, scopes)
    assert people.keys() == set(NAMES) == HELD.keys()
    return Doors(gateway, ways, scopes, people)


def _with(path: str, parameter: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{parameter}"


def expected(door: str, name: str, route: tuple[type, str]) -> int:
    """The status of a route for this principal."""
    need, rest, _, existing, _ = V2[route]
    if name in REFUSED:
        return 401
    held = HELD[name].split()
    if door != "view":
        return existing if need in held else 401
    if need == "delete":
        return 405 if name in ON_VIEW else 401
    if need == "push":
        return existing if "push" in held else 401
    return existing if "pull" in held or "referrers" in rest else 404


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("way", ["basic", "bearer"])
def test_the_matrix_holds_at_every_door(doors: Doors, door: str, way: str) -> None:
    """Each route answers each principal there as at the front door; a view as its own rights and its member's say."""
    wrong: list[str] = []
    for name, person in doors.people.items():
        auth = person.token(doors.gateway, *doors.scopes) if way == "bearer" else person.login
        approach = doors.ways[door]
        for route, (_, rest, body, _, _) in V2.items():
            headers = {"Content-Type": OCI_MANIFEST} if route[0] is paths.Manifest and body else {}
            reply = approach.send(route[1], f"{approach.name}{rest}", body, headers=headers, auth=auth)
            if reply.status != (wanted := expected(door, name, route)):
                wrong.append(f"as {name}: {route[1]} {rest}: {reply.status}, not {wanted}: {reply.body[:120]!r}")

    assert not wrong, "\n".join([f"at {door} by {way}:", *wrong])
