"""Rights that are taken away at one replica are gone at the others, however warm their memory is."""

import os
from collections.abc import Callable
from functools import partial

import pytest

from tests import people
from tests.people import Login, Place
from tests.replicas.pair import Replicas
from tests.served import Served, sha256
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.replicas, pytest.mark.slow]

SOON_S = 5.0
"""Within this every replica knows (security.md, figures of reliability)."""


def warm(gateway: Served, paths: list[str], auth: Login | str) -> None:
    """Pull until the gateway answers from memory."""
    for path in paths * 4:
        assert gateway.request("GET", path, auth=auth).status == 200


def image_in(place: Place, gateway: Served) -> list[str]:
    """Paths of a manifest by tag and by digest, and of its layer, pushed through this gateway."""
    name, layer = f"{place.name}/app", os.urandom(5000)
    digest, _ = gateway.push_image(name, "v1", layer)
    return [f"/v2/{name}/manifests/v1", f"/v2/{name}/manifests/{digest}", f"/v2/{name}/blobs/{sha256(layer)}"]


def take_grant(gateway: Served, login: Login, place: Place) -> None:
    """The right to this repository."""
    people.revoke(gateway, login, place)


def disable(gateway: Served, login: Login, place: Place) -> None:
    """The account."""
    people.change(gateway, f"users/{login[0]}", {"is_enabled": False})


def delete_place(gateway: Served, login: Login, place: Place) -> None:
    """The repository."""
    reply = gateway.api("DELETE", f"/api/v1/repos/{place.name}")
    assert reply.status in {200, 202, 204}, reply


def is_refused(gateway: Served, method: str, path: str, auth: Login | str) -> bool:
    """Whether the gateway says no, in whichever words."""
    body = b"x" if method in {"PATCH", "POST"} else None
    return gateway.request(method, path, body, auth=auth).status in {401, 403, 404}


@pytest.mark.parametrize("end", [take_grant, disable, delete_place])
@pytest.mark.parametrize("way", ["password", "token"])
def test_what_one_took_away_the_other_refuses(
    replicas: Replicas, end: Callable[[Served, Login, Place], None], way: str
) -> None:
    """A user who pulled from one replica a moment ago is refused there soon after another took the right away."""
    here, there = replicas.members
    place = people.make_place(here)
    paths = image_in(place, here)
    login = people.make_member(here, "reader", place)
    scope = f"repository:{place.name}/app:pull"
    auth: Login | str = login if way == "password" else there.token(scope, auth=login)
    warm(there, paths, auth)

    end(here, login, place)

    for path in paths:
        assert wait_until(partial(is_refused, there, "GET", path, auth), SOON_S)


def test_a_new_repository_of_an_old_name_is_another_one(replicas: Replicas) -> None:
    """Who could read, push to and had begun an upload in a repository can do nothing in its namesake."""
    here, there = replicas.members
    place = people.make_place(here)
    paths = image_in(place, here)
    login = people.make_member(here, "writer", place)
    token = there.token(f"repository:{place.name}/app:pull,push", auth=login)
    warm(there, paths, token)
    begun = there.request("POST", f"/v2/{place.name}/app/blobs/uploads/", b"", auth=token)
    assert begun.status == 202
    delete_place(here, login, place)
    people.make(here, "repos", {"project": place.project, "name": place.repository})
    layer = os.urandom(100)
    here.push_blob(f"{place.name}/app", layer)

    secret = f"/v2/{place.name}/app/blobs/{sha256(layer)}"
    asked = [("GET", path) for path in [*paths, secret]]
    asked += [("PATCH", begun.headers["location"]), ("GET", begun.headers["location"])]
    asked += [("POST", f"/v2/{place.name}/app/blobs/uploads/")]
    for method, path in asked:
        for auth in (token, login):
            assert wait_until(partial(is_refused, there, method, path, auth), SOON_S), (method, path)
