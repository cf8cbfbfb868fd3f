"""The authorisation matrix: every route of the table, asked by every kind of principal, has the answer written here.

A route without a row fails, and so does a row without a route (security rows A1, A2, A5, A20, A24).
"""

import re
from typing import Any, Final

import pytest

from gateway.access.actions import Action, Role
from gateway.access.secrets import SecretKind, hash_secret, mint
from gateway.api.route import Route
from gateway.api.routes import ROUTES
from storage import Transaction
from storage.metadata import accounts, credentials, grants, projects, repositories, warm_ups
from tests.gateway.api.installation import (
    ADMIN,
    AUDITOR,
    PASSWORD,
    REPOSITORY,
    SECRET,
    STRANGER,
    Credentials,
    Installation,
)

PRINCIPALS: Final = (
    "nobody",  # no credentials
    "registry",  # a registry token of the admin
    "wrong",  # a wrong password
    "disabled",  # an account that was switched off
    "stranger",  # a user without roles
    "reader",
    "writer",
    "maintainer",
    "owner",  # the project's admin
    "robot",  # of the project, maintainer there
    "narrow",  # the admin's personal token, for pulling only
    "auditor",
    "admin",
)

MATRIX: Final = {
    #                          nobo regi wron disa stra read writ main ownr robt narr audi admin
    "health.ready":           "200  200  200  200  200  200  200  200  200  200  200  200  200",
    "health.live":            "200  200  200  200  200  200  200  200  200  200  200  200  200",
    "metrics.get":            "401  401  401  401  403  403  403  403  403  403  403  200  200",
    "openapi.get":            "200  200  200  200  200  200  200  200  200  200  200  200  200",
    "repository.list":        "401  401  401  401  200  200  200  200  200  200  200  200  200",
    "repository.create":      "401  401  401  401  400  403  403  201  201  201  403  403  201",
    "repository.get":         "401  401  401  401  404  200  200  200  200  200  200  200  200",
    "repository.change":      "401  401  401  401  404  403  403  200  200  200  403  403  200",
    "repository.delete":      "401  401  401  401  404  403  403  204  204  204  403  403  204",
    "upstream.get":           "401  401  401  401  404  403  403  200  200  200  403  200  200",
    "cache.clear":            "401  401  401  401  404  403  403  400  400  400  403  403  400",
    "warm_up.list":           "401  401  401  401  404  403  403  200  200  200  403  200  200",
    "warm_up.begin":          "401  401  401  401  404  403  403  201  201  201  403  403  201",
    "warm_up.get":            "401  401  401  401  404  403  403  200  200  200  403  200  200",
    "repository_grant.list":  "401  401  401  401  404  403  403  403  200  403  403  200  200",
    "repository_grant.put":   "401  401  401  401  404  403  403  403  200  403  403  403  200",
    "repository_grant.delete":"401  401  401  401  404  403  403  403  204  403  403  403  204",
    "project.list":           "401  401  401  401  200  200  200  200  200  200  200  200  200",
    "project.create":         "401  401  401  401  403  403  403  403  403  403  403  403  201",
    "project.get":            "401  401  401  401  404  200  200  200  200  200  200  200  200",
    "project.change":         "401  401  401  401  404  403  403  200  200  200  403  403  200",
    "project.delete":         "401  401  401  401  404  403  403  403  403  403  403  403  204",
    "project_grant.list":     "401  401  401  401  404  403  403  403  200  403  403  200  200",
    "project_grant.put":      "401  401  401  401  404  403  403  403  200  403  403  403  200",
    "project_grant.delete":   "401  401  401  401  404  403  403  403  204  403  403  403  204",
    "user.list":              "401  401  401  401  403  403  403  403  403  403  403  200  200",
    "user.create":            "401  401  401  401  403  403  403  403  403  403  403  403  201",
    "user.get":               "401  401  401  401  404  404  404  404  404  404  404  200  200",
    "user.change":            "401  401  401  401  404  404  404  404  404  404  404  403  200",
    "user.delete":            "401  401  401  401  404  404  404  404  404  404  404  403  204",
    "robot.list":             "401  401  401  401  403  403  403  403  403  403  403  200  200",
    "robot.create":           "401  401  401  401  400  403  403  403  201  403  403  403  201",
    "robot.get":              "401  401  401  401  404  404  404  404  200  404  404  200  200",
    "robot.change":           "401  401  401  401  404  404  404  404  200  404  404  403  200",
    "robot.delete":           "401  401  401  401  404  404  404  404  204  404  404  403  204",
    "robot_key.list":         "401  401  401  401  404  404  404  404  200  404  404  200  200",
    "robot_key.create":       "401  401  401  401  404  404  404  404  201  404  404  403  201",
    "robot_key.delete":       "401  401  401  401  404  404  404  404  204  404  404  403  204",
    "token.list":             "401  401  401  401  200  200  200  200  200  403  403  200  200",
    "token.create":           "401  401  401  401  201  201  201  201  201  403  403  201  201",
    "token.delete":           "401  401  401  401  404  404  404  404  404  403  403  404  204",
}  # fmt: skip

