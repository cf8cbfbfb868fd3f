"""How long a cached tag is believed before the upstream is asked again. Pure: settings, names and times in, times out.

A digest names its bytes for ever; only tags come here. The first rule of the settings whose glob fits the tag counts.
Without one, tags that people do not move are believed for a week: whole versions (`1.2.3`, `v1.2.3-alpine`) and those
that name a commit (`sha-1a2b3c4`, or nothing but 40 or 64 hexadecimal digits). `latest`, branches and `1.2` move, and
are believed for `cache_ttl_s`; so are the tags that list referrers (`sha256-…`), which grow. With a `cache_ttl_s` of 0
the upstream is asked about every tag that no rule names.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from gateway.upstream.settings import UpstreamSettings

LONG_S: Final = 7 * 86_400
"""For tags that hardly ever move. Some publishers do rebuild `1.2.3`: a week is what users of a mirror put up with."""

_SLACK_S: Final = 60
"""A check may lie so far ahead: clocks of several machines differ. What lies further was written by a wrong one."""
_VERSION: Final = re.compile(r"v?(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:[-.+_][0-9A-Za-z.+_-]+)?")
_COMMIT: Final = re.compile(r"sha-[0-9a-f]{7,64}|[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Standing:
    """What a cached tag is worth: until which Unix second it is believed, and how old the last word about it is."""

    is_fresh: bool
    fresh_until: float
    age_s: int


def ttl_s(settings: UpstreamSettings, tag: str) -> int:
    """For how many seconds after a check this tag is believed."""
    for rule in settings.ttl_rules:
        if fnmatchcase(tag, rule.tags):
            return rule.ttl_s
    if settings.cache_ttl_s and (_VERSION.fullmatch(tag) or _COMMIT.fullmatch(tag)):
        return max(LONG_S, settings.cache_ttl_s)
    return settings.cache_ttl_s


def standing(settings: UpstreamSettings, tag: str, *, checked_at: float | None, now: float) -> Standing:
    """What the tag is worth now, if the upstream was last asked at `checked_at` (None: nobody remembers)."""
    if checked_at is None or checked_at > now + _SLACK_S:
        return Standing(is_fresh=False, fresh_until=0, age_s=0)
    fresh_until = checked_at + ttl_s(settings, tag)
    return Standing(is_fresh=now < fresh_until, fresh_until=fresh_until, age_s=max(0, int(now - checked_at)))
