"""Password hashing that cannot be used against the service: bounded threads, a bounded queue, and equal work for all.

argon2id with t=2, m=19 MiB, p=1 (OWASP's minimum; 22 to 33 ms of one core here, security.md 3.2). Passwords are the
UTF-8 bytes that were sent: never truncated (row T8), never normalised, NUL allowed. Knows no accounts.
"""

import base64
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from gateway.access.errors import Overloaded
from storage import Pool

P = ParamSpec("P")
T = TypeVar("T")

MAX_PASSWORD_BYTES: Final = 1024
"""Longer ones are refused: more is no stronger, and hashing a megabyte is work that a stranger would choose."""

_TIME_COST: Final = 2
_MEMORY_KIB: Final = 19 * 1024
_PARALLELISM: Final = 1
_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_REMEMBER_S: Final = 60.0  # how long a verified password is not hashed again; a changed one is another key at once
_REMEMBERED: Final = 10_000  # 32-byte keys; about 2 MiB when full


class Passwords:
    """Hashes and verifies. One per process; safe for any number of tasks."""

    def __init__(self, *, threads: int, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = Pool("passwords", threads)
        self._room = threads + queue
        self._admitted = 0
        self._clock = clock
        self._hasher = PasswordHasher(
            time_cost=_TIME_COST,
            memory_cost=_MEMORY_KIB,
            parallelism=_PARALLELISM,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
            type=Type.ID,
        )
        self._dummy = _unmatchable()
        self._memory_key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()
        self.slow_checks = 0
        """How many full verifications ran, for metrics."""

    async def hash(self, text: str) -> str:
        """The hash to store. `ValueError` over 1,024 bytes of UTF-8 or for a lone surrogate; raises `Overloaded`."""
        return await self._run(self._hasher.hash, _encoded(text))

    async def verify(self, stored: str | None, text: str) -> bool:
        """Whether `text` is the password behind `stored`. Raises `Overloaded` at once when the queue is full.

        With `stored` None (no such account, no password) it does the same work and says no, so that time does not
        tell who exists (row T7). Over 1,024 bytes the answer is no for everybody, without work.
        """
        try:
            password = _encoded(text)
        except ValueError:
            return False
        known = stored if stored is not None else self._dummy
        key = self._key(known, password)
        if self._remembers(key):
            return True
        return await self._run(self._verify, known, password, key)

    def needs_rehash(self, stored: str) -> bool:
        """Whether `stored` was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    async def _run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._admitted >= self._room:
            raise Overloaded
        self._admitted += 1
        try:
            return await self._pool.run(call, *args, **kwargs)
        finally:
            self._admitted -= 1

    def _verify(self, stored: str, password: bytes, key: bytes) -> bool:
        """In a thread. The memory is asked again: a crowd of the same login is hashed once, not once per request."""
        if self._remembers(key):
            return True
        self.slow_checks += 1
        try:
            self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False
        self._remember(key)
        return True

    def _key(self, stored: str, password: bytes) -> bytes:
        """What a success is remembered under: it holds the stored hash, so a new password forgets the old one."""
        material = hashlib.sha256(stored.encode()).digest() + password
        return hmac.digest(self._memory_key, material, "sha256")

    def _remembers(self, key: bytes) -> bool:
        until = self._verified.get(key)
        return until is not None and self._clock() < until

    def _remember(self, key: bytes) -> None:
        self._verified.pop(key, None)
        self._verified[key] = self._clock() + _REMEMBER_S
        while len(self._verified) > _REMEMBERED:
            self._verified.popitem(last=False)


def _encoded(text: str) -> bytes:
    password = text.encode()  # UnicodeEncodeError is a ValueError
    if len(password) > MAX_PASSWORD_BYTES:
        raise ValueError(f"a password has at most {MAX_PASSWORD_BYTES} bytes")
    return password


def _unmatchable() -> str:
    """A hash of nothing, with today's parameters: verifying against it costs the same and fails."""
    salt, tag = (_unpadded(secrets.token_bytes(size)) for size in (_SALT_BYTES, _HASH_BYTES))
    return f"$argon2id$v=19$m={_MEMORY_KIB},t={_TIME_COST},p={_PARALLELISM}${salt}${tag}"


def _unpadded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii").rstrip("=")
