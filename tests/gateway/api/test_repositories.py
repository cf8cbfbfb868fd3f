"""Repositories over REST: made by maintainers of their project, listed to whoever can read them."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.access.actions import Role
from storage.metadata import accounts
from tests.gateway.api.installation import ADMIN, AUDITOR, PUBLIC, REPOSITORY, SECRET, STRANGER, Installation

PATH = "/api/v1/repos"


async def test_a_new_repository_has_what_was_asked_for(installation: Installation) -> None:
    """Every field of the body comes back, and the address of the new object with it."""
    body = {
        "project": "team",
        "name": "releases",
        "format": "docker",
        "repository_type": "hosted",
        "description": "what we ship",
        "storage": "default",
        "flat_alias_prefix": "ship/it",
        "is_catch_all": False,
        "anonymous_read": True,
        "immutable_tags": ["v*"],
    }

    made = await installation.call("POST", PATH, body)
    found = await installation.call("GET", f"{PATH}/team/releases")

    assert (made.status, made.headers["location"]) == (201, f"{PATH}/team/releases")
    assert {key: made.value[key] for key in body} == body
    assert found.value == made.value


async def test_project_and_name_are_enough(installation: Installation) -> None:
    """Everything else has a default: private, in the default storage, no rule, no alias."""
    made = await installation.call("POST", PATH, {"project": "team", "name": "plain"})

    assert made.value["storage"] == "default"
    assert made.value["immutable_tags"] == []
    assert (made.value["anonymous_read"], made.value["is_catch_all"], made.value["flat_alias_prefix"]) == (
        False,
        False,
        None,
    )


async def test_every_wrong_field_is_named_at_once(installation: Installation) -> None:
    """One answer says all that is wrong, unknown fields included (security row A22)."""
    body = {
        "project": "Team",
        "name": "a/b",
        "format": "maven",
        "repository_type": "mirror",
        "description": "x" * 1001,
        "flat_alias_prefix": "a//b",
        "is_catch_all": "yes",
        "anonymous_read": 1,
        "immutable_tags": ["v*", "no spaces", 3],
        "id": 7,
        "admin": True,
    }

    refused = await installation.call("POST", PATH, body)

    assert (refused.status, refused.codes) == (400, {"VALIDATION"})
    assert sorted(refused.fields) == sorted([*(set(body) - {"immutable_tags"}), "immutable_tags.1", "immutable_tags.2"])
    assert all(error["message"] for error in refused.value["errors"])


async def test_a_hundred_rules_are_the_most(installation: Installation) -> None:
    """Rules are looked through at every push, so their number and length have bounds."""
    body: dict[str, Any] = {"project": "team", "name": "ruled", "immutable_tags": ["x" * 129]}

    long = await installation.call("POST", PATH, body)
    many = await installation.call("POST", PATH, {**body, "immutable_tags": ["x"] * 101})
    most = await installation.call("POST", PATH, {**body, "immutable_tags": ["x" * 128] * 100})

    assert (long.status, long.fields) == (400, ["immutable_tags.0"])
    assert (many.status, many.fields) == (400, ["immutable_tags"])
    assert most.status == 201


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "images"}, "repository team/images exists already"),
        ({"flat_alias_prefix": "taken"}, "flat alias prefix taken belongs to repository team/public"),
        ({"is_catch_all": True}, "repository common/docker-hosted is the catch-all already; there can be one"),
    ],
)
async def test_what_is_taken_is_a_conflict(installation: Installation, change: dict[str, Any], message: str) -> None:
    """Name, alias prefix and the place of the catch-all can be had once; the answer says who has it."""
    await installation.call("PATCH", f"{PATH}/{PUBLIC}", {"flat_alias_prefix": "taken"})

    refused = await installation.call("POST", PATH, {"project": "team", "name": "new", **change})

    assert (refused.status, refused.codes) == (409, {"CONFLICT"})
    assert refused.value["errors"][0]["message"] == message


async def test_an_unknown_storage_is_a_wrong_field(installation: Installation) -> None:
    """The answer names the storages that there are."""
    refused = await installation.call("POST", PATH, {"project": "team", "name": "new", "storage": "moon"})

    assert (refused.status, refused.fields) == (400, ["storage"])
    assert refused.value["errors"][0]["message"] == "is not configured; known: default"


async def test_redirects_are_for_buckets(installation: Installation) -> None:
    """Nobody but the gateway can read a directory, so making or changing a repository there says so."""
    made = await installation.call("POST", PATH, {"project": "team", "name": "new", "redirect_pulls": True})
    changed = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {"redirect_pulls": True})
    left = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {"redirect_pulls": False})

    assert (made.status, made.fields) == (changed.status, changed.fields) == (400, ["redirect_pulls"])
    assert "the storage default is none" in made.value["errors"][0]["message"]
    assert left.value["redirect_pulls"] is False


async def test_a_project_that_one_may_not_see_does_not_exist(installation: Installation) -> None:
    """Making a repository in it and in one that is not there gives the same answer."""
    hidden = await installation.call("POST", PATH, {"project": "hidden", "name": "x"}, auth=STRANGER)
    missing = await installation.call("POST", PATH, {"project": "nothing", "name": "x"}, auth=STRANGER)

    assert (hidden.status, hidden.fields) == (400, ["project"])
    assert hidden.body == missing.body


@pytest.mark.parametrize(
    ("user", "status"), [(ADMIN, 201), ("olga", 201), ("mary", 201), ("will", 403), ("rita", 403), (AUDITOR, 403)]
)
async def test_maintainers_of_the_project_make_repositories(installation: Installation, user: str, status: int) -> None:
    """Pushing is not enough, and seeing everything is not either."""
    assert (await installation.call("POST", PATH, {"project": "team", "name": "new"}, auth=user)).status == status


@pytest.mark.parametrize("field", ["flat_alias_prefix", "is_catch_all"])
async def test_only_admins_lead_other_names_here(installation: Installation, field: str) -> None:
    """A project's admin must not draw names to itself that lead elsewhere now; repeating what is there is fine."""
    value = {"flat_alias_prefix": "library", "is_catch_all": True}[field]
    same = {"flat_alias_prefix": None, "is_catch_all": False}[field]

    made = await installation.call("POST", PATH, {"project": "team", "name": "new", field: value}, auth="olga")
    changed = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {field: value}, auth="olga")
    repeated = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {field: same}, auth="olga")

    assert (made.status, made.fields) == (403, [field])
    assert (changed.status, changed.fields) == (403, [field])
    assert repeated.status == 200


