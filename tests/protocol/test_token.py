"""Protocol section 1.3: GET of the token endpoint, row by row."""

import base64
import datetime as dt
import json
import re
import threading
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.people import (
    PASSWORD,
    Login,
    Place,
    change,
    make,
    make_member,
    make_place,
    make_robot,
    make_token,
    make_user,
    revoke,
    unique,
)
from tests.served import ADMIN, Reply, Served, sha256

DIGEST = sha256(b"")


def ask(gateway: Served, *scopes: str, auth: Login | str | None = ADMIN, **parameters: str) -> Reply:
    """GET the token endpoint with each scope as a parameter of its own."""
    query = urlencode([*(("scope", scope) for scope in scopes), ("service", "sluice"), *parameters.items()])
    return gateway.request("GET", f"/v2/token?{query}", auth=auth)


def claims(reply: Reply) -> dict[str, Any]:
    """What the token of an answer says."""
    assert reply.status == 200, reply
    return _decoded(reply.json()["token"].split(".")[1])


def _decoded(part: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return value


def granted(reply: Reply) -> dict[str, set[str]]:
    """The actions by name in the token of an answer; names without any left out."""
    return {each["name"]: set(each["actions"]) for each in claims(reply)["access"] if each["actions"]}


@pytest.fixture
def place(private: Place) -> str:
    """An image name in the private repository that nobody else uses."""
    return f"{private.name}/{unique('app')}"


@pytest.fixture(scope="session")
def writer(gateway: Served, private: Place) -> Login:
    """Who may pull from and push to the private repository."""
    return make_member(gateway, "writer", private)


def test_tok_01_parameters(gateway: Served, place: str, writer: Login) -> None:
    """Service, account, client_id and offline_token are understood, unknown parameters ignored."""
    reply = ask(
        gateway,
        f"repository:{place}:pull",
        auth=writer,
        account=writer[0],
        client_id="docker",
        offline_token="false",
        unknown="\0ÿ",
    )

    assert granted(reply) == {place: {"pull", "push"}}


def test_tok_02_scopes_repeated_and_with_spaces(gateway: Served, place: str, writer: Login) -> None:
    """Several parameters, one with spaces, and both mixed name the same images."""
    a, b, c = (f"repository:{place}/{each}:pull" for each in "abc")

    for form in ([a, b, c], [f"{a} {b} {c}"], [f"{a} {b}", c], [f" {a}  {b} ", c, ""]):
        assert granted(ask(gateway, *form, auth=writer)).keys() == {f"{place}/{each}" for each in "abc"}


def test_tok_03_grammar(gateway: Served, place: str, writer: Login) -> None:
    """A class is ignored, a name may begin with host:port, and what is malformed grants nothing and is no error."""
    assert granted(ask(gateway, f"repository(plugin):{place}:pull", auth=writer)) == {place: {"pull", "push"}}
    hosted = ask(gateway, f"repository:registry.example:5000/{place}:pull", auth=writer)
    assert granted(hosted) == {place: {"pull", "push"}}
    for scope in ("repository", "repository:", f"repository:{place}", "::", ":a:pull", "repository:../x:pull", "é"):
        assert granted(ask(gateway, scope, auth=writer)) == {}


@pytest.mark.parametrize("actions", ["pull,push", "push,pull", "push,pull,delete", "*", "pull", "pull,,push,unknown"])
def test_tok_04_actions_in_any_order(gateway: Served, place: str, writer: Login, actions: str) -> None:
    """Order is free, unknown actions are ignored, and `*` is all that the caller has."""
    assert granted(ask(gateway, f"repository:{place}:{actions}", auth=writer)) == {place: {"pull", "push"}}


def test_tok_04_a_star_is_enough_to_delete(gateway: Served, name: str) -> None:
    """A token asked for with `*` alone pulls and deletes, as skopeo does; `registry:catalog:*` opens the catalog."""
    gateway.push_image(name, "v1", b"layer")
    token = gateway.token(f"repository:{name}:*")

    assert gateway.request("HEAD", f"/v2/{name}/manifests/v1", auth=token).status == 200
    assert gateway.request("DELETE", f"/v2/{name}/manifests/v1", auth=token).status == 202
    assert gateway.request("GET", "/v2/_catalog", auth=token).status == 401
    assert gateway.request("GET", "/v2/_catalog", auth=gateway.token("registry:catalog:*")).status == 200


def test_tok_05_a_part_is_granted(gateway: Served, private: Place, place: str) -> None:
    """What the caller does not hold is left out, be it an action or a whole image, and the answer is still 200."""
    reader = make_member(gateway, "reader", private)

    reply = ask(gateway, f"repository:{place}:pull,push,delete", "repository:nowhere/else:pull", auth=reader)

    assert granted(reply) == {place: {"pull"}}
    token = reply.json()["token"]
    assert gateway.request("GET", f"/v2/{place}/tags/list", auth=token).status == 404
    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=token).status == 401


