"""What bodies and answers say of another registry: its addresses, how it is used, what we log in with.

Credentials come in and never go out: answers say how many there are.
"""

import re
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, SecretStr

from gateway.api.errors import invalid
from gateway.api.fields import Body, Glob, View
from gateway.policy import upstreams as rules
from gateway.upstream.http import Credential
from gateway.upstream.settings import KeepByAge, TtlRule, UpstreamSettings

_MAX_BYTES: Final = 1 << 60
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

RemoteUrl: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=rules.MAX_URL_CHARS, examples=["https://ghcr.io"]),
    AfterValidator(rules.remote_url),
]
Pattern: TypeAlias = Annotated[
    str,
    Field(min_length=1, max_length=rules.MAX_PATTERN_CHARS, examples=["library/*"]),
    AfterValidator(rules.image_pattern),
]
Patterns: TypeAlias = Annotated[list[Pattern], Field(max_length=rules.MAX_PATTERNS)]
Address: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=300, examples=["docker.example.com"]), AfterValidator(rules.address)
]
Addresses: TypeAlias = Annotated[list[Address], Field(max_length=32)]
Platform: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=100, examples=["linux/amd64"]), AfterValidator(rules.platform)
]
Network: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=64, examples=["10.1.0.0/16"]), AfterValidator(rules.network)
]
Seconds: TypeAlias = Annotated[int, Field(ge=0, le=rules.MAX_TTL_S)]
Patience: TypeAlias = Annotated[float, Field(ge=0.1, le=600)]
Days: TypeAlias = Annotated[int, Field(ge=1, le=36500)]


class TtlRuleField(Body):
    """Tags that fit the glob are believed for so many seconds."""

    tags: Glob
    ttl: Seconds


class KeepByAgeField(Body):
    """What stays of the cache: what came in the last days, and what was pulled in the last days."""

    max_age_days: Days
    match_pulled_in_last_days: Days | None = None


class CredentialField(Body):
    """A user with a password or a token; or a token alone, which is sent as it is (`Bearer`). Write-only."""

    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    password: Annotated[SecretStr, Field(min_length=1, max_length=16384)] | None = None
    token: Annotated[SecretStr, Field(min_length=1, max_length=16384)] | None = None


class UpstreamFields(Body):
    """The fields of a proxy, and of a hosted repository's fallback. Null stands for the default."""

    remote_url: RemoteUrl | None = Field(None, description="The registry to fetch from; docker.io is understood.")
    remote_urls: Annotated[list[RemoteUrl], Field(min_length=1, max_length=rules.MAX_URLS)] | None = Field(
        None, description="In place of `remote_url`: several addresses of one registry, asked in this order."
    )
    cache_ttl: Seconds | None = Field(None, description="Seconds that a tag is believed without asking again.")
    ttl_rules: Annotated[list[TtlRuleField], Field(max_length=rules.MAX_PATTERNS)] | None = Field(
        None, description="Other times for some tags; the first rule that fits counts."
    )
    negative_ttl: Seconds | None = Field(None, description="Seconds that `not found` is believed.")
    include: Patterns | None = Field(None, description="Only images whose upstream name fits one of these.")
    exclude: Patterns | None = Field(None, description="No images whose upstream name fits one of these.")
    platforms: Annotated[list[Platform], Field(max_length=32)] | None = Field(
        None, description="Of an index that is pulled, these platforms are fetched ahead."
    )
    ca: Annotated[str, AfterValidator(rules.ca_pem)] | None = Field(
        None, description="PEM of authorities that are believed for the upstream, besides those of the system."
    )
    private_networks: Annotated[list[Network], Field(max_length=rules.MAX_NETWORKS)] | None = Field(
        None, description="Loopback, link-local and private addresses that may be dialled all the same. For admins."
    )
    token_hosts: Annotated[list[Address], Field(max_length=16)] | None = Field(
        None, description="Other hosts that may be sent the credentials for a token. For admins."
    )
    offline: bool | None = Field(None, description="Serve what is cached and never ask the upstream.")
    budget_reserve: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="From so many counted pulls left on, cached copies are served without asking."
    )
    when_deleted: Literal["keep", "drop"] | None = Field(
        None, description="What becomes of a cached tag that the upstream does not have any more."
    )
    when_denied: Literal["unknown", "failure"] | None = Field(
        None,
        description="What 401 and 403 of the upstream mean for a tag that was never pulled: that it is not there, or "
        "that it is kept from us, so that no other member of a virtual repository answers for it.",
    )
    max_bytes: Annotated[int, Field(ge=1, le=_MAX_BYTES)] | None = Field(
        None, description="How large the cache may grow; what was pulled longest ago goes first."
    )
    keep_by_age: KeepByAgeField | None = None
    connect_timeout: Patience | None = Field(None, description="Seconds in which a connection must be made.")
    idle_timeout: Patience | None = Field(None, description="Seconds without a byte after which it is given up.")
    credentials: Annotated[list[CredentialField], Field(max_length=rules.MAX_CREDENTIALS)] | None = Field(
        None,
        description="What to log in with, used in turn; never shown again. Left out they stay, unless the repository "
        "gets another registry's address.",
    )


Changes: TypeAlias = dict[str, Any]

