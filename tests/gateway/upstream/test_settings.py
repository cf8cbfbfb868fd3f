"""What a row says of an upstream: read back as it was written, and nothing guessed."""

import json

import pytest

from gateway.upstream.settings import KeepByAge, TtlRule, UpstreamSettings, upstream_of
from storage import Unavailable

FULL = UpstreamSettings(
    urls=("https://registry-1.docker.io", "https://mirror.example/hub"),
    cache_ttl_s=60,
    ttl_rules=(TtlRule("v*", 86400), TtlRule("latest", 10)),
    negative_ttl_s=5,
    include=("library/*",),
    exclude=("library/secret*",),
    platforms=("linux/amd64",),
    ca_pem="-----BEGIN CERTIFICATE-----",
    private_networks=("10.0.0.0/8",),
    token_hosts=("auth.example",),
    is_offline=True,
    budget_reserve=3,
    when_deleted="keep",
    when_denied="failure",
    max_bytes=10**12,
    keep_by_age=KeepByAge(30, 7),
    idle_s=10.0,
    connect_s=2.0,
)


@pytest.mark.parametrize("settings", [FULL, UpstreamSettings(urls=("https://quay.io",))])
def test_a_row_is_read_as_it_was_written(settings: UpstreamSettings) -> None:
    """Alone, and as a part of a repository's settings."""
    assert UpstreamSettings.from_json(settings.to_json()) == settings
    assert upstream_of(json.dumps({"upstream": json.loads(settings.to_json()), "redirect_pulls": True})) == settings


def test_defaults_are_not_written() -> None:
    """So that a later version's defaults apply to repositories that never chose."""
    assert json.loads(UpstreamSettings(urls=("https://quay.io",)).to_json()) == {"urls": ["https://quay.io"]}


def test_most_repositories_have_none() -> None:
    """A hosted repository's settings say nothing of an upstream."""
    assert upstream_of("{}") is None


@pytest.mark.parametrize(
    "more",
    ['"teleport": true', '"ttl_rules": [{"teleport": 1}]', '"keep_by_age": {"max_age_days": 1, "teleport": 1}'],
)
def test_what_a_newer_version_wrote_is_an_error(more: str) -> None:
    """Rather than a limit that is silently dropped."""
    with pytest.raises(Unavailable, match="teleport"):  # 503: another replica may know them
        UpstreamSettings.from_json(f'{{"urls": ["https://quay.io"], {more}}}')
