"""How a scripted upstream wants to be asked: challenges in every form that occurs, and the tokens that it gives.

One `Bearer` may serve two upstreams: one that wants tokens and one, elsewhere, that gives them.
"""

import base64
import binascii
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.upstream.script import Delivery, Seen

Form = Literal["plain", "basic first", "basic last", "two headers", "odd"]


class Authentication(Protocol):
    """Who may ask, and what others are told."""

    def refusal(self, seen: Seen, origin: str) -> Delivery | None:
        """The answer for who may not; None for who may. `origin`: the upstream's own URL."""

    def token(self, seen: Seen) -> Delivery | None:
        """What the token endpoint answers; None if there is none."""


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody asked for a token. `user` is None for anybody; `is_accepted`: got one."""

    user: str | None
    scopes: tuple[str, ...]
    is_accepted: bool


@dataclass(frozen=True, slots=True)
class Nobody:
    """Everybody may ask."""

    def refusal(self, seen: Seen, origin: str) -> Delivery | None:
        """See `Authentication`."""
        return None

    def token(self, seen: Seen) -> Delivery | None:
        """See `Authentication`."""
        return None


@dataclass(frozen=True, slots=True)
class Basic:
    """A name and its password with every request."""

    users: Mapping[str, str]

    def refusal(self, seen: Seen, origin: str) -> Delivery | None:
        """See `Authentication`."""
        user, password = basic_of(seen)
        if user is not None and self.users.get(user) == password:
            return None
        return _unauthorized([("WWW-Authenticate", 'Basic realm="scripted"')])

    def token(self, seen: Seen) -> Delivery | None:
        """See `Authentication`."""
        return None


@dataclass(slots=True)
class Bearer:
    """Tokens, from `/token` of the upstream itself or from `realm`.

    `users`: who may have them by Basic; `is_open`: anybody else may too. `form`: how the challenge is written. `key`:
    how the token is called in the answer. `expires_in_s`: what the answer says, None: nothing; `lives_s`: how long
    tokens really are good. What else can go wrong at `/token` is scripted by `on("token")`.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    realm: str | None = None
    service: str = "scripted"
    form: Form = "plain"
    key: Literal["token", "access_token"] = "token"
    expires_in_s: int | None = 300
    lives_s: float = 300.0
    logins: list[Login] = field(default_factory=list)
    """Everybody who asked for a token, in this order."""
    _given: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)

    def refusal(self, seen: Seen, origin: str) -> Delivery | None:
        """See `Authentication`."""
        scope = f"repository:{seen.name}:pull" if seen.name else ""
        kind, _, token = (seen.header("authorization") or "").partition(" ")
        ends_at, scopes = self._given.get(token.strip(), (0.0, ()))
        if kind.lower() == "bearer" and ends_at > time.monotonic() and (not scope or scope in scopes):
            return None
        return _unauthorized(self._challenges(self.realm or f"{origin}/token", scope))

    def token(self, seen: Seen) -> Delivery | None:
        """See `Authentication`."""
        user, password = basic_of(seen)
        scopes = tuple(seen.query.get("scope", []))
        is_accepted = self.is_open if user is None else self.users.get(user) == password
        self.logins.append(Login(user, scopes, is_accepted))
        if not is_accepted:
            return _unauthorized([("WWW-Authenticate", 'Basic realm="scripted"')])
        token = secrets.token_urlsafe(24)
        self._given[token] = time.monotonic() + self.lives_s, scopes
        lasts = {} if self.expires_in_s is None else {"expires_in": self.expires_in_s}
        return Delivery(200, [("Content-Type", "application/json")], json.dumps({self.key: token, **lasts}).encode())

    def forget(self) -> None:
        """No token given so far is good any more."""
        self._given.clear()

    def _challenges(self, realm: str, scope: str) -> list[tuple[str, str]]:
        scoped = f',scope="{scope}"' if scope else ""
        bearer, basic = f'Bearer realm="{realm}",service="{self.service}"{scoped}', 'Basic realm="scripted, or not"'
        values = {
            "plain": [bearer],
            "basic first": [f"{basic}, {bearer}"],
            "basic last": [f"{bearer}, {basic}"],
            "two headers": [basic, bearer],
            "odd": [self._odd(realm, scope)],
        }
        return [("WWW-Authenticate", value) for value in values[self.form]]

    def _odd(self, realm: str, scope: str) -> str:
        """Odd case, spaces, an unquoted value, quoted pairs, a parameter nobody knows with a comma in it."""
        escaped = realm.replace("/", "\\/")
        scoped = f' , SCOPE = "{scope}"' if scope else ""
        return f'bEARER  Service={self.service} , note="a, b=\\"c\\"",ReAlM = "{escaped}"{scoped}'


def basic_of(seen: Seen) -> tuple[str | None, str]:
    """Name and password of a Basic field; None without one."""
    kind, _, value = (seen.header("authorization") or "").partition(" ")
    if kind.lower() != "basic":
        return None, ""
    try:
        user, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


def _unauthorized(challenges: list[tuple[str, str]]) -> Delivery:
    document = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
    return Delivery(401, [("Content-Type", "application/json"), *challenges], document)
