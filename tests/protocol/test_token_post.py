"""Protocol section 1.4: POST of the token endpoint, row by row."""

import sqlite3
import threading
from contextlib import closing
from urllib.parse import urlencode

import pytest

from tests.people import Login, Place, change, make_member, make_robot, make_token, make_user, unique
from tests.served import ADMIN, Reply, Served

FORM = "application/x-www-form-urlencoded"


def post(gateway: Served, form: dict[str, str] | str, content_type: str | None = FORM) -> Reply:
    """POST a form to the token endpoint."""
    body = form if isinstance(form, str) else urlencode(form)
    return gateway.request(
        "POST", "/v2/token", body.encode(), {"Content-Type": content_type} if content_type is not None else {}
    )


def log_in(gateway: Served, login: Login, **fields: str) -> Reply:
    """POST with a password, as containerd does."""
    named = {"grant_type": "password", "service": "sluice", "client_id": "test", **fields}
    return post(gateway, {**named, "username": login[0], "password": login[1]})


def refresh(gateway: Served, token: str, **fields: str) -> Reply:
    """POST with a refresh token, as docker does."""
    return post(gateway, {"grant_type": "refresh_token", "service": "sluice", "refresh_token": token, **fields})


def refresh_token(gateway: Served, login: Login) -> str:
    """A refresh token of that login."""
    reply = log_in(gateway, login, access_type="offline")
    assert reply.status == 200, reply
    return str(reply.json()["refresh_token"])


@pytest.fixture
def place(private: Place) -> str:
    """An image name in the private repository that nobody else uses."""
    return f"{private.name}/{unique('app')}"


@pytest.fixture(scope="session")
def writer(gateway: Served, private: Place) -> Login:
    """Who may pull from and push to the private repository."""
    return make_member(gateway, "writer", private)


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=utf-8", f"{FORM};charset=UTF-8", FORM.upper()])
def test_oau_01_form(gateway: Served, content_type: str) -> None:
    """The form's type may have parameters and any case."""
    form = {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1], "service": "sluice"}

    assert post(gateway, form, content_type).status == 200


@pytest.mark.parametrize("content_type", [None, "application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_oau_01_other_types(gateway: Served, content_type: str | None) -> None:
    """What is not sent as a form is 400 in JSON, whatever is in it."""
    reply = post(gateway, {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1]}, content_type)

    assert (reply.status, reply.codes()) == (400, ["UNSUPPORTED"])


def test_oau_02_password(gateway: Served, place: str, writer: Login) -> None:
    """Name and password in the form get a token for the scope."""
    reply = log_in(gateway, writer, scope=f"repository:{place}:pull,push")

    assert reply.status == 200
    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=reply.json()["token"]).status == 202


def test_oau_02_personal_tokens_and_keys(gateway: Served, private: Place, place: str, writer: Login) -> None:
    """A personal token and a robot's key are passwords here too, and are worth what they are limited to."""
    limited = make_token(gateway, writer, actions=["pull"])
    robot = make_robot(gateway, ("reader", private))
    for login in (limited, robot):
        reply = log_in(gateway, login, scope=f"repository:{place}:pull,push")

        assert reply.json()["scope"] == f"repository:{place}:pull"


@pytest.mark.parametrize("changes", [{"password": "wrong-password"}, {"password": ""}, {"username": "nobody"}])
def test_oau_02_wrong_password(gateway: Served, changes: dict[str, str]) -> None:
    """Wrong credentials are 401 UNAUTHORIZED, never an anonymous token."""
    form = {"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1], **changes}

    reply = post(gateway, form)

    assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])
    assert "www-authenticate" in reply.headers


def test_oau_02_nobody(gateway: Served, place: str) -> None:
    """An empty name with an empty password is nobody, as by Basic: the token is anonymous and opens nothing private."""
    reply = log_in(gateway, ("", ""), scope=f"repository:{place}:pull", access_type="offline")

    assert (reply.status, reply.json()["scope"], "refresh_token" in reply.json()) == (200, "", False)


