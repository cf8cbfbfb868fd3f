"""Upstream registries over scripted ones, without rows, with a clock that tests move. Not a test."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.upstream.answers import BudgetState
from gateway.upstream.asking import Endpoint, Questions
from gateway.upstream.breaker import Breaker
from gateway.upstream.budget import Budget
from gateway.upstream.http import Credential
from gateway.upstream.naming import Place
from gateway.upstream.registry import UpstreamRegistry
from gateway.upstream.settings import UpstreamSettings
from storage import Digest, Pool
from tests.gateway.upstream.reaching import LOOPBACK, Reach
from tests.upstream.scripted import ScriptedUpstream

APP = "team/app"
NOW = 1_700_000_000.0


@dataclass(slots=True)
class Clock:
    """Unix seconds, and with them what breakers go by."""

    now: float = NOW

    def __call__(self) -> float:
        """The time."""
        return self.now


@dataclass(slots=True)
class Known:
    """A registry and what it is made of."""

    registry: UpstreamRegistry
    questions: Questions
    clock: Clock

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Its addresses."""
        return self.questions.endpoints


@dataclass(slots=True)
class Maker:
    """Makes them, all with one clock."""

    reach: Reach
    clock: Clock = field(default_factory=Clock)

    def __call__(
        self, *upstreams: ScriptedUpstream | str, credentials: Sequence[Credential] = (), **settings: Any
    ) -> Known:
        """The upstream at these addresses."""
        urls = tuple(each if isinstance(each, str) else each.url for each in upstreams)
        known = UpstreamSettings(**{"urls": urls, "private_networks": LOOPBACK, **settings})
        http = self.reach(urls[0], *credentials, **{"urls": urls, **settings})
        askers: Sequence[Credential | None] = credentials or [None]
        endpoints = [
            Endpoint(
                url,
                Place.of(url),
                Breaker(url, clock=self.clock, wall_clock=self.clock),
                [self._budget(url, each) for each in askers],
            )
            for url in urls
        ]
        questions = Questions(http, endpoints, self.clock)
        return Known(UpstreamRegistry(known, questions, pool=Pool("documents", 2)), questions, self.clock)

    def _budget(self, url: str, credential: Credential | None) -> Budget:
        state = BudgetState(url, None if credential is None else credential.username)
        return Budget(state, clock=self.clock, changed=lambda _budget: None)


def digest_of(text: str) -> Digest:
    """The digest that a test has as text."""
    return Digest.parse(text)
