"""What a repository's settings say about its upstream: the part of the row's JSON that the gateway reads. Pure.

Secrets are not here: they are sealed, in rows of their own. What a value may be is checked where it is entered
(`gateway.api`); what does not fit here was written by a newer version, and is an error rather than a guess.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from typing import Any, Final, Literal, Self

from storage import Unavailable

UPSTREAM: Final = "upstream"
"""The key of these settings within a repository's."""


class NewerSettings(Unavailable, ValueError):
    """A newer version of this program wrote them: nothing is guessed, clients may ask another replica, or again later.

    Retrying helps once this replica has been upgraded, too.
    """


@dataclass(frozen=True, slots=True)
class TtlRule:
    """Tags that the glob fits are believed for so many seconds. The first rule that fits counts."""

    tags: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class KeepByAge:
    """What of the cache stays: what came within `max_age_days`, or was pulled in the last so many days."""

    max_age_days: int
    match_pulled_in_last_days: int | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream, at one or several addresses, and how it is used.

    `urls`: `https://HOST[:PORT][/PATH]`, asked in this order. `include`, `exclude`: globs over image names as the
    upstream has them; an empty `include` is everything. `private_networks`: addresses that may be dialled although they
    are loopback, link-local or private. `token_hosts`: further hosts that may be given our credentials for a token.
    `budget_reserve`: from so many counted pulls left on, cached copies are served without asking.
    `when_deleted`: what becomes of a cached tag that the upstream does not have any more. `when_denied`: what its 401
    or 403 means for a tag that was never pulled; many say so of whatever they do not have.
    """

    urls: tuple[str, ...]
    cache_ttl_s: int = 300
    ttl_rules: tuple[TtlRule, ...] = ()
    negative_ttl_s: int = 30
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    ca_pem: str | None = None
    private_networks: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()
    is_offline: bool = False
    budget_reserve: int = 10
    when_deleted: Literal["keep", "drop"] = "drop"
    when_denied: Literal["unknown", "failure"] = "unknown"
    max_bytes: int | None = None
    keep_by_age: KeepByAge | None = None
    idle_s: float = field(default=30.0)
    connect_s: float = field(default=5.0)

    def to_json(self) -> str:
        """The text for a row; defaults are left out, so that a later version's apply."""
        known = asdict(self)
        changed = {each.name: known[each.name] for each in fields(self) if getattr(self, each.name) != each.default}
        return json.dumps(changed, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; `NewerSettings` for anything not understood."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From the JSON object."""
        if unknown := document.keys() - {each.name for each in fields(cls)}:
            raise NewerSettings(f"settings of an upstream that this version does not know: {sorted(unknown)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        try:
            if "ttl_rules" in values:
                values["ttl_rules"] = tuple(TtlRule(**rule) for rule in values["ttl_rules"])
            if values.get("keep_by_age") is not None:
                values["keep_by_age"] = KeepByAge(**values["keep_by_age"])
            return cls(**values)
        except TypeError as error:  # another field in one of these, or `urls` missing
            raise NewerSettings(f"settings of an upstream that this version does not know: {error}") from error


@lru_cache(maxsize=4096)
def upstream_of(settings: str) -> UpstreamSettings | None:
    """The upstream in a repository's settings (the row's JSON text); None if it has none. `NewerSettings` as above."""
    document = json.loads(settings).get(UPSTREAM)
    return None if document is None else UpstreamSettings.of(document)