BODIES: Final[dict[str, dict[str, Any]]] = {
    "repository.create": {"project": "place", "name": "new"},
    "repository.change": {"description": "new"},
    "warm_up.begin": {"images": ["none:here"]},
    "repository_grant.put": {"role": "reader"},
    "project.create": {"name": "another"},
    "project.change": {"description": "new"},
    "project_grant.put": {"role": "reader"},
    "user.create": {"name": "another"},
    "user.change": {"description": "new"},
    "robot.create": {"name": "another", "project": "place"},
    "robot.change": {"description": "new"},
    "robot_key.create": {"label": "new"},
    "token.create": {"label": "new"},
}

# The objects that the routes name; `victim` has roles and asks nothing itself.
NAMES: Final = {"project": "place", "repository": "images", "user": "victim", "robot": "sa$bot", "account": "victim"}


def test_every_route_has_a_row() -> None:
    """A route that nobody decided about cannot be merged."""
    assert {route.act for route in ROUTES} == set(MATRIX)
    assert {route.act for route in ROUTES if route.body is not None} == set(BODIES)
    assert {len(row.split()) for row in MATRIX.values()} == {len(PRINCIPALS)}


def _in_order(routes: tuple[Route, ...]) -> list[Route]:
    """What is asked for is there when it is asked for: removals last, the innermost first."""
    return sorted(
        routes, key=lambda route: (route.method == "DELETE", route.act == "project.delete", -len(route.segments))
    )


@pytest.mark.slow
@pytest.mark.parametrize("principal", PRINCIPALS)
async def test_the_matrix_holds(installation: Installation, principal: str) -> None:
    """Each route gives this kind of principal the status that its row says."""
    column = PRINCIPALS.index(principal)
    expected = {act: int(row.split()[column]) for act, row in MATRIX.items()}
    ids = await installation.services.database.transaction(_furnish, installation.services.clock)
    auth, headers = await _credentials(installation, principal)
    found = {}

    for route in _in_order(ROUTES):
        if route.act == "project.delete":  # an admin's own new repository must not stand in its way
            await installation.call("DELETE", "/api/v1/repos/place/new")
        path = re.sub(r"\{(\w+)\}", lambda match: {**NAMES, **ids}[match[1]], route.path)
        reply = await installation.call(route.method, path, BODIES.get(route.act), auth=auth, headers=headers)
        found[route.act] = reply.status

    assert found == expected


def _furnish(tx: Transaction, clock: Any) -> dict[str, str]:
    """The objects that the routes name; gives the ids of the robot's key, the victim's token and the warm-up."""
    now = int(clock())
    place = projects.create(tx, name="place", description="", now=now)
    sample = accounts.find(tx, STRANGER)
    assert sample is not None
    stored = accounts.password_hash(tx, sample.id)
    victim = accounts.create(tx, name="victim", kind="user", now=now)
    bot = accounts.create(tx, name="sa$bot", kind="robot", project_id=place.id, now=now)
    grants.put(tx, account_id=bot.id, project_id=place.id, role=Role.MAINTAINER, now=now)
    grants.put(tx, account_id=victim.id, project_id=place.id, role=Role.READER, now=now)
    repository_id = _repository(tx, place.id, now)
    grants.put(tx, account_id=victim.id, repository_id=repository_id, role=Role.READER, now=now)
    for name, role in {"reader": "reader", "writer": "writer", "maintainer": "maintainer", "owner": "admin"}.items():
        account = accounts.create(tx, name=name, kind="user", password_hash=stored, now=now)
        grants.put(tx, account_id=account.id, project_id=place.id, role=role, now=now)
    off = accounts.create(tx, name="disabled", kind="user", password_hash=stored, is_admin=True, now=now)
    accounts.update(tx, off.id, now=now, is_enabled=False)
    key = _secret(tx, bot.id, SecretKind.ROBOT, now)
    keeper = accounts.create(tx, name="keeper", kind="user", now=now)  # whose token outlives the victim
    token = _secret(tx, keeper.id, SecretKind.PERSONAL, now)
    warm_up = warm_ups.begin(tx, repository_id, images=1, now=now)
    return {"key": str(key), "token": str(token), "warm_up": str(warm_up.id)}


