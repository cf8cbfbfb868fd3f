"""The way in: paths, methods, media types, sizes and parameters are refused in JSON before any handler runs."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.api.dispatch import MAX_BODY_BYTES, find
from gateway.api.errors import Refused
from storage import Unavailable
from tests.gateway.api.installation import ADMIN, REPOSITORY, STRANGER, Installation

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/api/v1/users/ada", {"user": "ada"}),
        (b"/api/v1/users/ada%40example.org", {"user": "ada@example.org"}),
        (b"/api/v1/users/ada%2540example.org", {"user": "ada%40example.org"}),
        (b"/api/v1/users/a%2fb", {"user": "a/b"}),
        (b"/api/v1/repos/team/images", {"project": "team", "repository": "images"}),
        (b"/api/v1/robots/sa$ci/keys/7", {"robot": "sa$ci", "key": "7"}),
        (b"/api/v1/users/", {"user": ""}),
    ],
)
def test_a_path_is_split_and_then_decoded_once(raw_path: bytes, path: Mapping[str, str]) -> None:
    """An escaped slash cannot move the borders between segments (security row A19)."""
    assert find(raw_path, "GET" if b"keys" not in raw_path else "DELETE")[1] == path


@pytest.mark.parametrize(
    "raw_path",
    [
        b"/api",
        b"/api/",
        b"/api/v1",
        b"/api/v2/repos",
        b"/api//v1/repos",
        b"/api/v1/repos/",
        b"/api/v1/repos/a/b/c",
        b"/api/v1/repos/a%2fb",
        b"/API/v1/repos",
        b"/api/v1/./repos",
        b"/api/v1/users/%ff",
        b"/healthy",
        b"/health/",
    ],
)
def test_a_path_that_is_not_in_the_table_is_404(raw_path: bytes) -> None:
    """Nothing is guessed, merged or redirected (security row A24)."""
    with pytest.raises(Refused) as refused:
        find(raw_path, "GET")
    assert refused.value.status == 404


@given(st.binary(max_size=40), st.sampled_from(["GET", "POST", "DELETE", "TRACE", ""]))
@example(b"/api/v1/users/%", "GET")
def test_any_path_has_a_route_or_a_refusal(raw_path: bytes, method: str) -> None:
    """No bytes make the search fail in another way."""
    try:
        route, path = find(b"/api/v1/" + raw_path, method)
    except Refused as refused:
        status = refused.status
    else:
        status = 200 if set(path) == set(route.parameters) else 0
    assert status in {200, 404, 405}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_a_method_that_is_not_in_the_table_is_405(method: str) -> None:
    """The answer says which there are (security row A25)."""
    with pytest.raises(Refused) as refused:
        find(b"/api/v1/repos", method)
    assert (refused.value.status, refused.value.headers) == (405, {"Allow": "GET, POST, HEAD"})


async def test_head_is_get_without_a_body(installation: Installation) -> None:
    """Wherever there is a GET; what GET refuses, HEAD refuses."""
    there = await installation.call("HEAD", f"/api/v1/repos/{REPOSITORY}")
    missing = await installation.call("HEAD", "/api/v1/repos/team/nothing")
    only_delete = await installation.call("HEAD", "/api/v1/tokens/1")

    assert (there.status, there.body) == (200, b"")
    assert (missing.status, missing.body, only_delete.status) == (404, b"", 405)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe{\x00}\x00",
        b'{"name": "\\ud800"}',
        b'{"name": NaN}',
        b"[" * 30_000,
        b'{"a":' * 10_000,
    ],
)
async def test_a_body_that_is_no_object_is_refused_in_json(installation: Installation, body: bytes) -> None:
    """Malformed, nested and foreign bodies are the caller's mistake, never ours."""
    refused = await installation.call("POST", "/api/v1/projects", body=body, headers=JSON)

    assert (refused.status, refused.codes) == (400, {"VALIDATION"})
    assert refused.headers["content-type"] == "application/json"


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_only_json_is_read(installation: Installation, media_type: str) -> None:
    """What a form of another site can send without asking is never taken as a command."""
    body = json.dumps({"name": "new"}).encode()

    refused = await installation.call("POST", "/api/v1/projects", body=body, headers={"Content-Type": media_type})

    assert (refused.status, refused.codes) == (415, {"UNSUPPORTED_TYPE"})


