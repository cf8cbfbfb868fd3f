"""Who we are to an upstream: how it wants to be logged in to, whom else we tell our credentials, and tokens in hand.

    the upstream says                     we send
    nothing (no 401)                      nothing, even where there are credentials
    Bearer realm=R, on a trusted host     what R gives for the credentials, or for nobody; kept for its life
    Bearer, credentials are a token       that token itself
    Basic                                 the credentials, to the upstream's own origin

A realm is trusted when it lies on the upstream's own origin (or on its host, on the way from plain to encrypted), in
the table here, or in `token_hosts` of the settings; everything else is refused, also for anonymous tokens.

Must not know: which requests are sent with it. The fetching is given in.
"""

import base64
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import trio
from cachetools import LRUCache

from gateway.upstream.challenge import Challenge, challenges_of, choose
from gateway.upstream.client import Answer
from gateway.upstream.dialling import origin_and_target
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
)
from gateway.upstream.flight import Flight
from storage.transfer import Origin

TRUSTED: Final = dict.fromkeys(("registry-1.docker.io", "index.docker.io", "docker.io"), ("auth.docker.io",))
"""Upstream's host -> hosts that may be given its credentials. Docker Hub is the one whose host everybody knows."""
MAX_TOKENS: Final = 4096
"""In hand for one upstream: one per image and account."""
DOCUMENT_BYTES: Final = 256 * 1024
_TOKEN: Final = re.compile(r"[!-~]{1,65536}")  # ECR's have some KiB
_LEAST_S: Final = 60
"""The life of a token that does not say otherwise (Docker's token specification)."""
_LONGEST_S: Final = 12 * 3600
_USED: Final = 0.9
"""Of a token's life; then the next request fetches another one, before the upstream refuses this one."""
PAUSE_S: Final = 30.0
"""A refused login is not tried again for so long, lest the account be locked."""

Fetch = Callable[[Origin, str, Sequence[tuple[str, str]]], Awaitable[Answer]]
"""GET of a small document at an origin and a target, with these headers; follows nothing. Raises `UpstreamError`."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A name and a password; or, without a name, a token that is sent as it is.

    `fingerprint`: the same for the same name and secret, and tells neither; empty for one that was not stored yet.
    """

    username: str
    secret: str = field(repr=False)
    fingerprint: str = field(default="", repr=False, compare=False)

    @property
    def basic(self) -> str:
        """The value of Authorization for a name and a password."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.secret}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Login:
    """What a token is asked for with. `scope`: as in the challenge, several divided by blanks."""

    realm: str
    service: str
    scope: str
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Key:
    """What opens one request: the value of Authorization (none: nothing is needed), and where it came from."""

    authorization: str | None = field(repr=False)
    login: Login | None = None
    is_fresh: bool = False
    """Whether the token was fetched for this very request."""


@dataclass(frozen=True, slots=True)
class _Way:
    """How an origin wants to be logged in to. `scope`: the one for everything, where it has such a one (`aws`)."""

    challenge: Challenge | None
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    """What a realm has decided: a token, or that there is none; good until then, in seconds of Trio's clock."""

    until: float
    token: str = field(default="", repr=False)
    error: UpstreamError | None = None


