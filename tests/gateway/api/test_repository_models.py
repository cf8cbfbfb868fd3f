"""Virtual repositories and addresses over REST, and what is told of them to whom."""

from typing import Any

import pytest

from tests.gateway.api.installation import AUDITOR, SECRET, Installation

PATH = "/api/v1/repos"
VIRTUAL: dict[str, Any] = {"project": "team", "name": "all", "repository_type": "virtual"}


def _member(repository: str, **more: Any) -> dict[str, Any]:
    return {"repository": repository, "include": [], "exclude": [], "default": False, **more}


async def test_a_virtual_repository_has_members_in_order(installation: Installation) -> None:
    """With their patterns, the one that pushes go to, and what a failing member does."""
    members = [_member("team/public", include=["base/*"]), _member("team/images", exclude=["old/*"], default=True)]

    made = await installation.call("POST", PATH, {**VIRTUAL, "members": members, "on_member_failure": "skip"})
    turned = await installation.call("PATCH", f"{PATH}/team/all", {"members": members[::-1]})

    assert (made.status, made.value["members"], made.value["on_member_failure"]) == (201, members, "skip")
    assert (turned.value["members"], turned.value["on_member_failure"]) == (members[::-1], "skip")


async def test_members_that_a_caller_cannot_see_are_not_named_to_them(installation: Installation) -> None:
    """Neither by the answer nor by what is refused; who maintains the repository and auditors see all."""
    await installation.call("POST", PATH, {**VIRTUAL, "members": [_member(SECRET), _member("team/images")]})
    names = {}
    for caller in ("rita", "mary", AUDITOR):
        found = await installation.call("GET", f"{PATH}/team/all", auth=caller)
        names[caller] = [each["repository"] for each in found.value["members"]]
    kept = await installation.call(
        "PATCH", f"{PATH}/team/all", {"members": [_member("team/images"), _member(SECRET)]}, auth="mary"
    )
    await installation.call("PATCH", f"{PATH}/team/all", {"members": []})
    hidden = await installation.call("PATCH", f"{PATH}/team/all", {"members": [_member(SECRET)]}, auth="mary")
    missing = await installation.call("PATCH", f"{PATH}/team/all", {"members": [_member("no/such")]}, auth="mary")

    assert names == {"rita": ["team/images"], "mary": [SECRET, "team/images"], AUDITOR: [SECRET, "team/images"]}
    assert kept.status == 200  # what is a member already, whoever maintains the repository may put elsewhere
    assert (hidden.status, hidden.fields) == (400, ["members.0.repository"])
    assert hidden.body == missing.body


@pytest.mark.parametrize(
    ("members", "status", "field"),
    [
        ([_member("team/images"), _member("team/images")], 400, "members.1.repository"),
        ([_member("team/images", default=True), _member("team/public", default=True)], 400, "members"),
        ([_member("team/hub", default=True)], 400, "members.0.default"),
        ([_member("team/all")], 409, ""),
        ([_member("images")], 400, "members.0.repository"),
        ([_member("team/images", include=["A"])], 400, "members.0.include.0"),
    ],
)
async def test_members_that_cannot_be_are_refused(
    installation: Installation, members: list[dict[str, Any]], status: int, field: str
) -> None:
    """Twice the same, two that pushes go to, a push to a proxy, and a repository inside itself."""
    proxy = {"project": "team", "name": "hub", "repository_type": "proxy", "remote_url": "docker.io"}
    await installation.call("POST", PATH, proxy)
    await installation.call("POST", PATH, VIRTUAL)

    refused = await installation.call("PATCH", f"{PATH}/team/all", {"members": members})

    assert (refused.status, refused.fields) == (status, [field])
    assert (await installation.call("GET", f"{PATH}/team/all")).value["members"] == []


async def test_addresses_are_given_taken_and_had_once(installation: Installation) -> None:
    """Hosts in small letters with their port, namespaces of containerd; the holder is named to who wants one too."""
    wanted = {
        "host_names": ["Images.example.com"],
        "catch_all_hosts": ["all.example.com:8443"],
        "namespaces": ["docker.io"],
    }

    given = await installation.call("PATCH", f"{PATH}/team/images", wanted)
    other = await installation.call("PATCH", f"{PATH}/team/public", {"namespaces": ["docker.io"]})
    taken = await installation.call("PATCH", f"{PATH}/team/images", {"namespaces": None, "host_names": []})

    assert given.value["host_names"] == ["images.example.com"]
    assert (given.value["catch_all_hosts"], given.value["namespaces"]) == (["all.example.com:8443"], ["docker.io"])
    assert (other.status, other.codes) == (409, {"CONFLICT"})
    assert "team/images" in other.value["errors"][0]["message"]
    assert (taken.value["host_names"], taken.value["catch_all_hosts"], taken.value["namespaces"]) == (
        [],
        ["all.example.com:8443"],
        [],
    )


async def test_a_member_cannot_be_deleted(installation: Installation) -> None:
    """Names would silently come from the next member; the answer says which repository it is in."""
    await installation.call("POST", PATH, {**VIRTUAL, "members": [_member("team/images")]})

    refused = await installation.call("DELETE", f"{PATH}/team/images")

    assert (refused.status, refused.codes) == (409, {"CONFLICT"})
    assert "team/all" in refused.value["errors"][0]["message"]