def _repository(tx: Transaction, project_id: int, now: int) -> int:
    sample = repositories.find(tx, "team", "images")
    assert sample is not None
    made = repositories.create(
        tx,
        project_id=project_id,
        name="images",
        description="",
        format="docker",
        repository_type="hosted",
        storage_id=sample.storage_id,
        flat_alias_prefix=None,
        is_catch_all=False,
        anonymous_read=False,
        immutable_tags=(),
        settings='{"upstream": {"urls": ["https://registry.invalid"]}}',
        now=now,
    )
    return made.id


def _secret(tx: Transaction, account_id: int, kind: SecretKind, now: int) -> int:
    record = credentials.create(
        tx,
        account_id=account_id,
        kind=kind,
        secret_hash=mint(kind)[1],
        label="",
        limits=None,
        service=None,
        parent_id=None,
        created_at=now,
        expires_at=now + 3600,
    )
    return record.id


async def _credentials(installation: Installation, principal: str) -> tuple[Credentials, dict[str, str]]:
    """How this kind of principal speaks: Basic credentials, or a header of its own."""
    match principal:
        case "nobody":
            return None, {}
        case "wrong":
            return (ADMIN, "not the password"), {}
        case "registry":
            token = await installation.registry_token(ADMIN, "repository:place/images/app:pull,push,delete")
            return None, {"Authorization": f"Bearer {token}"}
        case "robot":
            bot = await installation.services.database.read(accounts.find, "sa$bot")
            assert bot is not None
            minted = await installation.services.accounts.issue_key(bot.id)
            return ("sa$bot", minted.text), {}
        case "narrow":
            return await installation.personal_token(ADMIN, Action.PULL), {}
        case "auditor":
            return AUDITOR, {}
        case name:
            return name, {}


# --- what the matrix cannot say --------------------------------------------------------------------------------------

HIDDEN: Final = [
    ("GET", "/api/v1/repos/hidden/images", "/api/v1/repos/hidden/nothing"),
    ("GET", "/api/v1/repos/hidden/images", "/api/v1/repos/nothing/images"),
    ("PATCH", "/api/v1/repos/hidden/images", "/api/v1/repos/nothing/images"),
    ("DELETE", "/api/v1/repos/hidden/images", "/api/v1/repos/nothing/images"),
    ("GET", "/api/v1/repos/hidden/images/grants", "/api/v1/repos/nothing/images/grants"),
    ("PUT", "/api/v1/repos/hidden/images/grants/rita", "/api/v1/repos/nothing/images/grants/rita"),
    ("GET", "/api/v1/projects/hidden", "/api/v1/projects/nothing"),
    ("PATCH", "/api/v1/projects/hidden", "/api/v1/projects/nothing"),
    ("DELETE", "/api/v1/projects/hidden", "/api/v1/projects/nothing"),
    ("GET", "/api/v1/projects/hidden/grants", "/api/v1/projects/nothing/grants"),
    ("GET", "/api/v1/users/rita", "/api/v1/users/noone"),
    ("PATCH", "/api/v1/users/rita", "/api/v1/users/noone"),
    ("DELETE", "/api/v1/users/rita", "/api/v1/users/noone"),
    ("GET", "/api/v1/robots/hidden", "/api/v1/robots/noone"),
    ("GET", "/api/v1/robots?project=hidden", "/api/v1/robots?project=nothing"),
    ("GET", "/api/v1/robots/hidden/keys", "/api/v1/robots/noone/keys"),
    ("DELETE", "/api/v1/tokens/1", "/api/v1/tokens/999"),
    ("DELETE", "/api/v1/tokens/1", "/api/v1/tokens/x"),
    ("GET", "/api/v1/tokens?account=rita", "/api/v1/tokens?account=noone"),
]


