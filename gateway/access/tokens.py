"""Registry tokens: issuing and verifying them, in one file, which alone knows the JWT library.

Claims (row TOK-16): `iss` and `aud` are the service, `sub` is the account's id ("" for anonymous), `exp`, `nbf`, `iat`,
`jti`, and `access` as distribution's token document has it, where each repository entry also carries our repository id.
Private: `epoch` of the account and `cred`, the credential it was exchanged from. A valid token proves what was issued;
what it is still worth is decided live by `authenticate` and `rights`.

The library checks signature, issuer and audience. Everything else is checked here, because it accepts more than we
want: times as strings and floats, lifetimes without bound, tokens without `typ` (security.md T3).
"""

import hashlib
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import jwt

from gateway.access.actions import TOKEN_ACTIONS, Action
from gateway.access.errors import InvalidToken
from gateway.access.keyring import LEEWAY_S, Key, Keyring
from gateway.access.principal import Principal, TokenAccess
from gateway.logs import get_logger

MAX_TOKEN_BYTES: Final = 8192
"""Longer tokens are neither made nor read: servers and proxies refuse such headers (row TOK-18)."""

MAX_LIFETIME_S: Final = 900
"""What the configuration allows at most; a token that says more was not made by us as we are."""

_ACCESS_BUDGET_BYTES: Final = 4096  # of JSON; in base 64 with the other claims and the signature well below 8 KiB
_REMEMBERED: Final = 4096  # verified tokens; about 2 KiB each with their claims
_REUSED_S: Final = 10
"""A fleet asks for the same token hundreds of times in a row. For so long it is given the one that was made first: that
saves a signature each time, and answers that are remembered by their token (`v2.lane`) serve all who hold it."""
_SHORTEST_S: Final = 60  # of what a token has left when it is handed out (row TOK-10)
_REUSABLE: Final = 1024  # tokens; about 2 KiB each
_TYPE: Final = "JWT"
_HEADERS: Final = frozenset({"typ", "alg", "kid"})
_SUBJECT: Final = re.compile(r"(?:[1-9][0-9]{0,18})?")
_log = get_logger(__name__)
_CATALOG: Final = {"type": "registry", "name": "catalog", "actions": ["*"]}


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token as the client gets it. `issued_at` in Unix seconds."""

    text: str
    expires_in_s: int
    issued_at: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. `account_id` is None for anonymous tokens.

    In Unix seconds: `expires_at` as it stands there, `valid_until` when it is refused, which is later by the leeway
    unless its key ends sooner.
    """

    account_id: int | None
    epoch: int
    credential_id: int | None
    access: tuple[TokenAccess, ...]
    catalog: bool
    expires_at: int
    valid_until: int