def test_oau_03_refresh(gateway: Served, place: str, writer: Login) -> None:
    """A refresh token gets access tokens, again and again, and comes back with each."""
    token = refresh_token(gateway, writer)

    for _ in range(3):
        reply = refresh(gateway, token, scope=f"repository:{place}:push,pull")

        assert (reply.status, reply.json()["refresh_token"]) == (200, token)
        access = reply.json()["access_token"]
        assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=access).status == 202


def test_oau_03_parallel_use(gateway: Served, writer: Login) -> None:
    """One refresh token used many times at once locks nobody out (row T9)."""
    token = refresh_token(gateway, writer)
    statuses: list[int] = []

    def use() -> None:
        statuses.append(refresh(gateway, token).status)

    threads = [threading.Thread(target=use) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [200] * 20
    assert refresh(gateway, token).status == 200


def test_oau_03_from_a_docker_login(gateway: Served, place: str, writer: Login) -> None:
    """What GET with offline_token=true gave is good for POST."""
    got = gateway.request("GET", "/v2/token?service=sluice&offline_token=true&client_id=docker", auth=writer)

    reply = refresh(gateway, got.json()["refresh_token"], scope=f"repository:{place}:pull")

    assert reply.json()["scope"] == f"repository:{place}:pull,push"


def test_oau_04_scopes_with_spaces(gateway: Served, place: str, writer: Login) -> None:
    """One scope field lists several, as docker sends them for a mount."""
    reply = log_in(gateway, writer, scope=f"repository:{place}/a:push,pull repository:{place}/b:pull")

    assert reply.json()["scope"] == f"repository:{place}/a:pull,push repository:{place}/b:pull,push"


def test_oau_04_scope_given_twice(gateway: Served, place: str, writer: Login) -> None:
    """A repeated field is read like one with spaces."""
    pairs = [("grant_type", "password"), ("username", writer[0]), ("password", writer[1])]
    scopes = [("scope", f"repository:{place}/{each}:pull") for each in "ab"]

    reply = post(gateway, urlencode([*pairs, *scopes]))

    assert [each.split(":")[1] for each in reply.json()["scope"].split(" ")] == [f"{place}/a", f"{place}/b"]


def test_oau_05_the_answer(gateway: Served, place: str, writer: Login) -> None:
    """Token under both names, the scope granted, lifetime and time; a refresh token only for access_type=offline."""
    online = log_in(gateway, writer, scope=f"repository:{place}:delete repository:nowhere/x:pull").json()
    offline = log_in(gateway, writer, access_type="offline").json()

    assert online.keys() == {"token", "access_token", "scope", "expires_in", "issued_at"}
    assert online["token"] == online["access_token"]
    assert online["scope"] == f"repository:{place}:pull,push"
    assert (type(online["expires_in"]), offline["scope"]) == (int, "")
    assert offline.keys() == {*online.keys(), "refresh_token"}


@pytest.mark.parametrize(
    "token", ["", "garbage", "sluice_ref_" + "0" * 49, "x" * 5000, "\u00e4\x00", "eyJhbGciOiJub25lIn0.e30."]
)
def test_oau_06_no_refresh_token(gateway: Served, token: str) -> None:
    """What is no refresh token is 401 UNAUTHORIZED."""
    reply = refresh(gateway, token)

    assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])


def test_oau_06_a_password_or_access_token_is_no_refresh_token(gateway: Served, writer: Login) -> None:
    """Other secrets of the same account do not count as refresh tokens, nor a refresh token as any of them."""
    personal, access = make_token(gateway, writer)[1], gateway.token(auth=writer)
    token = refresh_token(gateway, writer)

    assert [refresh(gateway, each).status for each in (personal, access, writer[1])] == [401] * 3
    assert gateway.request("GET", "/v2/", auth=token).status == 401
    assert gateway.request("GET", "/v2/", auth=(writer[0], token)).status == 401
    assert log_in(gateway, (writer[0], token)).status == 401


