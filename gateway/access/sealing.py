"""Secrets at rest: sealed with the installation's secret key, bound to the row and column that holds them.

AES-256-GCM under a key derived from the secret key. A sealed value is `version (1 byte), key id (8), nonce (12),
ciphertext and tag`; row and column are authenticated with it, so a value moved to another row does not open.
Knows files and bytes; no database.
"""

import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_KEY_BYTES: Final = 32
MIN_SETTING_CHARS: Final = 32
"""A secret key that is set by hand: 32 characters of hex are 128 bits, less could be guessed."""

_VERSION: Final = b"\x01"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12
_FINGERPRINT_BYTES: Final = 16
_HEAD_BYTES: Final = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES
_FILE_TEXT: Final = re.compile(rf"[0-9a-f]{{{2 * SECRET_KEY_BYTES}}}\n?")


class SealBroken(Exception):
    """A sealed value does not open: another secret key, another row, or damage. The message says which is likely."""


class OtherSecretKey(SealBroken):
    """A sealed value that another secret key sealed: it opens again with that key, and never with this one."""


class Sealer:
    """Seals and opens small values. Immutable; safe for any number of tasks and threads."""

    def __init__(self, secret_key: bytes) -> None:
        """`secret_key` comes from `load_or_create_key` or `key_from_setting`."""
        self._cipher = AESGCM(_derive(secret_key, "sluice sealing key", SECRET_KEY_BYTES))
        self._key_id = _derive(secret_key, "sluice sealing key id", _KEY_ID_BYTES)
        self._fingerprint_key = _derive(secret_key, "sluice fingerprint key", SECRET_KEY_BYTES)

    def seal(self, value: bytes, *, column: str, row: str) -> bytes:
        """The sealed form of `value` for that column (`table.column`) of that row (its key)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + self._key_id + nonce + self._cipher.encrypt(nonce, value, _place(column, row))

    def open(self, sealed: bytes, *, column: str, row: str) -> bytes:
        """The value that was sealed for that very place; raises `SealBroken`."""
        if len(sealed) < _HEAD_BYTES or sealed[:1] != _VERSION:
            raise SealBroken(f"{column} of {row} is in no known format: it is damaged, or a newer version wrote it")
        if sealed[1 : 1 + _KEY_ID_BYTES] != self._key_id:
            raise OtherSecretKey(f"{column} of {row} was sealed with another secret key: restore that key")
        nonce = sealed[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES]
        try:
            return self._cipher.decrypt(nonce, sealed[_HEAD_BYTES:], _place(column, row))
        except InvalidTag:
            raise SealBroken(f"{column} of {row} is damaged or belongs to another row") from None

    def fingerprint(self, value: bytes) -> str:
        """The same for the same value, 32 hexadecimal digits; without the secret key nobody can try values with it."""
        return blake2b(value, key=self._fingerprint_key, digest_size=_FINGERPRINT_BYTES).hexdigest()


def key_from_setting(text: str) -> bytes:
    """The secret key from the configuration: any text of at least 32 characters. `ValueError` if shorter.

    The text must be random (`openssl rand -hex 32`): it is not stretched as a password would be.
    """
    if len(text) < MIN_SETTING_CHARS:
        raise ValueError(f"access.secret_key needs at least {MIN_SETTING_CHARS} random characters")
    return _derive(text.encode(), "sluice secret key from setting", SECRET_KEY_BYTES)


def load_or_create_key(path: Path, *, key: bytes | None = None) -> bytes:
    """The secret key in the file `path`, made first (mode 0600, durable) if there is none. Blocks; for the start.

    It is random, or the `key` of another installation that moves here.

    Any number of processes may call it at once: all get the same key. Its directory must exist, on a local disk.
    Raises OSError, and `ValueError` for a file that holds no key or that everybody can read.
    """
    with _alone_in(path.parent):
        if not path.exists():
            _create(path, secrets.token_bytes(SECRET_KEY_BYTES) if key is None else key)
    return _load(path)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, then make its names durable. The kernel frees the lock of a process that dies."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path, key: bytes) -> None:
    """Under the lock. What a crash left of an earlier try is written over; the name appears with all bytes or not."""
    unfinished = path.with_name(path.name + ".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask or the leftover says
        file.write(key.hex().encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)


def _load(path: Path) -> bytes:
    with path.open("r", encoding="ascii", errors="replace") as file:
        if os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
            raise ValueError(f"everybody can read {path.name}: run `chmod 600` on it")
        text = file.read(4 * SECRET_KEY_BYTES)
    if not _FILE_TEXT.fullmatch(text):
        raise ValueError(f"{path.name} holds no secret key (64 hexadecimal digits): restore it from a backup")
    return bytes.fromhex(text)


def _derive(secret: bytes, purpose: str, size_bytes: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size_bytes, salt=None, info=purpose.encode()).derive(secret)


def _place(column: str, row: str) -> bytes:
    return f"{column}\0{row}".encode()
