"""As test_lane_model, with a repository that pulls through: tags that end by time, and an upstream that moves them.

Its answers differ with time and with what another registry does, without any row changing here. So what a lane replays
has to end when the application would ask again, and what was given in trouble must not be remembered.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import rule

from gateway.v2 import manifests
from gateway.v2.lane import Lesson
from storage import Digest
from tests.gateway.v2.lane_gateway import OtherProcess
from tests.gateway.v2.test_lane_model import (
    BLOBS,
    MANIFESTS,
    NAMES,
    TAGS,
    TARGETS,
    Differs,
    Machine,
    a_gateway,
    a_manifest,
    a_switch,
    a_tag,
    check,
    other,
)
from tests.upstream.script import Says, on
from tests.upstream.scripted import ScriptedUpstream
from tests.upstream.shelf import Manifest

__all__ = ["other"]

REPOSITORY = "team/mirror"
IMAGE = f"{REPOSITORY}/app"
TTL_S = 60


class ProxiedMachine(Machine):
    """Two gateways, a proxy in both, and its upstream."""

    upstream: ScriptedUpstream
    names = (*NAMES, IMAGE)
    targets = (
        *TARGETS,
        *(f"/v2/{IMAGE}/manifests/{tag}" for tag in TAGS * 4),
        *(f"/v2/{IMAGE}/manifests/{Digest.of(content)}" for content in MANIFESTS),
        *(f"/v2/{IMAGE}/blobs/{Digest.of(content)}" for content in BLOBS),
    )

    def furnish_more(self) -> None:
        """The proxy, which everybody may read, and what it pulls from."""
        self.upstream.heal()
        self.upstream.shelf.tags.clear()
        for content in BLOBS:
            self.upstream.shelf.put_blob("app", content)
        self.moves(TAGS[0], 0)
        self.api(
            0,
            "POST",
            "repos",
            {
                "project": "team",
                "name": "mirror",
                "repository_type": "proxy",
                "remote_url": self.upstream.url,
                "private_networks": ["127.0.0.0/8"],
                "cache_ttl": TTL_S,
                "negative_ttl": 30,
                "anonymous_read": True,
            },
        )

    @rule(tag=a_tag, number=a_manifest)
    def moves(self, tag: str, number: int) -> None:
        """A tag is moved at the upstream, or made."""
        self.upstream.shelf.put_manifest("app", Manifest(MANIFESTS[number]), tag)

    @rule(tag=a_tag)
    def vanishes(self, tag: str) -> None:
        """A tag is deleted at the upstream."""
        self.upstream.shelf.tags["app"].pop(tag, None)

    @rule(is_troubled=a_switch)
    def fails(self, *, is_troubled: bool) -> None:
        """The upstream answers 500 to whatever is asked, or is well again."""
        self.upstream.heal()
        if is_troubled:
            self.upstream.script(Says(500), on("manifests"))

    @rule(seconds=st.sampled_from([TTL_S - 1, 1, TTL_S]))
    def tag_ends(self, seconds: int) -> None:
        """Time passes, about as much as a tag is believed; what was given lately is asked for again."""
        self.wait(seconds)
        self.use(self.admin)

    @rule(at=a_gateway, offline=a_switch)
    def switch_off(self, at: int, *, offline: bool) -> None:
        """The upstream is not to be asked any more, or again."""
        self.api(at, "PATCH", f"repos/{REPOSITORY}", {"offline": offline})


@pytest.fixture(scope="module")
def machine() -> Iterator[type[ProxiedMachine]]:
    """The machine with its upstream."""
    with ScriptedUpstream() as scripted:

        class Fed(ProxiedMachine):
            """One upstream for all examples."""

            upstream = scripted

        yield Fed


@pytest.mark.slow
def test_a_lane_before_a_proxy_answers_as_its_application_does(
    machine: type[ProxiedMachine], other: OtherProcess, migrated_file: Path
) -> None:
    """Whatever the upstream does meanwhile, and however much time passes; and the lanes do answer."""
    hits = check(machine, other, migrated_file, examples=6, steps=20)

    assert hits > 300


@pytest.mark.slow
def test_a_lane_that_lets_no_tag_end_is_found_out(
    machine: type[ProxiedMachine], other: OtherProcess, migrated_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison can fail: it does for a lane that is not told how long a tag is believed."""

    def endless(*told: Any, fresh_until: float | None, **more: Any) -> Lesson:
        return Lesson(*told, **more)

    monkeypatch.setattr(manifests, "Lesson", endless)

    with pytest.raises(Differs):
        check(machine, other, migrated_file, examples=40, steps=20)