def test_tok_05_a_token_asked_for_pulling_may_push(gateway: Served, place: str, writer: Login) -> None:
    """Some clients ask for pull and then push with it: the token has what its owner holds there."""
    token = gateway.token(f"repository:{place}:pull", auth=writer)

    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=token).status == 202


def test_tok_05_a_limited_credential_never_gains(gateway: Served, place: str, writer: Login) -> None:
    """The token of a token limited to pull only pulls."""
    limited = make_token(gateway, writer, actions=["pull"])

    reply = ask(gateway, f"repository:{place}:pull,push,delete", auth=limited)

    assert granted(reply) == {place: {"pull"}}
    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=reply.json()["token"]).status == 401


def test_tok_06_without_a_scope(gateway: Served, writer: Login) -> None:
    """A login asks for nothing and gets a token without access, which is good for `/v2/`."""
    reply = gateway.request("GET", "/v2/token?account=x&service=sluice", auth=writer)

    assert claims(reply)["access"] == []
    assert gateway.request("GET", "/v2/", auth=reply.json()["token"]).status == 200


@pytest.mark.parametrize("user", ["admin", "nobody-of-that-name", "sa$robot", "", "x" * 1000, "a\x00b"])
def test_tok_07_bad_credentials(gateway: Served, place: str, user: str) -> None:
    """A wrong password, an unknown user or robot: 401 UNAUTHORIZED with a message, one and the same for all."""
    reply = ask(gateway, f"repository:{place}:pull", auth=(user, "wrong-password"))

    assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])
    assert reply.json()["errors"][0]["message"] == "incorrect user name or password"
    assert "www-authenticate" in reply.headers


@pytest.mark.parametrize("header", ["Basic", "Basic ", "Basic !!!", "Basic YQ==", "Digest x", "Bearer", "Bearer x", ""])
def test_tok_07_what_is_no_login(gateway: Served, header: str) -> None:
    """An Authorization that cannot be read is refused, never taken for nobody's."""
    reply = gateway.request("GET", "/v2/token", headers={"Authorization": header})

    assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])
    assert "www-authenticate" in reply.headers


@pytest.mark.parametrize("auth", [None, ("", "")])
def test_tok_08_nobody(gateway: Served, place: str, auth: Login | None) -> None:
    """Without Authorization, or with an empty user and password, the token is anonymous: good for what is public."""
    public = make_place(gateway, anonymous_read=True)

    reply = ask(gateway, f"repository:{place}:pull", f"repository:{public.name}/app:pull,push", auth=auth)

    assert claims(reply)["sub"] == ""
    assert granted(reply) == {f"{public.name}/app": {"pull"}}


def test_tok_09_10_11_12_the_answer(gateway: Served) -> None:
    """Both names of the token, an integer lifetime of a minute or more, and the server's time to the second in UTC."""
    reply = ask(gateway)

    value = reply.json()
    assert reply.headers["content-type"] == "application/json"
    assert value["token"] == value["access_token"]
    assert type(value["expires_in"]) is int
    assert value["expires_in"] >= 60
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value["issued_at"])
    issued = dt.datetime.fromisoformat(value["issued_at"]).timestamp()
    assert abs(issued - time.time()) < 60
    lifetime_s = claims(reply)["exp"] - claims(reply)["iat"]
    assert 0 <= lifetime_s - value["expires_in"] < 10  # one that was made for somebody else tells what it has left


