"""Roles over REST: given and taken by admins of the place, in effect at once."""

import pytest

from tests.gateway.api.installation import ADMIN, AUDITOR, REPOSITORY, STRANGER, Installation

ON_PROJECT = "/api/v1/projects/team/grants"
ON_REPOSITORY = f"/api/v1/repos/{REPOSITORY}/grants"


@pytest.mark.parametrize("path", [ON_PROJECT, ON_REPOSITORY])
async def test_a_role_opens_and_closes_a_repository(installation: Installation, path: str) -> None:
    """Before it nothing is there, with it all is, and after it nothing again."""
    repository = f"/api/v1/repos/{REPOSITORY}"
    statuses = [(await installation.call("GET", repository, auth=STRANGER)).status]
    given = await installation.call("PUT", f"{path}/{STRANGER}", {"role": "reader"}, auth="olga")
    statuses.append((await installation.call("GET", repository, auth=STRANGER)).status)
    taken = await installation.call("DELETE", f"{path}/{STRANGER}", auth="olga")
    statuses.append((await installation.call("GET", repository, auth=STRANGER)).status)

    assert (given.status, given.value["account"], given.value["role"]) == (200, STRANGER, "reader")
    assert taken.status == 204
    assert statuses == [404, 200, 404]


async def test_a_second_role_replaces_the_first(installation: Installation) -> None:
    """One account has one role at one place."""
    await installation.call("PUT", f"{ON_REPOSITORY}/{STRANGER}", {"role": "admin"})
    await installation.call("PUT", f"{ON_REPOSITORY}/{STRANGER}", {"role": "reader"})

    listed = await installation.call("GET", ON_REPOSITORY)

    assert [(item["account"], item["role"]) for item in listed.value["items"]] == [(STRANGER, "reader")]


async def test_a_list_comes_by_name_in_pages(installation: Installation) -> None:
    """A project's list holds the roles on it, and not those on its repositories."""
    await installation.call("PUT", f"{ON_REPOSITORY}/{STRANGER}", {"role": "admin"})

    listed = await installation.pages(ON_PROJECT, limit=3, auth=AUDITOR)

    assert [(item["account"], item["role"]) for item in listed] == [
        ("mary", "maintainer"),
        ("olga", "admin"),
        ("rita", "reader"),
        ("will", "writer"),
    ]


@pytest.mark.parametrize("role", ["owner", "", "READER", 1, None])
async def test_only_the_four_roles_can_be_given(installation: Installation, role: object) -> None:
    """Anything else is a wrong field."""
    refused = await installation.call("PUT", f"{ON_PROJECT}/{STRANGER}", {"role": role})

    assert (refused.status, refused.fields) == (400, ["role"])


async def test_an_unknown_account_is_a_wrong_field(installation: Installation) -> None:
    """To those who may give roles; taking one that is not there is 404."""
    unknown = await installation.call("PUT", f"{ON_PROJECT}/noone", {"role": "reader"}, auth="olga")
    none = await installation.call("DELETE", f"{ON_PROJECT}/{STRANGER}", auth="olga")

    assert (unknown.status, unknown.fields) == (400, ["account"])
    assert none.status == 404


async def test_a_role_of_the_project_is_not_taken_at_the_repository(installation: Installation) -> None:
    """Each place has its own list (security row A21)."""
    assert (await installation.call("DELETE", f"{ON_REPOSITORY}/rita", auth=ADMIN)).status == 404
    assert (await installation.call("GET", f"/api/v1/repos/{REPOSITORY}", auth="rita")).status == 200