async def test_a_change_leaves_out_what_it_does_not_name(installation: Installation) -> None:
    """PATCH changes the given fields and no others; null takes the prefix away."""
    path = f"{PATH}/{REPOSITORY}"
    await installation.call("PATCH", path, {"immutable_tags": ["v*"], "flat_alias_prefix": "a/b"})

    changed = await installation.call("PATCH", path, {"description": "new", "flat_alias_prefix": None})

    assert changed.status == 200
    assert (changed.value["description"], changed.value["flat_alias_prefix"]) == ("new", None)
    assert changed.value["immutable_tags"] == ["v*"]


@pytest.mark.parametrize("field", ["name", "project", "storage", "format", "repository_type", "id"])
async def test_what_stays_for_good_cannot_be_changed(installation: Installation, field: str) -> None:
    """A field that PATCH does not know is an error, never ignored."""
    refused = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {field: "x"})

    assert (refused.status, refused.fields) == (400, [field])


async def test_a_deleted_repository_is_gone_with_everything(installation: Installation) -> None:
    """Its row goes at once, and another of the same name is another repository."""
    before = await installation.repository(REPOSITORY)

    deleted = await installation.call("DELETE", f"{PATH}/{REPOSITORY}")
    again = await installation.call("DELETE", f"{PATH}/{REPOSITORY}")
    await installation.call("POST", PATH, {"project": "team", "name": "images"})
    after = await installation.repository(REPOSITORY)

    assert (deleted.status, deleted.body, again.status) == (204, b"", 404)
    assert before is not None
    assert after is not None
    assert after.id != before.id


async def _view(installation: Installation, project: str, *wanted: dict[str, Any], name: str = "view") -> None:
    """A virtual repository, made by an admin."""
    body = {"project": project, "name": name, "repository_type": "virtual", "members": wanted}
    assert (await installation.call("POST", PATH, body)).status == 201


async def test_a_member_stays_while_who_deletes_may_take_it_out(installation: Installation) -> None:
    """Without it names there would come from another member: in views of the own project, and of who configures."""
    await _view(installation, "team", {"repository": REPOSITORY})
    await _view(installation, "hidden", {"repository": REPOSITORY})
    view = await installation.repository("hidden/view")
    boss = await installation.services.database.read(accounts.find, "olga")
    assert view is not None
    assert boss is not None
    await installation.services.accounts.put_grant(boss.id, Role.MAINTAINER, repository_id=view.id)

    refused = [await installation.call("DELETE", f"{PATH}/{REPOSITORY}", auth=each) for each in (ADMIN, "olga", "mary")]

    assert [each.status for each in refused] == [409] * 3
    assert [(b"team/view" in each.body, b"hidden/view" in each.body) for each in refused] == [
        (True, True),
        (True, True),
        (True, False),
    ]
    assert await installation.repository(REPOSITORY) is not None