def test_tok_13_refresh_token_on_demand_only(gateway: Served, writer: Login) -> None:
    """A refresh token comes with offline_token=true and not otherwise; nobody gets none."""
    assert "refresh_token" in ask(gateway, auth=writer, offline_token="true").json()
    assert "refresh_token" not in ask(gateway, auth=writer).json()
    assert "refresh_token" not in ask(gateway, auth=writer, offline_token="false").json()
    assert "refresh_token" not in ask(gateway, auth=None, offline_token="true").json()


def test_tok_14_the_audience_is_the_service(gateway: Served) -> None:
    """Whatever service is named, the token is for this one."""
    for query in ("", "?service=sluice", "?service=other", "?service="):
        assert claims(gateway.admin("GET", f"/v2/token{query}"))["aud"] == "sluice"


def test_tok_14_17_a_token_of_another_registry(gateway: Served, behind_proxy: Served) -> None:
    """A token that another installation signed for a service of the same name is 401."""
    foreign = behind_proxy.token("repository:a:pull")

    reply = gateway.request("GET", "/v2/", auth=foreign)

    assert reply.status == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


def test_tok_15_basic_counts_not_account(gateway: Served, writer: Login) -> None:
    """The token belongs to whoever logged in, not to who `account` names."""
    mine, other = claims(ask(gateway, auth=writer)), claims(ask(gateway, auth=writer, account="admin"))

    assert mine["sub"] == other["sub"] != claims(ask(gateway))["sub"]


def test_tok_16_claims(gateway: Served, place: str, writer: Login) -> None:
    """The token has the claims and the header of distribution's document, and no two that differ have one id."""
    first, second = ask(gateway, f"repository:{place}:pull", auth=writer), ask(gateway, auth=writer)

    found = claims(first)
    header = _decoded(first.json()["token"].split(".")[0])
    assert found.keys() >= {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"}
    (entry,) = found["access"]
    assert (entry["type"], entry["name"], sorted(entry["actions"])) == ("repository", place, ["pull", "push"])
    assert header["typ"] == "JWT"
    assert header.keys() == {"typ", "alg", "kid"}
    assert found["jti"] != claims(second)["jti"]
    assert found["sub"] not in {"", writer[0]}  # an id: names can be given to somebody else


def test_tok_18_a_token_for_many_scopes_fits_a_header(gateway: Served, place: str, writer: Login) -> None:
    """However many images are named, the token stays below 8 KiB and works for those it names."""
    scopes = [f"repository:{place}/{number:03}/{'x' * 60}:pull,push,delete" for number in range(60)]

    reply = ask(gateway, *scopes, auth=writer)

    token = reply.json()["token"]
    assert len(token) < 8192
    first = next(iter(granted(reply)))
    assert gateway.request("GET", f"/v2/{first}/tags/list", auth=token).status == 404
    assert gateway.request("GET", f"/v2/{place}/other/tags/list", auth=token).status == 401


def test_tok_19_no_cache_keeps_a_token(gateway: Served) -> None:
    """Answers with a token are no-store, by GET and POST."""
    form = urlencode({"grant_type": "password", "username": ADMIN[0], "password": ADMIN[1]}).encode()
    posted = gateway.request("POST", "/v2/token", form, {"Content-Type": "application/x-www-form-urlencoded"})

    assert ask(gateway).headers["cache-control"] == "no-store"
    assert (posted.status, posted.headers["cache-control"]) == (200, "no-store")


@pytest.mark.parametrize(
    "password", ["a:b:c:d:e:", ":::::::::", "p\u00e4ssw\u00f6rd\u20ac\U0001f511", " spaces  ", "$+%&=#?x"]
)
def test_tok_20_unusual_passwords(gateway: Served, password: str) -> None:
    """Basic is split at the first colon and is UTF-8."""
    user = unique("ann+ci")
    make(gateway, "users", {"name": user, "password": password})

    assert claims(ask(gateway, auth=(user, password)))["sub"]
    assert ask(gateway, auth=(user, password[:-1])).status == 401


def test_tok_20_names_of_machines_and_tokens(gateway: Served, private: Place, place: str, writer: Login) -> None:
    """`sa$name` logs in with its key, and a personal token with any user name at all."""
    robot = make_robot(gateway, ("reader", private))
    token = make_token(gateway, writer)[1]

    assert robot[0].startswith("sa$")
    assert granted(ask(gateway, f"repository:{place}:pull", auth=robot)) == {place: {"pull"}}
    for user in ("<token>", "oauth2accesstoken", "", writer[0], "$app"):
        assert granted(ask(gateway, f"repository:{place}:pull", auth=(user, token))) == {place: {"pull", "push"}}


def test_tok_21_rights_are_looked_up_for_each_token(gateway: Served, private: Place, place: str) -> None:
    """A role taken away is not in the next token, and the token before it is worth nothing any more."""
    user = make_member(gateway, "writer", private)
    before = gateway.token(f"repository:{place}:push", auth=user)
    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=before).status == 202

    revoke(gateway, user, private)

    assert granted(ask(gateway, f"repository:{place}:push", auth=user)) == {}
    assert gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=before).status == 401


