"""The keys that sign registry tokens: shared by all processes through the database, replaced without a failed request.

Rules of the ring:
- A key is published (inserted) at least `PUBLISH_AHEAD_S` before it signs; every process reloads more often than that,
  so each knows a key before anyone signs with it. Only when there is none at all, the first signs at once.
- The successor of the signing key is always published already: two active keys, and a dead database delays nothing.
- Of the keys that may sign, the one whose time came last signs; a key verifies longer than its last token lives.
- Keys are inserted in a write transaction that looks again first, so of several processes one makes the key.
Knows keys and time; not what is signed with them. Times are Unix seconds.
"""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import trio
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from gateway.access.sealing import OtherSecretKey, SealBroken, Sealer
from gateway.logs import get_logger
from storage import Database, SigningKeyRecord, StorageError, Transaction, Unavailable
from storage.metadata import signing_keys

Algorithm: TypeAlias = Literal["HS256", "ES256"]

REFRESH_INTERVAL_S: Final = 60
"""How often every process should call `Keyring.refresh`: ten times before a new key signs."""

PUBLISH_AHEAD_S: Final = 600
LEEWAY_S: Final = 30
"""How far clocks of replicas may disagree (security.md 3.2)."""

_KEPT_LONGER_S: Final = 60  # a key outlives its last token by the leeway and some
_RELOAD_PAUSE_S: Final = 5.0  # a flood of invented key ids costs one read per pause (security row T3)
_FAILED_PAUSE_S: Final = 1.0  # and while reading fails, one try per second
_MAX_KID_CHARS: Final = 64
_HS256_BYTES: Final = 32
_COLUMN: Final = "signing_keys.sealed_key"
_DIFFERS: Final = (
    "another secret key than the one at hand seals the signing keys in the database: give every replica the same, in "
    "access.secret_key or as the file secret.key in its data directory, which the first replica made. If that key is "
    "lost: with all replicas stopped, `DELETE FROM signing_keys` in the database ends all tokens that were given out, "
    "and the key of the replica that starts first becomes the one"
)
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """One opened key. `algorithm` is the only one it may be used with, whatever a token's header says (row T2)."""

    kid: str
    algorithm: str
    private: bytes | ec.EllipticCurvePrivateKey = field(repr=False)
    signs_from: int
    signs_until: int
    verifies_until: int

    @property
    def verifying(self) -> bytes | ec.EllipticCurvePublicKey:
        """What checks signatures made with this key."""
        return self.private if isinstance(self.private, bytes) else self.private.public_key()


class SecretKeyDiffers(Unavailable):
    """Another secret key seals the database's signing keys than the one at hand. The message says what to do.

    While it lasts, tokens of other replicas cannot be judged here, which is trouble of ours: 503, never 401.
    """


