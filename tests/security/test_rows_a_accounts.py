"""Security rows A14 to A28, authorisation: names, ends, lists and odd requests, sent to a served gateway.

A23 is proven where the first start is tested, A27 with the protocol's ER-06.
"""

import json
import socket
import sqlite3
from contextlib import closing
from urllib.parse import quote, urlencode

import pytest

from tests.people import (
    PASSWORD,
    Login,
    Place,
    change,
    make,
    make_member,
    make_robot,
    make_token,
    make_user,
    revoke,
    unique,
)
from tests.security.tenants import EVERY_WORKER, SECRET_LAYER, post_form, tokens_by_form
from tests.served import ADMIN, Reply, Served, sha256

pytestmark = pytest.mark.slow  # needs a server of its own

STRANGE_NAMES = [
    "sa$x", "robot$", "robot$x", "_", "oauth2accesstoken", "<token>", "$app", "\u0430dmin", "admin ", " admin",
    "admin\x00", "Admin", "ADMIN", "a:b", "a/b", "..", "", "x" * 65, "system", "anonymous", "admin\n", "\uff41dmin",
]  # fmt: skip


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
def test_a14_names_that_could_be_mistaken(gateway: Served, name: str) -> None:
    """Names that look like a robot, a client's placeholder or somebody else are refused to users, for good."""
    reply = gateway.api("POST", "/api/v1/users", {"name": name, "password": PASSWORD})

    assert reply.status == 400
    assert reply.json()["errors"][0]["field"] == "name"
    assert gateway.request("GET", "/v2/", auth=(name, ADMIN[1])).status == 401
    assert gateway.request("GET", "/v2/", auth=(name, PASSWORD)).status == 401


@pytest.mark.parametrize(
    "name", ["scanner-x", "library", "root", "administrator", "sluice", "registry", "docker", "admin2"]
)
def test_a14_no_right_hangs_on_a_name(gateway: Served, victim: str, name: str) -> None:
    """However official a name sounds, the user and the robot that have it can do nothing."""
    user = make_user(gateway, name=name)
    make(gateway, "robots", {"name": name})
    robot = (f"sa${name}", make(gateway, f"robots/sa${name}/keys", {})["secret"])

    for login in (user, robot):
        assert gateway.request("GET", f"/v2/{victim}/tags/list", auth=login).status == 401
        assert gateway.request("POST", f"/v2/{name}/x/blobs/uploads/", b"", auth=login).status == 401
        assert gateway.api("GET", "/api/v1/users", auth=login).status == 403
        assert victim not in gateway.request("GET", "/v2/_catalog", auth=login).json()["repositories"]


def test_a15_a_token_dies_with_its_repository(gateway: Served) -> None:
    """A token of a repository is worth nothing on another of the same name, made by others after it was deleted."""
    project, name = unique("project"), "images"
    make(gateway, "projects", {"name": project})
    make(gateway, "repos", {"project": project, "name": name})
    place = Place(project, name)
    former = make_member(gateway, "maintainer", place)
    token = gateway.token(f"repository:{place.name}/app:*", auth=former)
    assert gateway.request("POST", f"/v2/{place.name}/app/blobs/uploads/", b"", auth=token).status == 202

    assert gateway.api("DELETE", f"/api/v1/repos/{place.name}").status == 204
    assert gateway.api("DELETE", f"/api/v1/projects/{project}").status == 204
    make(gateway, "projects", {"name": project})
    make(gateway, "repos", {"project": project, "name": name})
    gateway.push_image(f"{place.name}/app", "v1", b"of the new tenant")

    for _ in EVERY_WORKER:
        for auth in (token, former):
            assert gateway.request("GET", f"/v2/{place.name}/app/manifests/v1", auth=auth).status == 401
            assert gateway.request("POST", f"/v2/{place.name}/app/blobs/uploads/", b"", auth=auth).status == 401