class Tokens:
    """Tokens in hand. One login for all who ask at the same time, owned by `nursery`: a leaving asker ends nothing."""

    def __init__(self, nursery: trio.Nursery, fetch: Fetch) -> None:
        self._nursery = nursery
        self._fetch = fetch
        self._flights: LRUCache[Login, Flight[_Held]] = LRUCache(MAX_TOKENS)

    async def token(self, login: Login) -> tuple[str, bool]:
        """A token that is good for a while, and whether this call waited for it to come.

        Raises `UpstreamFailed` (`CredentialsRejected` for refused credentials), `UpstreamDenied` (nobody gets one
        without credentials, or ours get none), `UpstreamBusy`, `UpstreamSlow`, `UpstreamRefused`; each again to all for
        `PAUSE_S` if it is the realm's own answer.
        """
        flight = self._flights.get(login)
        if flight is None or (flight.is_over and not _is_good(flight)):
            flight = self._flights[login] = Flight(self._nursery, partial(self._decide, login), name="the login")
        is_fresh = not flight.is_over
        held = await flight.result()
        if held.error is not None:
            raise type(held.error)(str(held.error), retry_after_s=held.error.retry_after_s) from held.error
        return held.token, is_fresh

    def forget(self, login: Login, token: str) -> None:
        """Drop the token, unless another one has come meanwhile."""
        flight = self._flights.get(login)
        held = None if flight is None else flight.result_nowait()
        if held is not None and held.token == token:
            del self._flights[login]

    async def _decide(self, login: Login) -> _Held:
        try:
            token, life_s = await self._log_in(login)
        except (UpstreamDenied, UpstreamBusy, CredentialsRejected) as error:
            return _Held(trio.current_time() + PAUSE_S, error=error)
        return _Held(trio.current_time() + life_s * _USED, token)

    async def _log_in(self, login: Login) -> tuple[str, float]:
        origin, target = origin_and_target(login.realm)
        asked = [("service", login.service)] if login.service else []
        asked += [("scope", scope) for scope in login.scope.split()]
        headers = [("Accept", "application/json")]
        if login.credential is not None:
            headers.append(("Authorization", login.credential.basic))
        return _token_of(origin, login, await self._fetch(origin, _with_query(target, asked), headers))


def _is_good(flight: Flight[_Held]) -> bool:
    held = flight.result_nowait()
    return held is not None and trio.current_time() < held.until


class Logins:
    """For one upstream: which key each request takes, learned from what the upstream says. Credentials go nowhere else.

    `token_hosts`: `HOST` or `HOST:PORT`, see the module docstring.
    """

    def __init__(self, tokens: Tokens, token_hosts: Sequence[str] = ()) -> None:
        self._tokens = tokens
        self._token_hosts = tuple(token_hosts)
        self._ways: dict[Origin, _Way] = {}
        self._scopes: LRUCache[tuple[Origin, str], str] = LRUCache(MAX_TOKENS)
        """Where an upstream wants another scope for a question than the question's own."""

    def knows(self, home: Origin) -> bool:
        """Whether it has said how it wants to be logged in to, or that it does not."""
        return home in self._ways

    async def key(self, home: Origin, scope: str, credential: Credential | None) -> Key | None:
        """What opens a request to `home`; None: the upstream must be asked first how it wants it. Raises as `token`."""
        way = self._ways.get(home)
        if way is None:
            return None
        if way.challenge is None:
            return Key(None)
        if credential is not None and not credential.username:
            if _TOKEN.fullmatch(credential.secret) is None:
                raise UpstreamFailed("the token of this upstream is none; enter it anew")
            return Key(f"Bearer {credential.secret}")
        if way.challenge.scheme == "basic":
            if credential is None:
                del self._ways[home]  # lest a passing mistake of the upstream's stay for ever
                raise UpstreamDenied(f"{home} wants a name and a password, and there are none")
            return Key(credential.basic)
        login = self._login(home, way.challenge, way.scope, asked=scope, credential=credential)
        try:
            token, is_fresh = await self._tokens.token(login)
        except (UpstreamFailed, UpstreamRefused):
            self._ways.pop(home, None)  # perhaps the realm is another one by now
            raise
        return Key(f"Bearer {token}", login, is_fresh)

    def admitted(self, home: Origin, key: Key | None) -> None:
        """It answered something else than 401: without a key, it needs none."""
        if key is None:
            self._ways[home] = _Way(None)

    def refused(
        self, home: Origin, scope: str, key: Key | None, headers: Iterable[tuple[str, str]], *, is_exact: bool
    ) -> None:
        """It answered 401: learn from it, so that another try may go better.

        `is_exact`: the headers are all that came; asks drops some. Raises `UpstreamDenied` and `UpstreamFailed` when
        another try would not help, and `UpstreamRefused` for a realm that is not trusted.
        """
        challenge = choose(challenges_of(headers))
        if key is not None and key.authorization is not None:
            self._judge(home, key, challenge, scope)
        if not is_exact:
            self._ways.pop(home, None)
            return
        if challenge is None:
            raise UpstreamFailed(f"{home} answers 401 and does not say how to log in")
        if challenge.scheme == "bearer":
            self._check(challenge.parameter("realm"), home)
        self._ways[home] = _Way(challenge, self._learn_scope(home, scope, challenge.parameter("scope")))

    def _learn_scope(self, home: Origin, asked: str, wanted: str) -> str | None:
        """The scope for everything, if it is one: those of single images have colons."""
        if wanted and ":" not in wanted:
            return wanted
        if wanted and asked:
            self._scopes[home, asked] = wanted
        return None

    def _login(
        self, home: Origin, challenge: Challenge, scope: str | None, *, asked: str, credential: Credential | None
    ) -> Login:
        wanted = scope if scope is not None else self._scopes.get((home, asked), asked)
        return Login(challenge.parameter("realm"), challenge.parameter("service"), wanted, credential)

    def _judge(self, home: Origin, key: Key, challenge: Challenge | None, scope: str) -> None:
        """Whether a key that was refused may be replaced by a better one."""
        if key.login is None:
            self._ways.pop(home, None)  # perhaps it wants tokens by now
            raise CredentialsRejected(f"{home} rejects the credentials of this upstream; enter them anew")
        wanted = (challenge.parameter("scope") or scope) if challenge is not None else None
        is_final = key.is_fresh or (challenge is not None and challenge.parameter("error") == "insufficient_scope")
        if wanted == key.login.scope and is_final:
            raise UpstreamDenied(f"{home} does not give this to us")
        self._tokens.forget(key.login, (key.authorization or "").removeprefix("Bearer "))

    def _check(self, realm: str, home: Origin) -> None:
        origin, _ = origin_and_target(realm)
        if origin == home or _is_upgrade(home, origin):
            return
        hosts = (*TRUSTED.get(home.host, ()), *self._token_hosts)
        if origin not in {token_origin(text, scheme) for text in hosts for scheme in {"https", home.scheme}}:
            raise UpstreamRefused(
                f"{home} sends us to {origin} for a token; an administrator can trust that host (token_hosts)"
            )