class Keyring:
    """One per process. `refresh` before the first use, then every `REFRESH_INTERVAL_S`."""

    def __init__(
        self,
        database: Database,
        *,
        sealer: Sealer,
        algorithm: Algorithm,
        rotation_s: int,
        token_lifetime_s: int,
        clock: Callable[[], float],
        is_shared: bool = False,
    ) -> None:
        """`is_shared`: the database serves other machines, too, which must have the same secret key.

        A key that another one sealed is then no leftover but a replica's: whoever came with a key of their own would
        refuse the other's tokens, so `refresh` raises `SecretKeyDiffers`, before it makes any.
        """
        self._database = database
        self._sealer = sealer
        self._algorithm: Algorithm = algorithm
        self._rotation_s = rotation_s
        self._token_s = token_lifetime_s + LEEWAY_S
        self._clock = clock
        self._is_shared = is_shared
        self._keys: dict[str, Key] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._reloading = trio.Lock()
        self._reloaded_at = float("-inf")
        self._failed_at = float("-inf")
        self.reloads = 0
        """How often unknown key ids made us look into the database, for metrics."""
        self.withdrawn = 0
        """How many keys that were known here have gone: tokens that were good may not be any more."""

    async def refresh(self) -> None:
        """Load the keys, and make those that are due. Raises storage errors; the keys known so far stay in use.

        Raises `SecretKeyDiffers` where the database is shared with other machines.
        """
        await self._load()
        if self._due(self._keys.values(), self._now()):
            await self._database.transaction(self._replenish)
            await self._load()

    def signing(self) -> Key:
        """The key to sign with now; `Unavailable` if there is none, which `refresh` mends."""
        key = self._pick(self._keys.values(), self._now())
        if key is None:
            raise Unavailable("no key to sign tokens with: the database did not answer when one was due")
        return key

    def find(self, kid: str) -> Key | None:
        """The key of that id, if it is known here and still verifies."""
        key = self._keys.get(kid)
        return key if key is not None and self._now() < key.verifies_until else None

    async def find_or_reload(self, kid: str) -> Key | None:
        """As `find`, but look into the database for an unknown id, at most once per `_RELOAD_PAUSE_S`.

        Raises storage errors: a key that could not be looked up is not an unknown key. For `_FAILED_PAUSE_S` after that
        it raises `Unavailable` without trying.
        """
        if len(kid) > _MAX_KID_CHARS:
            return None
        if (key := self.find(kid)) is not None:
            return key
        async with self._reloading:  # held over the read: whoever waits profits from it instead of repeating it
            if self._reloaded_at + _RELOAD_PAUSE_S <= trio.current_time():
                await self._reload()
        return self.find(kid)

    async def _reload(self) -> None:
        if trio.current_time() < self._failed_at + _FAILED_PAUSE_S:
            raise Unavailable("the keys that sign tokens could not be read a moment ago")
        try:
            await self._load()
        except StorageError:
            self._failed_at = trio.current_time()
            raise
        self._reloaded_at = trio.current_time()
        self.reloads += 1

    # --- which key when -------------------------------------------------------------------------------------------

    def _pick(self, keys: Iterable[Key], now: int) -> Key | None:
        """The key that signs now: of the configured algorithm if one can, of those the one whose time came last."""
        able = [key for key in keys if key.signs_from <= now and now + self._token_s < key.verifies_until]
        return max(able, key=lambda key: (key.algorithm == self._algorithm, *_order(key)), default=None)

    def _due(self, keys: Iterable[Key], now: int) -> list[int]:
        """When the keys that are missing have to begin to sign; empty if none is missing."""
        usable = list(keys)
        ours = [key for key in usable if key.algorithm == self._algorithm and now + self._token_s < key.verifies_until]
        due = []
        if self._pick(usable, now) is None:
            due.append(now)
        elif not ours:  # the algorithm was changed: the old keys go on until ours is known everywhere
            due.append(now + PUBLISH_AHEAD_S)
        if all(begin <= now for begin in (*due, *(key.signs_from for key in ours))):
            last_until = due[0] + self._rotation_s if due else max(ours, key=_order).signs_until
            due.append(max(last_until, now + PUBLISH_AHEAD_S))
        return due

    # --- rows -----------------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        records = await self._database.read(signing_keys.current, self._now())
        known = self._keys
        self._keys = {key.kid: key for record in records if (key := self._open(record)) is not None}
        self.withdrawn += len(known.keys() - self._keys.keys())

    def _replenish(self, tx: Transaction) -> None:
        """In a write transaction: look again, make what is still due, and drop what verifies nothing any more."""
        now = self._now()
        keys = [key for record in signing_keys.current(tx, now) if (key := self._open(record)) is not None]
        for signs_from in self._due(keys, now):
            self._insert(tx, signs_from, now)
        signing_keys.delete_expired(tx, now)

    def _insert(self, tx: Transaction, signs_from: int, now: int) -> SigningKeyRecord:
        kid = secrets.token_hex(8)
        signs_until = signs_from + self._rotation_s
        # The successor may have to wait its time of publication, so this one signs on that long.
        verifies_until = signs_until + PUBLISH_AHEAD_S + self._token_s + LEEWAY_S + _KEPT_LONGER_S
        record = SigningKeyRecord(
            kid=kid,
            algorithm=self._algorithm,
            sealed_key=self._sealer.seal(_new_private(self._algorithm), column=_COLUMN, row=kid),
            created_at=now,
            signs_from=signs_from,
            signs_until=signs_until,
            verifies_until=verifies_until,
        )
        signing_keys.insert(tx, record)
        return record

    def _open(self, record: SigningKeyRecord) -> Key | None:
        """The key of a row; None, and said aloud once, if it does not open: its tokens are then unknown here."""
        known = self._keys.get(record.kid)
        if known is not None:
            return known
        try:
            private = _private(record.algorithm, self._sealer.open(record.sealed_key, column=_COLUMN, row=record.kid))
        except OtherSecretKey as error:
            if self._is_shared:
                raise SecretKeyDiffers(_DIFFERS) from error
            self._complain(record.kid, error)
            return None
        except (SealBroken, ValueError) as error:
            self._complain(record.kid, error)
            return None
        return Key(
            kid=record.kid,
            algorithm=record.algorithm,
            private=private,
            signs_from=record.signs_from,
            signs_until=record.signs_until,
            verifies_until=record.verifies_until,
        )

    def _complain(self, kid: str, error: Exception) -> None:
        if kid not in self._unreadable:
            self._unreadable |= {kid}
            _log.error("signing_key_unreadable", kid=kid, reason=str(error))

    def _now(self) -> int:
        return int(self._clock())


def _order(key: Key) -> tuple[int, str]:
    """By time, and the same in every process when two keys were made at once."""
    return key.signs_from, key.kid


def _new_private(algorithm: Algorithm) -> bytes:
    match algorithm:
        case "HS256":
            return secrets.token_bytes(_HS256_BYTES)
        case "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
            return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _private(algorithm: str, raw: bytes) -> bytes | ec.EllipticCurvePrivateKey:
    """`ValueError` for what a newer version may have written."""
    if algorithm == "HS256":
        return raw
    private = load_der_private_key(raw, password=None)
    if algorithm != "ES256" or not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError(f"this version does not know the algorithm {algorithm}")
    return private
