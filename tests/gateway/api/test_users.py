"""Users over REST: made by admins; a user changes its own password by knowing it."""

import pytest

from tests.gateway.api.installation import ADMIN, AUDITOR, PASSWORD, STRANGER, Installation

PATH = "/api/v1/users"


async def test_a_new_user_can_log_in(installation: Installation) -> None:
    """With the password of the body, and as nothing more than what the body says."""
    body = {"name": "ada@example.org", "password": "lovelace-1815", "description": "first", "is_auditor": True}

    made = await installation.call("POST", PATH, body)
    itself = await installation.call("GET", made.headers["location"], auth=("ada@example.org", "lovelace-1815"))

    assert made.status == 201
    assert itself.value == made.value
    assert (made.value["is_admin"], made.value["is_auditor"], made.value["is_enabled"]) == (False, True, True)


async def test_a_name_can_be_percent_encoded(installation: Installation) -> None:
    """Clients differ in what they escape."""
    await installation.call("POST", PATH, {"name": "ada@example.org"})

    plain = await installation.call("GET", f"{PATH}/ada@example.org")
    escaped = await installation.call("GET", f"{PATH}/ada%40example.org")

    assert (plain.status, escaped.body) == (200, plain.body)


@pytest.mark.parametrize(
    ("password", "status"), [("short", 400), ("x" * 1025, 400), ("sluice_pat_looks-like-one", 400), ("eight-ch", 201)]
)
async def test_a_password_that_is_no_good_is_refused(installation: Installation, password: str, status: int) -> None:
    """Too short, too long, or one that would be taken for a token; and it is not in the answer."""
    made = await installation.call("POST", PATH, {"name": "ada", "password": password})

    assert made.status == status
    assert password.encode() not in made.body


async def test_flags_are_for_admins(installation: Installation) -> None:
    """Nobody raises itself, by whichever field (security row A22)."""
    for field in ("is_admin", "is_auditor", "is_enabled"):
        refused = await installation.call("PATCH", f"{PATH}/rita", {field: True}, auth="rita")
        assert (refused.status, refused.fields) == (403, [field])
    for field in ("admin", "roles", "id", "quota", "kind", "epoch", "password_hash", "name"):
        unknown = await installation.call("PATCH", f"{PATH}/rita", {field: "x"}, auth="rita")
        assert (unknown.status, unknown.fields) == (400, [field])


async def test_ones_own_password_takes_the_old_one(installation: Installation) -> None:
    """A stolen token does not take the account over; a token in place of the password is not enough either."""
    token = await installation.personal_token("rita")
    new = {"password": "another-password"}

    without = await installation.call("PATCH", f"{PATH}/rita", new, auth=token)
    wrong = await installation.call("PATCH", f"{PATH}/rita", {**new, "current_password": "wrong-wrong"}, auth=token)
    by_token = await installation.call("PATCH", f"{PATH}/rita", {**new, "current_password": token[1]}, auth=token)
    right = await installation.call("PATCH", f"{PATH}/rita", {**new, "current_password": PASSWORD}, auth=token)

    assert [(each.status, each.fields) for each in (without, wrong, by_token)] == [(400, ["current_password"])] * 3
    assert right.status == 200
    assert (await installation.call("GET", f"{PATH}/rita", auth="rita")).status == 401
    assert (await installation.call("GET", f"{PATH}/rita", auth=("rita", "another-password"))).status == 200


async def test_an_admin_sets_another_password(installation: Installation) -> None:
    """Without knowing the old one."""
    changed = await installation.call("PATCH", f"{PATH}/rita", {"password": "another-password"})

    assert changed.status == 200
    assert (await installation.call("GET", f"{PATH}/rita", auth=("rita", "another-password"))).status == 200


async def test_a_disabled_user_is_out_at_once(installation: Installation) -> None:
    """Password and token alike, until it is enabled again (security row A17)."""
    token = await installation.personal_token("rita")

    await installation.call("PATCH", f"{PATH}/rita", {"is_enabled": False})
    out = [(await installation.call("GET", f"{PATH}/rita", auth=auth)).status for auth in ("rita", token)]
    await installation.call("PATCH", f"{PATH}/rita", {"is_enabled": True})
    back = [(await installation.call("GET", f"{PATH}/rita", auth=auth)).status for auth in ("rita", token)]

    assert (out, back) == ([401, 401], [200, 200])


async def test_the_last_admin_stays(installation: Installation) -> None:
    """Deleting, disabling or lowering it is a conflict; with a second one it can go."""
    changes = [{"is_enabled": False}, {"is_admin": False}]
    refused = [(await installation.call("PATCH", f"{PATH}/admin", change)).status for change in changes]
    refused.append((await installation.call("DELETE", f"{PATH}/admin")).status)
    await installation.call("PATCH", f"{PATH}/olga", {"is_admin": True})

    assert refused == [409, 409, 409]
    assert (await installation.call("DELETE", f"{PATH}/admin", auth="olga")).status == 204


async def test_expiry_lies_ahead_and_is_shown_in_utc(installation: Installation) -> None:
    """Any zone is understood; a time that is over or has no zone is a wrong field; null takes it away."""
    path = f"{PATH}/rita"
    future = await installation.call("PATCH", path, {"expires_at": "2126-01-01T01:30:00+01:00"})
    past = await installation.call("PATCH", path, {"expires_at": "2001-01-01T00:00:00Z"})
    naive = await installation.call("PATCH", path, {"expires_at": "2126-01-01T00:00:00"})
    never = await installation.call("PATCH", path, {"expires_at": None})

    assert future.value["expires_at"] == "2126-01-01T00:30:00Z"
    assert [(each.status, each.fields) for each in (past, naive)] == [(400, ["expires_at"])] * 2
    assert never.value["expires_at"] is None


async def test_a_list_of_users_has_no_robots_and_comes_in_pages(installation: Installation) -> None:
    """Auditors read it all, by name."""
    await installation.services.accounts.create_robot("ci")

    users = await installation.pages(PATH, limit=3, auth=AUDITOR)

    assert [user["name"] for user in users] == [ADMIN, "mary", "olga", "rita", STRANGER, AUDITOR, "will"]


async def test_a_robot_is_no_user(installation: Installation) -> None:
    """Its name finds nothing here, and it cannot be made here."""
    await installation.services.accounts.create_robot("ci")

    assert (await installation.call("GET", f"{PATH}/sa$ci")).status == 404
    assert (await installation.call("DELETE", f"{PATH}/sa$ci")).status == 404
    assert (await installation.call("POST", PATH, {"name": "sa$new"})).status == 400
