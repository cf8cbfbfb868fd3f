"""Proxies and fallbacks over REST: what may be said of another registry, by whom, and what becomes of secrets."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.upstream.settings import KeepByAge, TtlRule, UpstreamSettings, upstream_of
from storage.metadata import upstreams
from tests.gateway.api.installation import ADMIN, AUDITOR, Installation

PATH = "/api/v1/repos"
PROXY: dict[str, Any] = {
    "project": "team",
    "name": "hub",
    "repository_type": "proxy",
    "remote_url": "docker.io",
    "cache_ttl": 600,
}
CANARY = "c4n4ry-s3cret"
MAINTAINER = "mary"

EVERYTHING: dict[str, Any] = {
    "remote_url": "https://one.example.com",
    "remote_urls": ["https://one.example.com", "https://two.example.com:5000/v2/mirror"],
    "cache_ttl": 60,
    "ttl_rules": [{"tags": "sha-*", "ttl": 86400}],
    "negative_ttl": 5,
    "include": ["library/*"],
    "exclude": ["library/secret-*"],
    "platforms": ["linux/amd64", "linux/arm64"],
    "ca": None,
    "private_networks": ["10.1.0.0/16"],
    "token_hosts": ["auth.example.com"],
    "offline": True,
    "budget_reserve": 20,
    "when_deleted": "keep",
    "when_denied": "failure",
    "max_bytes": 1 << 30,
    "keep_by_age": {"max_age_days": 90, "match_pulled_in_last_days": 30},
}


async def _credentials(installation: Installation, full_name: str) -> list[tuple[str, str]]:
    """What the upstream of that repository would be asked with."""
    record = await installation.repository(full_name)
    assert record is not None
    sealed = await installation.services.database.read(upstreams.credentials, record.id)
    opened = [installation.services.credentials.open(each, record.id, place) for place, each in enumerate(sealed)]
    return [(each.username, each.secret) for each in opened]


async def _settings(installation: Installation, full_name: str) -> UpstreamSettings:
    record = await installation.repository(full_name)
    assert record is not None
    found = upstream_of(record.settings)
    assert found is not None
    return found


async def test_a_proxy_of_docker_hub_is_made_by_a_maintainer(installation: Installation) -> None:
    """Whatever Docker Hub is called, its registry is asked; the rest has defaults."""
    made = await installation.call("POST", PATH, PROXY, auth=MAINTAINER)
    found = await installation.call("GET", f"{PATH}/team/hub", auth="rita")

    assert made.status == 201
    assert (made.value["remote_url"], made.value["cache_ttl"]) == ("https://registry-1.docker.io", 600)
    assert found.value == made.value
    assert await _settings(installation, "team/hub") == UpstreamSettings(
        ("https://registry-1.docker.io",), cache_ttl_s=600
    )


async def test_every_field_comes_back(installation: Installation) -> None:
    """As it was given, and as the gateway reads it."""
    made = await installation.call("POST", PATH, {**PROXY, **EVERYTHING})
    again = await installation.call("PATCH", f"{PATH}/team/hub", EVERYTHING)

    assert {key: made.value[key] for key in EVERYTHING} == EVERYTHING
    assert {**again.value, "updated_at": ""} == {**made.value, "updated_at": ""}
    assert await _settings(installation, "team/hub") == UpstreamSettings(
        ("https://one.example.com", "https://two.example.com:5000/v2/mirror"),
        cache_ttl_s=60,
        ttl_rules=(TtlRule("sha-*", 86400),),
        negative_ttl_s=5,
        include=("library/*",),
        exclude=("library/secret-*",),
        platforms=("linux/amd64", "linux/arm64"),
        private_networks=("10.1.0.0/16",),
        token_hosts=("auth.example.com",),
        is_offline=True,
        budget_reserve=20,
        when_deleted="keep",
        when_denied="failure",
        max_bytes=1 << 30,
        keep_by_age=KeepByAge(90, 30),
    )


async def test_what_is_not_named_stays_and_null_is_the_default(installation: Installation) -> None:
    """A change of one field is a change of one field."""
    await installation.call("POST", PATH, {**PROXY, **EVERYTHING})

    changed = await installation.call("PATCH", f"{PATH}/team/hub", {"cache_ttl": 7, "max_bytes": None, "include": None})

    assert changed.status == 200
    assert {key: changed.value[key] for key in EVERYTHING} == {
        **EVERYTHING,
        "cache_ttl": 7,
        "max_bytes": None,
        "include": [],
    }


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://example.com",
        "https://user:pass@example.com",
        "https://example.com/?x=1",
        "https://example.com/#x",
        "https://127.1",
        "https://0x7f000001",
        "https://2130706433",
        "https://0177.0.0.1",
        "https://[::1",
        "https://example.com:0",
        "https://example.com:65536",
        "https://exa mple.com",
        "https://example.com/a/../b",
        "https://example.com/%2e%2e",
        "https://",
        "https://ex\u0430mple.com",
        "https://example.com\r\nX: y",
        "",
    ],
)
async def test_addresses_that_are_none_are_refused(installation: Installation, url: str) -> None:
    """P2: only http and https, no user, no query, and no way to write a number that hides where it leads."""
    refused = await installation.call("POST", PATH, {**PROXY, "remote_url": url})

    assert (refused.status, refused.fields) == (400, ["remote_url"])
    assert refused.value["errors"][0]["message"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"private_networks": ["10.0.0.0/8"]}, "private_networks"),
        ({"token_hosts": ["auth.example.com"]}, "token_hosts"),
        ({"remote_url": "http://registry.example.com"}, "remote_url"),
        ({"host_names": ["hub.example.com"]}, "host_names"),
        ({"catch_all_hosts": ["hub.example.com"]}, "catch_all_hosts"),
        ({"namespaces": ["docker.io"]}, "namespaces"),
    ],
)
async def test_what_reaches_beyond_the_project_is_for_admins(
    installation: Installation, given: dict[str, Any], field: str
) -> None:
    """P2: no maintainer has private addresses dialled, sends passwords in the clear or elsewhere, or takes names."""
    await installation.call("POST", PATH, PROXY, auth=MAINTAINER)

    made = await installation.call("POST", PATH, {**PROXY, "name": "other", **given}, auth=MAINTAINER)
    changed = await installation.call("PATCH", f"{PATH}/team/hub", given, auth=MAINTAINER)
    by_admin = await installation.call("PATCH", f"{PATH}/team/hub", given)
    kept = await installation.call("PATCH", f"{PATH}/team/hub", {**given, "description": "same"}, auth=MAINTAINER)

    assert (made.status, made.fields) == (changed.status, changed.fields) == (403, [field])
    assert by_admin.status == 200
    assert kept.status == 200  # what an admin allowed may stay
    assert await installation.repository("team/other") is None


async def test_who_may_dial_private_addresses_keeps_its_own(installation: Installation) -> None:
    """P2: once an admin allowed a private network, a maintainer cannot point the proxy at another service there."""
    await installation.call("POST", PATH, {**PROXY, "remote_url": "10.1.0.5", "private_networks": ["10.1.0.0/16"]})

    moved = await installation.call("PATCH", f"{PATH}/team/hub", {"remote_url": "10.1.0.6"}, auth=MAINTAINER)
    narrowed = await installation.call("PATCH", f"{PATH}/team/hub", {"private_networks": []}, auth=MAINTAINER)

    assert (moved.status, moved.fields) == (403, ["remote_url"])
    assert narrowed.status == 200


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"username": "ci", "password": CANARY}, ("ci", CANARY)),
        ({"username": "ci", "token": CANARY}, ("ci", CANARY)),
        ({"token": CANARY}, ("", CANARY)),
    ],
)
async def test_credentials_are_sealed_and_never_given_back(
    installation: Installation, given: dict[str, str], stored: tuple[str, str]
) -> None:
    """A28, T16: neither an answer, nor the log, nor the database in the clear has them; how many there are is told."""
    with capture_logs() as log:
        made = await installation.call("POST", PATH, {**PROXY, "credentials": [given]})
        changed = await installation.call("PATCH", f"{PATH}/team/hub", {"credentials": [given, given]})
        seen = [await installation.call("GET", f"{PATH}/team/hub", auth=auth) for auth in (ADMIN, AUDITOR, MAINTAINER)]
        listed = await installation.call("GET", PATH, auth=AUDITOR)
        wrong = await installation.call("PATCH", f"{PATH}/team/hub", {"credentials": [{**given, "extra": CANARY}]})

    assert (made.value["credential_count"], changed.value["credential_count"]) == (1, 2)
    for reply in (made, changed, *seen, listed, wrong):
        assert CANARY.encode() not in reply.body
    assert CANARY not in str(log)
    record = await installation.repository("team/hub")
    assert record is not None
    assert CANARY not in record.settings
    for sealed in await installation.services.database.read(upstreams.credentials, record.id):
        assert CANARY.encode() not in sealed
    assert await _credentials(installation, "team/hub") == [stored, stored]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"username": "ci"},
        {"password": CANARY},
        {"username": "ci", "password": CANARY, "token": CANARY},
        {"username": "a:b", "password": CANARY},
        {"username": "ci", "password": f"{CANARY}\r\nX-Header: 1"},
        {"username": 1, "password": CANARY},
    ],
)
async def test_half_a_credential_is_refused_without_repeating_it(installation: Installation, given: object) -> None:
    """The answer names the field; what cannot be sent in a header is not taken."""
    refused = await installation.call("POST", PATH, {**PROXY, "credentials": [given]})

    assert refused.status == 400
    assert all(field.startswith("credentials.0") for field in refused.fields)
    assert CANARY.encode() not in refused.body


@pytest.mark.parametrize(
    ("change", "survives"),
    [
        ({"cache_ttl": 1}, True),
        ({"remote_url": "https://one.example.com/v2/prefix"}, True),
        ({"remote_url": "https://one.example.com:443"}, True),
        ({"remote_url": "https://one.example.com:444"}, False),
        ({"remote_url": "http://one.example.com"}, False),
        ({"remote_url": "https://evil.example.com"}, False),
        ({"remote_urls": ["https://one.example.com", "https://evil.example.com"]}, False),
    ],
)
async def test_credentials_stay_with_the_origin_they_were_given_for(
    installation: Installation, change: dict[str, Any], *, survives: bool
) -> None:
    """P1: whoever changes where a proxy leads does not thereby get the password that others entered."""
    given = {"username": "ci", "password": CANARY}
    await installation.call("POST", PATH, {**PROXY, "remote_url": "one.example.com", "credentials": [given]})

    changed = await installation.call("PATCH", f"{PATH}/team/hub", change)

    assert changed.status == 200
    assert changed.value["credential_count"] == (1 if survives else 0)
    assert await _credentials(installation, "team/hub") == ([("ci", CANARY)] if survives else [])


async def test_new_credentials_come_with_a_new_origin(installation: Installation) -> None:
    """Given in the same change they are for the new place, and an empty list ends them."""
    await installation.call("POST", PATH, {**PROXY, "credentials": [{"username": "old", "password": CANARY}]})

    await installation.call(
        "PATCH",
        f"{PATH}/team/hub",
        {"remote_url": "https://new.example.com", "credentials": [{"username": "new", "password": "other"}]},
    )
    moved = await _credentials(installation, "team/hub")
    await installation.call("PATCH", f"{PATH}/team/hub", {"credentials": []})

    assert moved == [("new", "other")]
    assert await _credentials(installation, "team/hub") == []


async def test_a_hosted_repository_gets_and_loses_a_fallback(installation: Installation) -> None:
    """The old registry's address and credentials, inside `fallback`; null ends both."""
    old = {"remote_url": "https://harbor.example.com", "credentials": [{"username": "ci", "password": CANARY}]}

    given = await installation.call("PATCH", f"{PATH}/team/images", {"fallback": old}, auth=MAINTAINER)
    changed = await installation.call("PATCH", f"{PATH}/team/images", {"fallback": {"cache_ttl": 5}}, auth=MAINTAINER)
    ended = await installation.call("PATCH", f"{PATH}/team/images", {"fallback": None}, auth=MAINTAINER)

    assert (given.value["fallback"]["remote_url"], given.value["remote_url"]) == ("https://harbor.example.com", None)
    assert (changed.value["fallback"]["cache_ttl"], changed.value["fallback"]["credential_count"]) == (5, 1)
    assert (ended.value["fallback"], await _credentials(installation, "team/images")) == (None, [])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"repository_type": "proxy"}, "remote_url"),
        ({"repository_type": "proxy", "cache_ttl": 5}, "remote_url"),
        ({"repository_type": "proxy", "remote_url": "a.example", "members": []}, "members"),
        ({"repository_type": "proxy", "remote_url": "a.example", "fallback": {}}, "fallback"),
        ({"repository_type": "proxy", "remote_url": "a.example", "immutable_tags": ["v*"]}, "immutable_tags"),
        ({"repository_type": "proxy", "remote_url": "a.example", "remote_urls": ["b.example"]}, "remote_url"),
        ({"repository_type": "hosted", "remote_url": "a.example"}, "remote_url"),
        ({"repository_type": "hosted", "fallback": {"cache_ttl": 5}}, "fallback.remote_url"),
        ({"repository_type": "hosted", "on_member_failure": "skip"}, "on_member_failure"),
        ({"repository_type": "virtual", "remote_url": "a.example"}, "remote_url"),
        ({"repository_type": "virtual", "fallback": {"remote_url": "a.example"}}, "fallback"),
    ],
)
async def test_fields_of_another_type_are_refused(installation: Installation, body: dict[str, Any], field: str) -> None:
    """Each with a message that says where it belongs, and nothing is made."""
    refused = await installation.call("POST", PATH, {"project": "team", "name": "new", **body})

    assert (refused.status, refused.fields) == (400, [field])
    assert await installation.repository("team/new") is None