@pytest.mark.parametrize("act", ["disable user", "delete user", "new password", "revoke role", "revoke token"])
def test_a17_what_ends_ends_everywhere_at_once(gateway: Served, private: Place, victim: str, act: str) -> None:
    """Password, access, refresh and personal token and upload all end with the act, on every worker, at once."""
    user = make_member(gateway, "writer", private)
    made = make(gateway, "tokens", {}, auth=user)
    used = (user[0], made["secret"]) if act == "revoke token" else user
    ways = exchanged_of(gateway, used, victim)
    location = gateway.request("POST", f"/v2/{victim}/blobs/uploads/", b"", auth=used).headers["location"]

    perform(gateway, act, user, private, made["id"])

    for _ in EVERY_WORKER:
        for way, auth in ways.items():
            assert gateway.request("GET", f"/v2/{victim}/tags/list", auth=auth).status == 401, way
            assert gateway.request("PATCH", location, b"x", auth=auth).status == 401, way
    refreshed = _refresh(gateway, ways["refresh"], victim)
    assert refreshed.status == 401 or (act == "revoke role" and refreshed.json()["scope"] == "")


def exchanged_of(gateway: Served, login: Login, name: str) -> dict[str, Login | str]:
    """A login with the tokens it was exchanged for, and its refresh token, which is no bearer token itself."""
    scope = f"repository:{name}:pull,push"
    answer = tokens_by_form(
        gateway, grant_type="password", username=login[0], password=login[1], scope=scope, access_type="offline"
    )
    assert gateway.request("GET", f"/v2/{name}/tags/list", auth=answer["access_token"]).status == 200
    return {"login": login, "access token": answer["access_token"], "refresh": answer["refresh_token"]}


def _refresh(gateway: Served, token: Login | str, name: str) -> Reply:
    assert isinstance(token, str)
    return post_form(gateway, grant_type="refresh_token", refresh_token=token, scope=f"repository:{name}:pull")


def perform(gateway: Served, act: str, user: Login, place: Place, token_id: int) -> None:
    """End something."""
    match act:
        case "disable user":
            change(gateway, f"users/{user[0]}", {"is_enabled": False})
        case "delete user":
            assert gateway.api("DELETE", f"/api/v1/users/{user[0]}").status == 204
        case "new password":
            change(gateway, f"users/{user[0]}", {"password": "quite-another-password"})
        case "revoke role":
            revoke(gateway, user, place)
        case _:
            assert gateway.api("DELETE", f"/api/v1/tokens/{token_id}").status == 204


def test_a17_a_robot_ends_with_its_key(gateway: Served, private: Place, victim: str) -> None:
    """A revoked key and a disabled robot are refused at once, with every token that came from them."""
    for act in ("key", "robot"):
        robot = make_robot(gateway, ("reader", private))
        token = gateway.token(f"repository:{victim}:pull", auth=robot)
        if act == "key":
            (key,) = gateway.api("GET", f"/api/v1/robots/{robot[0]}/keys").json()["items"]
            assert gateway.api("DELETE", f"/api/v1/robots/{robot[0]}/keys/{key['id']}").status == 204
        else:
            change(gateway, f"robots/{robot[0]}", {"is_enabled": False})

        for _ in EVERY_WORKER:
            for auth in (robot, token, robot[1]):
                assert gateway.request("GET", f"/v2/{victim}/tags/list", auth=auth).status == 401


def test_a20_lists_show_nothing_of_others(gateway: Served, victim: str, own: str, stranger: Login) -> None:
    """Catalog and management lists hold what the caller may read, whatever cursor or size is asked for."""
    gateway.push_blob(own, b"x")
    project, repository, _ = victim.split("/")
    cursors = ["", "a", project, victim, f"{project}/", "~", "\x00", "%"]

    for path, name, cursor in (
        ("/v2/_catalog", "n", "last"),
        ("/api/v1/repos", "limit", "after"),
        ("/api/v1/projects", "limit", "after"),
    ):
        for after in cursors:
            for size in ("1", "2", "1000"):
                query = urlencode({name: size, cursor: after})
                reply = gateway.request("GET", f"{path}?{query}", auth=stranger)
                told = reply.body + json.dumps(reply.all_headers).encode()
                shown = told.replace(quote(after, safe="").encode(), b"").replace(json.dumps(after).encode(), b"")
                assert reply.status in {200, 400}, path
                assert project.encode() not in shown
                assert repository.encode() not in shown
        assert gateway.request("GET", path).status == 401
    listed = gateway.request("GET", "/v2/_catalog", auth=stranger).json()["repositories"]
    assert own in listed
    assert victim not in listed


