"""The audit: one event for each act that changes state or tried to, and nothing secret or forged in it."""

from structlog.testing import capture_logs

from tests.gateway.api.installation import ADMIN, PASSWORD, STRANGER, Installation


async def test_each_change_is_one_event(installation: Installation) -> None:
    """Who, what, on what, from where, with which outcome; fields by name, never their values (security row A28)."""
    with capture_logs() as logs:
        reply = await installation.call(
            "POST", "/api/v1/users", {"name": "ada", "password": PASSWORD + "!"}, headers={"User-Agent": "curl/8"}
        )

    (event,) = [each for each in logs if each["event"] == "audit"]
    event.pop("ip")
    assert event == {
        "event": "audit",
        "module": "gateway.api.audit",
        "log_level": "info",
        "act": "user.create",
        "object": "ada",
        "outcome": "ok",
        "account": ADMIN,
        "account_id": 1,
        "credential_id": None,
        "user_agent": "curl/8",
        "request_id": reply.headers["x-request-id"],
        "fields": ["name", "password"],
    }


async def test_nobody_forges_a_line_of_the_log(installation: Installation) -> None:
    """Line breaks and escapes in paths and headers arrive as question marks, and not without end."""
    with capture_logs() as logs:
        await installation.call(
            "DELETE", f"/api/v1/users/a%7faudit%1b[2J{'x' * 1000}", auth=None, headers={"User-Agent": "a\x1b[2Jb"}
        )

    (event,) = logs
    assert event["object"].startswith("a?audit?[2Jxxx")
    assert len(event["object"]) == 300
    assert event["user_agent"] == "a?[2Jb"


async def test_refused_changes_are_events_too(installation: Installation) -> None:
    """With the code of the refusal; reading is not in the audit."""
    with capture_logs() as logs:
        await installation.call("DELETE", "/api/v1/repos/hidden/images", auth=STRANGER)
        await installation.call("DELETE", "/api/v1/repos/hidden/images", auth=None)
        await installation.call("POST", "/api/v1/projects", {"name": "team"})
        await installation.call("GET", "/api/v1/repos")

    events = [(each["account"], each["object"], each["outcome"]) for each in logs if each["event"] == "audit"]
    assert events == [
        (STRANGER, "hidden/images", "NOT_FOUND"),
        ("", "hidden/images", "UNAUTHORIZED"),
        (ADMIN, "", "CONFLICT"),
    ]