class TokenIssuer:
    """Issues and verifies. One per process; safe for any number of tasks."""

    def __init__(self, keyring: Keyring, *, service: str, lifetime_s: int, clock: Callable[[], float]) -> None:
        """`lifetime_s`: 60 to 900; below 60 docker uses dead tokens (row TOK-10)."""
        self._keyring = keyring
        self._service = service
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._reused_s = min(_REUSED_S, lifetime_s - _SHORTEST_S)
        self._issued: OrderedDict[tuple[Any, ...], IssuedToken] = OrderedDict()
        self._verified: OrderedDict[bytes, tuple[str, Claims]] = OrderedDict()

    def issue(self, principal: Principal, *, access: Sequence[TokenAccess], catalog: bool) -> IssuedToken:
        """A token for the principal's account, narrowed to `access`, which must fit (see `fitting`).

        The same that says exactly the same is given again for some seconds, with what it has left to live.

        Decides nothing: the caller has computed `access` from live rights. Raises `Unavailable` without a signing key.
        """
        key = self._keyring.signing()
        now = int(self._clock())
        account = principal.account
        saying = (key.kid, account and (account.id, account.epoch), principal.credential_id, tuple(access), catalog)
        before = self._issued.get(saying)
        if before is not None and 0 <= now - before.issued_at < self._reused_s:
            return replace(before, expires_in_s=before.expires_in_s - (now - before.issued_at))
        issued = self._make(key, principal, access, catalog=catalog, now=now)
        self._issued[saying] = issued
        self._issued.move_to_end(saying)
        while len(self._issued) > _REUSABLE:
            self._issued.popitem(last=False)
        return issued

    def _make(
        self, key: Key, principal: Principal, access: Sequence[TokenAccess], *, catalog: bool, now: int
    ) -> IssuedToken:
        entries = [_entry(each) for each in access] + ([_CATALOG] if catalog else [])
        claims: dict[str, Any] = {
            "iss": self._service,
            "sub": "",
            "aud": self._service,
            "exp": now + self._lifetime_s,
            "nbf": now,
            "iat": now,
            "jti": secrets.token_hex(16),
            "access": entries,
        }
        if principal.account is not None:
            claims |= {"sub": str(principal.account.id), "epoch": principal.account.epoch}
        if principal.credential_id is not None:
            claims["cred"] = principal.credential_id
        text = jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.kid, "typ": _TYPE})
        if len(text) > MAX_TOKEN_BYTES:
            raise ValueError(f"a token of {len(text)} bytes: pass `access` through `fitting` first")
        return IssuedToken(text, self._lifetime_s, now)

    async def verify(self, text: str) -> Claims:
        """What the token says, if we signed it for this service and its time is now, give or take the leeway.

        Raises `InvalidToken`, and storage errors if its key could not be looked up. Makes no connections.
        """
        if len(text) > MAX_TOKEN_BYTES or not text.isascii():
            raise InvalidToken("too long or not ASCII")
        digest = hashlib.sha256(text.encode("ascii")).digest()
        remembered = self._verified.get(digest)
        if remembered is not None and self._keyring.find(remembered[0]) is not None:
            self._verified.move_to_end(digest)
            self._require_unexpired(remembered[1].valid_until)
            return remembered[1]
        key = await self._key_of(text)
        claims = self._read(self._decode(text, key), key)
        self._verified[digest] = (key.kid, claims)
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)
        return claims

    async def _key_of(self, text: str) -> Key:
        """The key that the header names, if the header is one of ours; key material in it is not looked at (T1)."""
        try:
            header = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken("not a JWT") from error
        if header.keys() != _HEADERS or header["typ"] != _TYPE or not isinstance(header["kid"], str):
            raise InvalidToken("a header that we do not write")
        key = await self._keyring.find_or_reload(header["kid"])
        if key is None:
            raise InvalidToken("signed with an unknown or retired key")
        if header["alg"] != key.algorithm:
            raise InvalidToken("another algorithm than the key's")
        return key

    def _decode(self, text: str, key: Key) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                key.verifying,
                algorithms=[key.algorithm],
                audience=self._service,
                issuer=self._service,
                options={
                    "require": ["iss", "sub", "aud", "exp", "nbf", "iat", "jti"],
                    "strict_aud": True,
                    "verify_exp": False,  # by our clock and our rules, in _read
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken(f"refused: {type(error).__name__}") from error
        return claims

    def _read(self, claims: Mapping[str, Any], key: Key) -> Claims:
        expires_at, not_before, issued_at = (_time(claims, name) for name in ("exp", "nbf", "iat"))
        if not 0 < expires_at - issued_at <= MAX_LIFETIME_S:
            raise InvalidToken("it would live longer than tokens may")
        if (ahead_s := max(not_before, issued_at) - self._clock()) > LEEWAY_S:
            _log.error("token_from_the_future", ahead_s=int(ahead_s))  # one of us signed it, so a clock is wrong (T13)
            raise InvalidToken("issued in the future: compare the clocks of the replicas")
        valid_until = min(expires_at + LEEWAY_S, key.verifies_until)
        self._require_unexpired(valid_until)
        subject = claims["sub"]
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject) or not isinstance(claims["jti"], str):
            raise InvalidToken("a subject or id that we do not write")
        access, catalog = _access(claims.get("access"))
        return Claims(
            account_id=int(subject) if subject else None,
            epoch=_number(claims.get("epoch", 0)),
            credential_id=_number(claims["cred"]) if "cred" in claims else None,
            access=access,
            catalog=catalog,
            expires_at=expires_at,
            valid_until=valid_until,
        )

    def _require_unexpired(self, valid_until: int) -> None:
        if self._clock() >= valid_until:
            raise InvalidToken("expired")


def fitting(access: Sequence[TokenAccess]) -> tuple[TokenAccess, ...]:
    """The first entries that a token has room for. A client that needs the others asks again for them (row TOK-18)."""
    kept = []
    room = _ACCESS_BUDGET_BYTES
    for each in access:
        room -= len(json.dumps(_entry(each)))
        if room < 0:
            break
        kept.append(each)
    return tuple(kept)


def _entry(access: TokenAccess) -> dict[str, Any]:
    actions = sorted(access.actions & TOKEN_ACTIONS)
    return {"type": "repository", "name": access.name, "actions": actions, "id": access.repository_id}


def _access(entries: object) -> tuple[tuple[TokenAccess, ...], bool]:
    if not isinstance(entries, list):
        raise InvalidToken("no access list")
    try:
        found = tuple(
            TokenAccess(entry["name"], _number(entry["id"]), frozenset(map(Action, entry["actions"])) & TOKEN_ACTIONS)
            for entry in entries
            if entry["type"] == "repository"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidToken("an access entry that we do not write") from error
    return found, _CATALOG in entries


def _time(claims: Mapping[str, Any], name: str) -> int:
    """Whole seconds: not a string, not a float, not a bool, which the library would take (security.md T3)."""
    return _number(claims[name])


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidToken("a number that is none")
    return value