def token_origin(text: str, scheme: str = "https") -> Origin:
    """The origin that an entry of `token_hosts` names; ValueError for anything but `HOST` and `HOST:PORT`."""
    if not text or "/" in text or "@" in text:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    return Origin.parse(f"{scheme}://{text}")


def _is_upgrade(home: Origin, other: Origin) -> bool:
    """From plain to encrypted, on the same host and the schemes' own ports."""
    return (home.scheme, home.port, other.scheme, other.port) == ("http", 80, "https", 443) and home.host == other.host


def _with_query(target: str, pairs: Sequence[tuple[str, str]]) -> str:
    if not pairs:
        return target
    return f"{target}{'&' if '?' in target else '?'}{urlencode(pairs)}"


def _token_of(origin: Origin, login: Login, answer: Answer) -> tuple[str, float]:
    """The token and its life in seconds."""
    match answer.status:
        case 200:
            pass
        case 401 if login.credential is not None:
            raise CredentialsRejected(f"{origin} rejects the credentials of this upstream; enter them anew")
        case 401 | 403:
            raise UpstreamDenied(f"{origin} gives no token for {login.scope or 'this'}")
        case 429:
            raise UpstreamBusy(f"{origin} wants fewer logins", retry_after_s=retry_after_s(answer))
        case status:
            raise UpstreamFailed(f"{origin} answers {status} instead of a token")
    try:
        document: Any = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise UpstreamFailed(f"{origin} answers without a token") from error
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise UpstreamFailed(f"{origin} answers without a token")
    life_s = fields.get("expires_in")
    if isinstance(life_s, bool) or not isinstance(life_s, int | float) or not life_s > 0:
        life_s = _LEAST_S
    return token, min(life_s, _LONGEST_S)


def retry_after_s(answer: Answer) -> int | None:
    """The seconds that Retry-After asks for, a day at most; None where it gives none, or a date."""
    text = answer.header("retry-after")
    return min(int(text), 86400) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004
