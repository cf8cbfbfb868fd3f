"""Robots and their keys over REST: a project's admins manage those of the project, and nothing tells a secret twice."""

import pytest

from tests.gateway.api.installation import ADMIN, AUDITOR, STRANGER, Installation

PATH = "/api/v1/robots"


async def test_a_robot_gets_a_role_and_a_key(installation: Installation) -> None:
    """The way that a project's admin sets up a build machine, without any other right."""
    made = await installation.call("POST", PATH, {"name": "ci", "project": "team"}, auth="olga")
    role = await installation.call("PUT", "/api/v1/projects/team/grants/sa$ci", {"role": "reader"}, auth="olga")
    key = await installation.call("POST", f"{PATH}/ci/keys", {"label": "runner"}, auth="olga")

    seen = await installation.call("GET", "/api/v1/repos/team/images", auth=("sa$ci", key.value["secret"]))

    assert (made.status, made.value["name"], made.headers["location"]) == (201, "sa$ci", f"{PATH}/sa$ci")
    assert (role.status, key.status, seen.status) == (200, 201, 200)


async def test_a_robot_is_found_with_and_without_its_prefix(installation: Installation) -> None:
    """`ci`, `sa$ci` and `sa%24ci` are the same robot."""
    await installation.call("POST", PATH, {"name": "sa$ci"})

    found = [await installation.call("GET", f"{PATH}/{name}") for name in ("ci", "sa$ci", "sa%24ci")]

    assert [(each.status, each.value["name"]) for each in found] == [(200, "sa$ci")] * 3


async def test_a_robot_has_two_keys_at_most(installation: Installation) -> None:
    """The one in use and the next; a third is a conflict until one is ended."""
    await installation.call("POST", PATH, {"name": "ci"})
    keys = [await installation.call("POST", f"{PATH}/ci/keys", {"label": label}) for label in ("old", "new", "more")]
    await installation.call("DELETE", f"{PATH}/ci/keys/{keys[0].value['id']}")
    another = await installation.call("POST", f"{PATH}/ci/keys", {"label": "more"})

    assert [key.status for key in keys] == [201, 201, 409]
    assert another.status == 201


async def test_an_ended_key_is_out_at_once(installation: Installation) -> None:
    """The request after it is refused (security row A17)."""
    await installation.call("POST", PATH, {"name": "ci", "project": "team"})
    key = (await installation.call("POST", f"{PATH}/ci/keys", {"label": ""})).value

    before = await installation.call("GET", "/api/v1/repos", auth=("sa$ci", key["secret"]))
    await installation.call("DELETE", f"{PATH}/ci/keys/{key['id']}")
    after = await installation.call("GET", "/api/v1/repos", auth=("sa$ci", key["secret"]))

    assert (before.status, after.status) == (200, 401)


async def test_no_list_shows_a_keys_secret(installation: Installation) -> None:
    """Auditors read everything but secrets (security row A28)."""
    await installation.call("POST", PATH, {"name": "ci", "project": "team"})
    key = (await installation.call("POST", f"{PATH}/ci/keys", {"label": "x"})).value

    listed = await installation.call("GET", f"{PATH}/ci/keys", auth=AUDITOR)

    assert [item["id"] for item in listed.value["items"]] == [key["id"]]
    assert key["secret"].encode() not in listed.body


async def test_a_key_of_another_robot_is_the_key_of_nothing(installation: Installation) -> None:
    """Two ids in a path belong together or the answer is 404 (security row A21)."""
    await installation.call("POST", PATH, {"name": "mine", "project": "team"})
    await installation.call("POST", PATH, {"name": "theirs"})
    key = (await installation.call("POST", f"{PATH}/theirs/keys", {"label": ""})).value
    token = (await installation.call("POST", "/api/v1/tokens", {"label": ""})).value

    for number in (key["id"], token["id"]):
        assert (await installation.call("DELETE", f"{PATH}/mine/keys/{number}", auth="olga")).status == 404
    assert (await installation.call("GET", "/api/v1/repos", auth=("x", key["secret"]))).status == 200


async def test_a_robot_of_a_project_has_roles_there_only(installation: Installation) -> None:
    """Not even an admin gives it one elsewhere."""
    await installation.call("POST", PATH, {"name": "ci", "project": "team"})

    refused = await installation.call("PUT", "/api/v1/projects/hidden/grants/sa$ci", {"role": "reader"})

    assert (refused.status, refused.fields) == (400, ["account"])


@pytest.mark.parametrize(
    ("user", "path", "names"),
    [
        (ADMIN, PATH, ["sa$everywhere", "sa$team-1", "sa$team-2"]),
        (AUDITOR, f"{PATH}?project=team", ["sa$team-1", "sa$team-2"]),
        ("olga", f"{PATH}?project=team", ["sa$team-1", "sa$team-2"]),
    ],
)
async def test_robots_are_listed_to_who_manages_them(
    installation: Installation, user: str, path: str, names: list[str]
) -> None:
    """All to admins and auditors, a project's to its admins."""
    for name, project in {"team-1": "team", "everywhere": None, "team-2": "team"}.items():
        await installation.call("POST", PATH, {"name": name, "project": project})

    listed = await installation.call("GET", path, auth=user)

    assert [item["name"] for item in listed.value["items"]] == names


@pytest.mark.parametrize("user", ["mary", "will", STRANGER])
async def test_others_are_told_whose_business_robots_are(installation: Installation, user: str) -> None:
    """Below the project's admin nobody lists or makes robots."""
    assert (await installation.call("GET", f"{PATH}?project=team", auth=user)).status == 403
    assert (await installation.call("POST", PATH, {"name": "x", "project": "team"}, auth=user)).status == 403
    assert (await installation.call("POST", PATH, {"name": "x"}, auth=user)).status == 403


async def test_a_disabled_robot_is_out_until_enabled(installation: Installation) -> None:
    """Its keys stay and work again."""
    await installation.call("POST", PATH, {"name": "ci"})
    key = ("sa$ci", (await installation.call("POST", f"{PATH}/ci/keys", {"label": ""})).value["secret"])

    await installation.call("PATCH", f"{PATH}/ci", {"is_enabled": False})
    out = await installation.call("GET", "/api/v1/repos", auth=key)
    await installation.call("PATCH", f"{PATH}/ci", {"is_enabled": True, "description": "back"})
    back = await installation.call("GET", "/api/v1/repos", auth=key)

    assert (out.status, back.status) == (401, 200)


async def test_a_deleted_robot_is_gone_with_its_keys(installation: Installation) -> None:
    """The next of its name starts without any."""
    await installation.call("POST", PATH, {"name": "ci"})
    key = ("sa$ci", (await installation.call("POST", f"{PATH}/ci/keys", {"label": ""})).value["secret"])

    deleted = await installation.call("DELETE", f"{PATH}/ci")
    await installation.call("POST", PATH, {"name": "ci"})

    assert deleted.status == 204
    assert (await installation.call("GET", "/api/v1/repos", auth=key)).status == 401
    assert (await installation.call("GET", f"{PATH}/ci/keys")).value["items"] == []