async def test_views_of_others_hold_no_owner_up(installation: Installation) -> None:
    """They lose the member, the audit says so of each, and whoever deletes hears of none; no other is the default."""
    await _view(installation, "hidden", {"repository": PUBLIC}, {"repository": REPOSITORY, "default": True})
    await _view(installation, "hidden", {"repository": REPOSITORY}, {"repository": SECRET}, name="other")

    with capture_logs() as logs:
        deleted = await installation.call("DELETE", f"{PATH}/{REPOSITORY}", auth="mary")
    left = [(await installation.call("GET", f"{PATH}/hidden/{name}")).value for name in ("view", "other")]
    push = await installation.call("POST", "/v2/hidden/view/app/blobs/uploads/")

    assert (deleted.status, deleted.body) == (204, b"")
    assert not any("hidden" in value for value in deleted.headers.values())
    assert await installation.repository(REPOSITORY) is None
    assert [[(each["repository"], each["default"]) for each in view["members"]] for view in left] == [
        [(PUBLIC, False)],
        [(SECRET, False)],
    ]
    assert push.status == 405
    told = [(each["act"], each["object"], each["account"]) for each in logs if each["event"] == "audit"]
    assert told == [
        ("repository.lose_member", f"hidden/other without {REPOSITORY}", "mary"),
        ("repository.lose_member", f"hidden/view without {REPOSITORY}", "mary"),
        ("repository.delete", REPOSITORY, "mary"),
    ]


async def test_a_refused_deletion_takes_it_out_of_no_view(installation: Installation) -> None:
    """Neither of the own one nor of that of somebody else, which stays unnamed."""
    await _view(installation, "team", {"repository": REPOSITORY})
    await _view(installation, "hidden", {"repository": REPOSITORY})

    refused = await installation.call("DELETE", f"{PATH}/{REPOSITORY}", auth="mary")
    left = [(await installation.call("GET", f"{PATH}/{project}/view")).value for project in ("team", "hidden")]

    assert (refused.status, b"hidden" in refused.body) == (409, False)
    assert [[each["repository"] for each in view["members"]] for view in left] == [[REPOSITORY]] * 2


async def test_maintaining_one_repository_does_not_remove_it(installation: Installation) -> None:
    """Repositories are made and removed by maintainers of the project; one repository's maintainer sets it up."""
    api = installation.services.accounts
    account = await installation.services.database.read(accounts.find, STRANGER)
    repository = await installation.repository(REPOSITORY)
    assert account is not None
    assert repository is not None
    await api.put_grant(account.id, Role.MAINTAINER, repository_id=repository.id)

    changed = await installation.call("PATCH", f"{PATH}/{REPOSITORY}", {"description": "mine"}, auth=STRANGER)
    deleted = await installation.call("DELETE", f"{PATH}/{REPOSITORY}", auth=STRANGER)

    assert (changed.status, deleted.status) == (200, 403)


@pytest.mark.parametrize(
    ("user", "names"),
    [
        (ADMIN, ["common/docker-hosted", SECRET, REPOSITORY, PUBLIC]),
        (AUDITOR, ["common/docker-hosted", SECRET, REPOSITORY, PUBLIC]),
        ("rita", [REPOSITORY, PUBLIC]),
        (STRANGER, [PUBLIC]),
    ],
)
async def test_a_list_holds_what_the_caller_can_read(installation: Installation, user: str, names: list[str]) -> None:
    """Nothing else, in pages of any size, and no cursor or count tells of more (security row A20)."""
    whole = await installation.call("GET", PATH, auth=user)
    in_pages = await installation.pages(PATH, limit=1, auth=user)

    assert [f"{item['project']}/{item['name']}" for item in whole.value["items"]] == names
    assert whole.value["next"] is None
    assert in_pages == whole.value["items"]


async def test_a_list_can_be_of_one_project(installation: Installation) -> None:
    """`project` narrows it; a project that is hidden looks like an empty one."""
    mine = await installation.call("GET", f"{PATH}?project=team", auth="rita")
    hidden = await installation.call("GET", f"{PATH}?project=hidden", auth="rita")
    missing = await installation.call("GET", f"{PATH}?project=nothing", auth="rita")

    assert [item["name"] for item in mine.value["items"]] == ["images", "public"]
    assert (hidden.status, hidden.body) == (missing.status, missing.body)
