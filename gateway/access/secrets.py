"""Random secrets that stand for an account: personal tokens, robot keys, refresh tokens. Pure; rows are elsewhere.

A secret is `prefix + 43 characters (256 random bits) + 6 characters (CRC-32)`, all of base 62, so it passes unescaped
through URLs, forms, Basic headers and shells, and secret scanners can find it without false alarms. The checksum is no
protection: it only tells a damaged secret from a whole one without asking the database. Because the secret is random,
one SHA-256 is enough to store it (security.md 3.2); the slow password hash is never involved, so fleets stay cheap.
"""

import hashlib
import secrets
import zlib
from enum import StrEnum
from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BITS: Final = 256
_RANDOM_CHARS: Final = 43  # 62 ** 43 > 2 ** 256
_CHECK_CHARS: Final = 6  # 62 ** 6 > 2 ** 32


class SecretKind(StrEnum):
    """What a secret is for; the values are those of the `kind` column of credentials."""

    PERSONAL = "personal"
    ROBOT = "robot"
    REFRESH = "refresh"

    @property
    def prefix(self) -> str:
        """How every secret of this kind begins."""
        return _PREFIXES[self]


_PREFIXES: Final = {
    SecretKind.PERSONAL: "sluice_pat_",
    SecretKind.ROBOT: "sluice_key_",
    SecretKind.REFRESH: "sluice_ref_",
}


def mint(kind: SecretKind) -> tuple[str, str]:
    """A new secret: its text, to be shown once, and the SHA-256 (hex) to store."""
    stem = kind.prefix + _base62(secrets.randbits(_RANDOM_BITS), _RANDOM_CHARS)
    text = stem + _checksum(stem)
    return text, hash_secret(text)


def hash_secret(text: str) -> str:
    """The SHA-256 (hex) under which a secret is stored and looked up."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def kind_of(text: str) -> SecretKind | None:
    """The kind whose prefix `text` begins with, whole or not; None for what cannot be a secret of ours."""
    return next((kind for kind, prefix in _PREFIXES.items() if text.startswith(prefix)), None)


def looks_like(text: str, kind: SecretKind) -> bool:
    """Whether `text` could be a secret of that kind: prefix, length and checksum fit. Whether it is, a row tells."""
    if not text.startswith(kind.prefix) or len(text) != len(kind.prefix) + _RANDOM_CHARS + _CHECK_CHARS:
        return False
    return text.isascii() and text[-_CHECK_CHARS:] == _checksum(text[:-_CHECK_CHARS])


def _checksum(stem: str) -> str:
    return _base62(zlib.crc32(stem.encode("ascii")), _CHECK_CHARS)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