@pytest.mark.parametrize(
    "field", ["admin", "roles", "id", "quota", "kind", "epoch", "password_hash", "sub", "scopes", "is_admin "]
)
def test_a22_fields_that_nobody_offers(gateway: Served, stranger: Login, field: str) -> None:
    """An unknown field is an error when a user is made or changed, by an admin and by the user itself."""
    name = unique("user")

    made = gateway.api("POST", "/api/v1/users", {"name": name, "password": PASSWORD, field: True})
    changed = gateway.api("PATCH", f"/api/v1/users/{stranger[0]}", {field: True}, auth=stranger)

    assert (made.status, changed.status) == (400, 400)
    assert gateway.api("GET", f"/api/v1/users/{name}").status == 404


def test_a22_nobody_promotes_himself(gateway: Served, stranger: Login) -> None:
    """A user changes none of its own flags, and makes nobody else."""
    path = f"/api/v1/users/{stranger[0]}"
    for value in ({"is_admin": True}, {"is_auditor": True}, {"is_enabled": True}, {"expires_at": None}):
        assert gateway.api("PATCH", path, value, auth=stranger).status == 403
    assert gateway.api("POST", "/api/v1/users", {"name": unique("user")}, auth=stranger).status == 403

    found = gateway.api("GET", path, auth=stranger).json()
    assert (found["is_admin"], found["is_auditor"]) == (False, False)


METHODS = ["PROPFIND", "OPTIONS", "TRACE", "CONNECT", "get", "Get", "LINK", "PURGE", "SEARCH", "QUERY", "MKCOL", "BREW"]


@pytest.mark.parametrize("method", METHODS)
def test_a25_odd_methods_are_denied(gateway: Served, victim: str, method: str) -> None:
    """What is not a method of the table is refused, on every kind of path, to everybody, with nothing of the image."""
    for path in (
        "/v2/",
        f"/v2/{victim}/manifests/v1",
        f"/v2/{victim}/blobs/{sha256(SECRET_LAYER)}",
        "/v2/foo",
        "/api/v1/users",
    ):
        with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
            client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b""))  # called at once
        assert answer.split(b" ")[1] in {b"400", b"401", b"404", b"405", b"501"}, path
        assert b"layer" not in answer


def test_a25_a_get_with_a_body_is_a_get(gateway: Served, victim: str) -> None:
    """A body on GET changes nothing of what is asked and of who may have it."""
    assert gateway.request("GET", f"/v2/{victim}/tags/list", b'{"admin":true}').status == 401
    assert gateway.admin("GET", f"/v2/{victim}/tags/list", b"x" * 1000).json()["tags"] == ["v1"]


def test_a28_no_list_shows_a_secret(gateway: Served, private: Place, stranger: Login) -> None:
    """Whatever an auditor and an admin read of accounts, no secret and no hash is in it."""
    auditor = make_user(gateway, is_auditor=True)
    robot = make_robot(gateway, ("reader", private))
    token = make_token(gateway, stranger)
    with closing(sqlite3.connect(f"file:{gateway.data / 'sluice.db'}?mode=ro", uri=True)) as rows:
        hashes = [row[0] for row in rows.execute("SELECT secret_hash FROM credentials")]
        hashes += [row[0] for row in rows.execute("SELECT password_hash FROM accounts WHERE password_hash IS NOT NULL")]
    assert hashes

    for who in (auditor, ADMIN):
        for path in (
            "users",
            f"users/{stranger[0]}",
            "robots",
            f"robots/{robot[0]}",
            f"robots/{robot[0]}/keys",
            f"tokens?account={stranger[0]}",
        ):
            reply = gateway.api("GET", f"/api/v1/{path}", auth=who)
            assert reply.status == 200
            assert not [each for each in (*hashes, robot[1], token[1], PASSWORD) if each.encode() in reply.body]