@pytest.mark.parametrize("grant_type", [None, "", "authorization_code", "client_credentials", "PASSWORD"])
def test_oau_06_other_grants(gateway: Served, grant_type: str | None) -> None:
    """A grant type that is not offered is 400 with the error that OAuth has for it."""
    named = {} if grant_type is None else {"grant_type": grant_type}

    reply = post(gateway, {**named, "username": ADMIN[0], "password": ADMIN[1]})

    assert (reply.status, reply.json()) == (400, {"error": "unsupported_grant_type"})


@pytest.mark.parametrize(
    "body",
    [
        "&".join(["scope=repository:a:pull"] * 200),
        "%ff%fe=%00&grant_type=password&username=%ff%00",
        "=&=&&&",
        "grant_type=password&grant_type=refresh_token",
        "\xff" * 100,
    ],
)
def test_oau_06_a_form_of_nonsense(gateway: Served, body: str) -> None:
    """A strange form is refused in JSON and is no error of the server."""
    reply = post(gateway, body)

    assert reply.status in {400, 401}
    assert reply.headers["content-type"] == "application/json"


def test_oau_06_a_huge_form(gateway: Served) -> None:
    """A form of 100 KB is 413."""
    reply = post(gateway, "grant_type=password&scope=" + "x" * 100_000)

    assert (reply.status, reply.codes()) == (413, ["SIZE_INVALID"])


def test_oau_07_bound_to_its_owner_and_service(gateway: Served, place: str, writer: Login) -> None:
    """Another service is 401, and no field of the form makes it somebody else's."""
    token = refresh_token(gateway, make_user(gateway))

    for service in ("other", "", "sluice2"):
        assert refresh(gateway, token, service=service).status == 401
    reply = refresh(gateway, token, username=writer[0], account=writer[0], scope=f"repository:{place}:push")
    assert (reply.status, reply.json()["scope"]) == (200, "")


def test_oau_07_bound_to_the_credential_it_was_made_by(gateway: Served, place: str, writer: Login) -> None:
    """The refresh token of a limited token is as limited, whatever it asks for (row A5)."""
    token = refresh_token(gateway, make_token(gateway, writer, actions=["pull"]))

    reply = refresh(gateway, token, scope=f"repository:{place}:*")

    assert reply.json()["scope"] == f"repository:{place}:pull"


@pytest.mark.parametrize("path", ["/v2/token", "/v2/token?service=sluice", "/v2/token?"])
def test_oau_08_post_is_offered(gateway: Served, path: str) -> None:
    """POST to the realm that GET is told of never answers 404 or 405, which would make clients fall back."""
    assert gateway.request("POST", path, b"", {"Content-Type": FORM}).status == 400


def test_oau_09_random_and_hashed(gateway: Served, writer: Login) -> None:
    """No two refresh tokens are alike, and none can be read in the database or any other file."""
    tokens = [refresh_token(gateway, writer) for _ in range(3)]

    assert len(set(tokens)) == 3
    with closing(sqlite3.connect(f"file:{gateway.data / 'sluice.db'}?mode=ro", uri=True)) as rows:
        dump = "\n".join(rows.iterdump())
    assert not [token for token in tokens if token in dump or token in gateway.log()]
    files = [path for path in gateway.data.rglob("sluice.db*") if path.is_file()]
    assert not [path for path in files for token in tokens if token.encode() in path.read_bytes()]


@pytest.mark.parametrize("changes", [{"password": "another-password"}, {"is_enabled": False}])
def test_oau_09_revocable(gateway: Served, changes: dict[str, object]) -> None:
    """A refresh token ends when its account gets another password or is disabled, and for good."""
    user = make_user(gateway)
    token = refresh_token(gateway, user)

    change(gateway, f"users/{user[0]}", changes)

    assert refresh(gateway, token).status == 401
    change(gateway, f"users/{user[0]}", {"is_enabled": True})
    assert refresh(gateway, token).status == 401