async def test_a_body_has_64_kib_at_most(installation: Installation) -> None:
    """One byte more is 413; as many as allowed are looked at."""
    head, tail = b'{"name":"new","description":"', b'"}'
    most = head + b"x" * (MAX_BODY_BYTES - len(head) - len(tail)) + tail

    fits = await installation.call("POST", "/api/v1/projects", body=most, headers=JSON)
    over = await installation.call("POST", "/api/v1/projects", body=most + b" ", headers=JSON)

    assert (fits.status, fits.fields) == (400, ["description"])
    assert (over.status, over.codes) == (413, {"TOO_LARGE"})


async def test_a_flood_of_unknown_fields_is_answered_briefly(installation: Installation) -> None:
    """Fifty of them are named, the rest are counted."""
    refused = await installation.call("POST", "/api/v1/projects", {f"x{n}": 1 for n in range(5000)})

    assert (refused.status, len(refused.value["errors"])) == (400, 51)
    assert refused.value["errors"][-1]["message"] == "and 4951 more mistakes"


async def test_a_stranger_is_refused_before_the_body_is_read(installation: Installation) -> None:
    """Who may not act learns nothing about bodies."""
    anonymous = await installation.call("POST", "/api/v1/projects", body=b"{", headers=JSON, auth=None)
    stranger = await installation.call("POST", "/api/v1/projects", body=b"{", headers=JSON, auth=STRANGER)
    hidden = await installation.call("PATCH", "/api/v1/repos/hidden/images", {"x": 1}, auth=STRANGER)

    assert (anonymous.status, stranger.status, hidden.status) == (401, 403, 404)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", ["limit"]),
        ("limit=1001", ["limit"]),
        ("limit=x", ["limit"]),
        ("limit=1&limit=2", ["limit"]),
        ("n=1", ["n"]),
        ("limit=0&page=2", ["limit", "page"]),
        (f"after={'x' * 513}", ["after"]),
    ],
)
async def test_a_wrong_parameter_is_named(installation: Installation, query: str, fields: list[str]) -> None:
    """Unknown and repeated ones too: a misspelt limit must not be ignored."""
    refused = await installation.call("GET", f"/api/v1/projects?{query}")

    assert (refused.status, sorted(refused.fields)) == (400, fields)


@pytest.mark.parametrize("after", ["%00", "%ff", "zzzz", "%E2%98%83", "a%00b", "'; DROP TABLE users; --"])
async def test_any_cursor_is_an_answer(installation: Installation, after: str) -> None:
    """A cursor need not be one of ours."""
    assert (await installation.call("GET", f"/api/v1/repos?after={after}")).status == 200


async def test_who_sends_no_credentials_is_asked_for_them(installation: Installation) -> None:
    """With a challenge that a person's client can answer; wrong ones get the same."""
    for auth in (None, (ADMIN, "wrong"), ("", "x")):
        refused = await installation.call("GET", "/api/v1/repos", auth=auth)
        assert (refused.status, refused.codes) == (401, {"UNAUTHORIZED"})
        assert refused.headers["www-authenticate"] == 'Basic realm="sluice", charset="UTF-8"'


async def test_answers_are_not_kept(installation: Installation) -> None:
    """No cache may hold rights and secrets, and every answer names its request."""
    for path in ("/health", "/api/v1/repos", "/api/v1/nothing"):
        reply = await installation.call("GET", path)
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert len(reply.headers["x-request-id"]) == 16


async def test_a_dead_database_is_503(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither "wrong password" nor "not found" (security row A26)."""

    async def dead(*_: Any, **__: Any) -> None:
        raise Unavailable("the disk is gone")

    monkeypatch.setattr(type(installation.services.database), "read", dead)
    refused = await installation.call("GET", f"/api/v1/repos/{REPOSITORY}")

    assert (refused.status, refused.codes) == (503, {"UNAVAILABLE"})
    assert "retry-after" in refused.headers
    assert b"disk" not in refused.body


async def test_what_the_framework_would_answer_in_html_is_json(installation: Installation) -> None:
    """Paths beside the API too."""
    for path in ("/", "/foo", "//", "/api/v1//repos", "/static/x"):
        reply = await installation.call("GET", path)
        assert (reply.status, reply.headers["content-type"]) == (404, "application/json")
        assert reply.value["errors"]