def test_tok_21_who_is_disabled_gets_no_token(gateway: Served, private: Place, place: str) -> None:
    """A disabled user and robot are refused at the token endpoint at once, and so are their tokens."""
    user = make_member(gateway, "writer", private)
    robot = make_robot(gateway, ("writer", private))
    tokens = [gateway.token(f"repository:{place}:push", auth=each) for each in (user, robot)]

    change(gateway, f"users/{user[0]}", {"is_enabled": False})
    change(gateway, f"robots/{robot[0]}", {"is_enabled": False})

    assert [ask(gateway, auth=each).status for each in (user, robot)] == [401, 401]
    assert [gateway.request("GET", "/v2/", auth=each).status for each in tokens] == [401, 401]


def test_tok_22_a_flood_of_logins_is_never_429(behind_proxy: Served) -> None:
    """Where only one password is checked at a time, a crowd gets 401 or 503 with Retry-After, and never 429."""
    replies: list[Reply] = []

    def log_in(number: int) -> None:
        replies.append(ask(behind_proxy, auth=(f"user{number}", "wrong-password")))

    threads = [threading.Thread(target=log_in, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {reply.status for reply in replies} == {401, 503}
    for reply in replies:
        if reply.status == 503:
            assert reply.codes() == ["UNAVAILABLE"]
            assert int(reply.headers["retry-after"]) > 0


def test_tok_16_a_registry_token_is_not_exchanged(gateway: Served, writer: Login) -> None:
    """A registry token does not get another one, neither as Bearer nor as a password: it would never end."""
    token = gateway.token(auth=writer)

    for auth in (token, (writer[0], token), ("<token>", token)):
        reply = ask(gateway, auth=auth)
        assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])
        assert "www-authenticate" in reply.headers


def test_tok_02_encoded_and_raw_scopes(gateway: Served, place: str, writer: Login) -> None:
    """`scope=` with raw and with encoded colons, slashes and commas is the same."""
    scope = f"repository:{place}:pull,push"
    for text in (scope, quote(scope), quote(scope, safe=""), quote(f"{scope} {scope}").replace("%20", "+")):
        reply = gateway.request("GET", f"/v2/token?service=sluice&scope={text}", auth=writer)
        assert granted(reply) == {place: {"pull", "push"}}


def test_tok_07_the_password_of_somebody_else(gateway: Served) -> None:
    """Every user has an own password, though all of this test's have the same text."""
    one, two = make_user(gateway), make_user(gateway)
    change(gateway, f"users/{two[0]}", {"password": "another-password"})

    assert ask(gateway, auth=(two[0], PASSWORD)).status == 401
    assert claims(ask(gateway, auth=one))["sub"] != claims(ask(gateway, auth=(two[0], "another-password")))["sub"]
