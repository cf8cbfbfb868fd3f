"""Projects over REST: made by admins, seen by whoever has a role or something to read in them."""

import pytest

from tests.gateway.api.installation import ADMIN, AUDITOR, REPOSITORY, STRANGER, Installation

PATH = "/api/v1/projects"


async def test_a_project_is_made_changed_and_deleted(installation: Installation) -> None:
    """The whole life of an empty project."""
    made = await installation.call("POST", PATH, {"name": "team-b", "description": "second"})
    changed = await installation.call("PATCH", f"{PATH}/team-b", {"description": "other"})
    found = await installation.call("GET", f"{PATH}/team-b")
    deleted = await installation.call("DELETE", f"{PATH}/team-b")
    gone = await installation.call("GET", f"{PATH}/team-b")

    assert (made.status, made.headers["location"]) == (201, f"{PATH}/team-b")
    assert (changed.status, found.value["description"]) == (200, "other")
    assert (deleted.status, gone.status) == (204, 404)


async def test_a_project_with_repositories_stays(installation: Installation) -> None:
    """Deleting it is a conflict that names one of them."""
    refused = await installation.call("DELETE", f"{PATH}/team")

    assert (refused.status, refused.codes) == (409, {"CONFLICT"})
    assert "images" in refused.value["errors"][0]["message"]


async def test_a_taken_name_is_a_conflict(installation: Installation) -> None:
    """There is one project of a name."""
    assert (await installation.call("POST", PATH, {"name": "team"})).status == 409


@pytest.mark.parametrize("name", ["", "Team", "a/b", "..", "a b", "t\u0435am", "x" * 101, "a\u0000"])
async def test_a_name_that_no_image_could_have_is_refused(installation: Installation, name: str) -> None:
    """Names are segments of image names; a Cyrillic letter or a NUL does not pass (security row A14)."""
    refused = await installation.call("POST", PATH, {"name": name})

    assert (refused.status, refused.fields) == (400, ["name"])


@pytest.mark.parametrize(
    ("user", "names"),
    [
        (ADMIN, ["common", "hidden", "team"]),
        (AUDITOR, ["common", "hidden", "team"]),
        ("will", ["team"]),
        (STRANGER, ["team"]),
    ],
)
async def test_a_list_holds_what_the_caller_may_know(installation: Installation, user: str, names: list[str]) -> None:
    """A project with a public repository is known to everybody with an account; others need a role in it."""
    assert [item["name"] for item in await installation.pages(PATH, limit=1, auth=user)] == names


async def test_a_project_whose_last_public_repository_closes_disappears(installation: Installation) -> None:
    """For those without a role; the list and the object agree."""
    before = await installation.call("GET", f"{PATH}/team", auth=STRANGER)
    await installation.call("PATCH", "/api/v1/repos/team/public", {"anonymous_read": False})
    after = await installation.call("GET", f"{PATH}/team", auth=STRANGER)
    listed = await installation.call("GET", PATH, auth=STRANGER)

    assert (before.status, after.status) == (200, 404)
    assert listed.value == {"items": [], "next": None}


async def test_a_token_for_one_repository_sees_only_its_project(installation: Installation) -> None:
    """A credential that is limited to places does not list others, even an admin's."""
    body = {"label": "narrow", "repositories": [REPOSITORY]}
    made = await installation.call("POST", "/api/v1/tokens", body)
    narrow = (ADMIN, made.value["secret"])

    projects = await installation.call("GET", PATH, auth=narrow)
    repositories = await installation.call("GET", "/api/v1/repos?limit=1", auth=narrow)
    elsewhere = await installation.call("GET", "/api/v1/repos/team/public", auth=narrow)

    assert [item["name"] for item in projects.value["items"]] == ["team"]
    assert [item["name"] for item in repositories.value["items"]] == ["images"]
    assert repositories.value["next"] is None
    assert elsewhere.status == 404
