"""Personal tokens over REST: shown once, never more than their owner, nobody else's business."""

from typing import Any

import pytest

from gateway.access.actions import Action
from tests.gateway.api.installation import ADMIN, AUDITOR, REPOSITORY, STRANGER, Installation

PATH = "/api/v1/tokens"


async def test_a_new_token_works_in_place_of_the_password(installation: Installation) -> None:
    """With any user name, as Basic and as Bearer."""
    made = await installation.call("POST", PATH, {"label": "laptop"}, auth="rita")
    secret = made.value["secret"]

    by_basic = await installation.call("GET", "/api/v1/users/rita", auth=("whoever", secret))
    by_bearer = await installation.call(
        "GET", "/api/v1/users/rita", auth=None, headers={"Authorization": f"Bearer {secret}"}
    )

    assert made.status == 201
    assert (by_basic.status, by_bearer.status) == (200, 200)


async def test_a_secret_is_shown_once(installation: Installation) -> None:
    """It is in the answer that makes it and in no other, whoever asks (security row A28)."""
    made = await installation.call("POST", PATH, {"label": "laptop"}, auth="rita")
    secret = made.value["secret"]

    lists = [
        await installation.call("GET", PATH, auth="rita"),
        await installation.call("GET", f"{PATH}?account=rita", auth=ADMIN),
        await installation.call("GET", f"{PATH}?account=rita", auth=AUDITOR),
    ]

    for listed in lists:
        assert [item["label"] for item in listed.value["items"]] == ["laptop"]
        assert "secret" not in listed.value["items"][0]
        assert secret.encode() not in listed.body


async def test_what_narrows_a_token_is_shown(installation: Installation) -> None:
    """Acts and places by name, null where nothing is narrowed."""
    body: dict[str, Any] = {"label": "narrow", "actions": ["push", "pull"], "repositories": [REPOSITORY]}

    made = await installation.call("POST", PATH, {**body, "projects": ["team"], "lifetime_s": 3600}, auth="rita")

    assert (made.value["actions"], made.value["repositories"], made.value["projects"]) == (
        ["pull", "push"],
        [REPOSITORY],
        ["team"],
    )
    assert made.value["last_used_at"] is None


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"actions": []}, ["actions"]),
        ({"actions": ["fly"]}, ["actions.0"]),
        ({"repositories": ["team"]}, ["repositories.0"]),
        ({"repositories": []}, ["repositories"]),
        ({"repositories": ["team/public", "hidden/images", "nothing/x"]}, ["repositories.1", "repositories.2"]),
        ({"projects": ["hidden", "nothing"]}, ["projects.0", "projects.1"]),
        ({"lifetime_s": 0}, ["lifetime_s"]),
        ({"lifetime_s": 10**12}, ["lifetime_s"]),
        ({"label": "x" * 129}, ["label"]),
        ({"label": "a\nb"}, ["label"]),
        ({"account": "admin"}, ["account"]),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(
    installation: Installation, change: dict[str, Any], fields: list[str]
) -> None:
    """Places that the caller cannot see are as unknown as those that do not exist."""
    refused = await installation.call("POST", PATH, {"label": "x", **change}, auth="rita")

    assert (refused.status, refused.fields) == (400, fields)


@pytest.mark.parametrize("actions", [(Action.PULL,), (Action.PULL, Action.PUSH), tuple(Action)])
async def test_a_narrowed_token_makes_no_token(installation: Installation, actions: tuple[Action, ...]) -> None:
    """What is limited cannot be exchanged for something that is not, nor end other tokens (security row A5)."""
    narrow = await installation.personal_token(ADMIN, *actions)

    assert (await installation.call("POST", PATH, {"label": "more"}, auth=narrow)).status == 403
    assert (await installation.call("GET", PATH, auth=narrow)).status == 403
    assert (await installation.call("DELETE", f"{PATH}/1", auth=narrow)).status == 403


async def test_a_token_made_by_a_token_ends_with_it(installation: Installation) -> None:
    """So a stolen token leaves nothing behind once it is revoked."""
    first = await installation.call("POST", PATH, {"label": "first"}, auth="rita")
    second = await installation.call("POST", PATH, {"label": "second"}, auth=("rita", first.value["secret"]))
    auth = ("rita", second.value["secret"])

    before = await installation.call("GET", "/api/v1/users/rita", auth=auth)
    await installation.call("DELETE", f"{PATH}/{first.value['id']}", auth="rita")
    after = await installation.call("GET", "/api/v1/users/rita", auth=auth)

    assert (before.status, after.status) == (200, 401)


async def test_others_tokens_are_out_of_reach(installation: Installation) -> None:
    """Another user's id is the id of nothing (security row A21); an admin may end it."""
    made = await installation.call("POST", PATH, {"label": "mine"}, auth="rita")
    path = f"{PATH}/{made.value['id']}"

    assert (await installation.call("DELETE", path, auth=STRANGER)).status == 404
    assert (await installation.call("DELETE", path, auth=AUDITOR)).status == 404
    assert (await installation.call("DELETE", path, auth=ADMIN)).status == 204


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "x", "9" * 400, "\N{SUPERSCRIPT TWO}", "1%20", ""])
async def test_what_is_no_id_is_the_id_of_nothing(installation: Installation, number: str) -> None:
    """Whatever stands in the path, the answer is 404."""
    assert (
        await installation.call("DELETE", f"{PATH}/{number.encode('ascii', 'ignore').decode() or '%c2%b2'}")
    ).status == 404


async def test_lists_come_in_pages(installation: Installation) -> None:
    """Oldest first; a cursor that is none of ours is a wrong field."""
    for label in "abcde":
        await installation.call("POST", PATH, {"label": label}, auth="rita")

    tokens = await installation.pages(PATH, limit=2, auth="rita")
    wrong = await installation.call("GET", f"{PATH}?after=x", auth="rita")

    assert [token["label"] for token in tokens] == list("abcde")
    assert (wrong.status, wrong.fields) == (400, ["after"])