_RENAMED: Final = {
    "cache_ttl": "cache_ttl_s",
    "negative_ttl": "negative_ttl_s",
    "ca": "ca_pem",
    "offline": "is_offline",
    "connect_timeout": "connect_s",
    "idle_timeout": "idle_s",
}
_PLAIN: Final = (
    *("cache_ttl", "negative_ttl", "include", "exclude", "platforms", "ca", "private_networks", "token_hosts"),
    *("offline", "budget_reserve", "when_deleted", "when_denied", "max_bytes", "connect_timeout", "idle_timeout"),
)
FIELDS: Final = tuple(UpstreamFields.model_fields)
"""The names of all of them."""
_DEFAULTS: Final = {each.name: each.default for each in fields(UpstreamSettings) if each.default is not MISSING}


def changes_of(body: UpstreamFields, *, within: str = "") -> Changes | None:
    """What the fields that were given mean for `UpstreamSettings`; None if there were none.

    `within` is put before the names of fields at fault.
    """
    given = body.model_fields_set & set(FIELDS) - {"credentials"}
    if not given:
        return None
    found: Changes = {}
    if "remote_url" in given or "remote_urls" in given:
        found["urls"] = _urls(body, within)
    for name in _PLAIN:
        if name in given:
            value = getattr(body, name)
            inner = _RENAMED.get(name, name)
            found[inner] = _DEFAULTS[inner] if value is None else _frozen(value)
    if "ttl_rules" in given:
        found["ttl_rules"] = tuple(TtlRule(each.tags, each.ttl) for each in body.ttl_rules or ())
    if "keep_by_age" in given:
        kept = body.keep_by_age
        found["keep_by_age"] = kept and KeepByAge(kept.max_age_days, kept.match_pulled_in_last_days)
    return found


def credentials_of(body: UpstreamFields, *, within: str = "") -> tuple[Credential, ...] | None:
    """The credentials that were given; None if none were, () if they are to go."""
    if "credentials" not in body.model_fields_set:
        return None
    return tuple(
        _credential(each, f"{within}credentials.{number}") for number, each in enumerate(body.credentials or ())
    )


def _urls(body: UpstreamFields, within: str) -> tuple[str, ...]:
    urls = body.remote_urls or ([] if body.remote_url is None else [body.remote_url])
    if body.remote_url is not None and body.remote_url != urls[0]:
        raise invalid(f"{within}remote_url", "is not the first of remote_urls: give one of the two")
    return tuple(dict.fromkeys(urls))


def _credential(given: CredentialField, name: str) -> Credential:
    secrets = [each.get_secret_value() for each in (given.password, given.token) if each is not None]
    if len(secrets) != 1 or (given.username is None and given.token is None):
        raise invalid(name, "give a username with a password or a token, or a token alone")
    username, secret = given.username or "", secrets[0]
    if ":" in username or _CONTROL.search(username) or _CONTROL.search(secret):
        raise invalid(name, "holds a character that cannot be sent: ':' in the name, or a control character")
    return Credential(username, secret)


def _frozen(value: object) -> object:
    return tuple(dict.fromkeys(value)) if isinstance(value, list) else value


class UpstreamView(View):
    """An upstream's settings; `credential_count` is all that is ever told of credentials."""

    remote_url: str
    remote_urls: list[str]
    cache_ttl: int
    ttl_rules: list[TtlRuleField]
    negative_ttl: int
    include: list[str]
    exclude: list[str]
    platforms: list[str]
    ca: str | None
    private_networks: list[str]
    token_hosts: list[str]
    offline: bool
    budget_reserve: int
    when_deleted: str
    when_denied: str
    max_bytes: int | None
    keep_by_age: KeepByAgeField | None
    connect_timeout: float
    idle_timeout: float
    credential_count: int

    @classmethod
    def of(cls, settings: UpstreamSettings, credential_count: int) -> Self:
        """The settings as clients see them."""
        return cls(
            remote_url=settings.urls[0],
            remote_urls=list(settings.urls),
            cache_ttl=settings.cache_ttl_s,
            ttl_rules=_rules(settings.ttl_rules),
            negative_ttl=settings.negative_ttl_s,
            include=list(settings.include),
            exclude=list(settings.exclude),
            platforms=list(settings.platforms),
            ca=settings.ca_pem,
            private_networks=list(settings.private_networks),
            token_hosts=list(settings.token_hosts),
            offline=settings.is_offline,
            budget_reserve=settings.budget_reserve,
            when_deleted=settings.when_deleted,
            when_denied=settings.when_denied,
            max_bytes=settings.max_bytes,
            keep_by_age=_kept(settings.keep_by_age),
            connect_timeout=settings.connect_s,
            idle_timeout=settings.idle_s,
            credential_count=credential_count,
        )


def _rules(given: Iterable[TtlRule]) -> list[TtlRuleField]:
    return [TtlRuleField(tags=each.tags, ttl=each.ttl_s) for each in given]


def _kept(given: KeepByAge | None) -> KeepByAgeField | None:
    if given is None:
        return None
    return KeepByAgeField(max_age_days=given.max_age_days, match_pulled_in_last_days=given.match_pulled_in_last_days)