@pytest.mark.parametrize(("method", "there", "missing"), HIDDEN)
async def test_hidden_and_missing_look_alike(installation: Installation, method: str, there: str, missing: str) -> None:
    """Status, headers and body do not tell whether the object exists (security row A1)."""
    await installation.services.accounts.create_robot("hidden")
    await installation.personal_token("rita")

    first = await installation.call(method, there, auth=STRANGER)
    second = await installation.call(method, missing, auth=STRANGER)

    assert first.status in {403, 404}
    assert (first.status, first.body) == (second.status, second.body)
    assert _comparable(first.headers) == _comparable(second.headers)


def _comparable(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "x-request-id"}


@pytest.mark.parametrize("name", ["scanner-x", "administrator", "root", "robot", "sa", "library", "auditor"])
async def test_no_right_hangs_on_a_name(installation: Installation, name: str) -> None:
    """Whatever a user or robot is called, it can do nothing until it has a role (security row A14)."""
    await installation.services.accounts.create_user(name, PASSWORD)
    robot = await installation.services.accounts.create_robot(name)
    key = await installation.services.accounts.issue_key(robot.id)

    for auth in (name, (f"sa${name}", key.text)):
        assert (await installation.call("GET", "/api/v1/users", auth=auth)).status == 403
        assert (await installation.call("GET", f"/api/v1/repos/{SECRET}", auth=auth)).status == 404
        assert (await installation.call("DELETE", f"/api/v1/repos/{REPOSITORY}", auth=auth)).status == 404


@pytest.mark.parametrize(
    "name",
    [
        "sa$x",
        "robot$",
        "$app",
        "<token>",
        "oauth2accesstoken",
        "ad\u043cin",
        "admin ",
        "admin\u0000",
        "Admin",
        "",
        "a:b",
    ],
)
async def test_names_that_could_deceive_are_refused(installation: Installation, name: str) -> None:
    """Prefixes of robots, names that clients use for other things, look-alikes and blanks (security row A14)."""
    refused = await installation.call("POST", "/api/v1/users", {"name": name, "password": PASSWORD})

    assert (refused.status, refused.fields) == (400, ["name"])


async def test_an_auditor_reads_no_secret(installation: Installation) -> None:
    """Of all that can be read, nothing holds a secret, its hash, or a password's hash (security row A28)."""
    ids = await installation.services.database.transaction(_furnish, installation.services.clock)
    token = await installation.call("POST", "/api/v1/tokens", {"label": "x"}, auth="rita")
    key = await installation.call("POST", "/api/v1/robots/bot/keys", {"label": "x"})
    secrets = [token.value["secret"], key.value["secret"]]
    forbidden = [*secrets, *map(hash_secret, secrets), "$argon2", PASSWORD]
    reading = [route for route in ROUTES if route.method == "GET"]

    for route in reading:
        path = re.sub(r"\{(\w+)\}", lambda match: {**NAMES, **ids}[match[1]], route.path)
        query = "?account=rita" if route.act == "token.list" else ""
        reply = await installation.call("GET", path + query, auth=AUDITOR)
        assert reply.status == 200, route
        assert not [text for text in forbidden if text.encode() in reply.body], route


async def test_a_revoked_right_ends_at_once(installation: Installation) -> None:
    """The request after the revocation is refused: nothing is remembered (security row A17)."""
    before = await installation.call("PATCH", f"/api/v1/repos/{REPOSITORY}", {"description": "a"}, auth="mary")
    taken = await installation.call("DELETE", "/api/v1/projects/team/grants/mary")
    after = await installation.call("PATCH", f"/api/v1/repos/{REPOSITORY}", {"description": "b"}, auth="mary")

    assert (before.status, taken.status, after.status) == (200, 204, 404)


async def test_a_role_on_the_old_project_is_none_on_the_new(installation: Installation) -> None:
    """A project deleted and made again under its name is another one (security row A15)."""
    await installation.call("POST", "/api/v1/projects", {"name": "phoenix"})
    await installation.call("PUT", "/api/v1/projects/phoenix/grants/rita", {"role": "admin"})
    before = await installation.call("GET", "/api/v1/projects/phoenix", auth="rita")
    await installation.call("DELETE", "/api/v1/projects/phoenix")
    await installation.call("POST", "/api/v1/projects", {"name": "phoenix"})
    after = await installation.call("GET", "/api/v1/projects/phoenix", auth="rita")

    assert (before.status, after.status) == (200, 404)