async def test_every_wrong_field_of_an_upstream_is_named(installation: Installation) -> None:
    """With its place in the body, all at once (A22)."""
    refused = await installation.call(
        "POST",
        PATH,
        {
            **PROXY,
            "cache_ttl": -1,
            "ttl_rules": [{"tags": "a b", "ttl": 1}, {"tags": "*", "ttl": "1"}],
            "negative_ttl": 1.5,
            "include": ["UPPER"],
            "platforms": ["linux"],
            "ca": "no certificate",
            "private_networks": ["10.0.0.300"],
            "token_hosts": ["https://auth.example.com"],
            "offline": 1,
            "budget_reserve": -1,
            "when_deleted": "hide",
            "when_denied": "next",
            "max_bytes": 0,
            "keep_by_age": {"max_age_days": 0},
            "namespaces": ["docker.io/library"],
            "credential_count": 1,
        },
    )

    assert refused.status == 400
    assert set(refused.fields) == {
        "cache_ttl",
        "ttl_rules.0.tags",
        "ttl_rules.1.ttl",
        "negative_ttl",
        "include.0",
        "platforms.0",
        "ca",
        "private_networks.0",
        "token_hosts.0",
        "offline",
        "budget_reserve",
        "when_deleted",
        "when_denied",
        "max_bytes",
        "keep_by_age.max_age_days",
        "namespaces.0",
        "credential_count",
    }
