"""Digests: the name of every byte sequence in Sluice, and the one hasher that makes them.

Knows nothing of stores, rows or HTTP. Grammar: image-spec v1.1.1 descriptor.md, "Digests"; only the two
registered algorithms are accepted because an unknown one could not be verified.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from storage import hash_state

CANONICAL: Final = "sha256"
HEX_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_GRAMMAR: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")
# Longer than any grammatical digest that is in use; a bound before the pattern runs.
_MOST_CHARACTERS: Final = 255
_LOWER_HEX: Final = re.compile(r"[0-9a-f]+")


class DigestInvalid(ValueError):
    """The text is no digest that Sluice can verify; sending it again cannot help."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """Algorithm and lowercase hex; equal digests name equal bytes. Build it with `parse`, never by hand."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `sha256:<64 lowercase hex>` or `sha512:<128>`; anything else raises `DigestInvalid`."""
        if len(text) > _MOST_CHARACTERS or not _GRAMMAR.fullmatch(text):
            raise DigestInvalid(f"malformed digest {text[:80]!a}: expected algorithm:hex")
        algorithm, _, value = text.partition(":")
        expected = HEX_LENGTHS.get(algorithm)
        if expected is None:
            raise DigestInvalid(f"unsupported digest algorithm {algorithm!r}: use sha256 or sha512")
        if len(value) != expected or not _LOWER_HEX.fullmatch(value):
            raise DigestInvalid(f"malformed {algorithm} digest: expected {expected} lowercase hex digits")
        return cls(algorithm, value)

    @classmethod
    def of(cls, content: bytes, algorithm: str = CANONICAL) -> Self:
        """Digest of bytes that are small enough to hash where you stand (≤ 4 MiB: about 2.5 ms)."""
        if algorithm not in HEX_LENGTHS:
            raise DigestInvalid(f"unsupported digest algorithm {algorithm!r}: use sha256 or sha512")
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Hasher:
    """Incremental hash of one byte sequence. Not for two threads at once; it releases the GIL above 2 KiB."""

    __slots__ = ("_hash", "size_bytes")

    def __init__(self, algorithm: str = CANONICAL) -> None:
        if algorithm not in HEX_LENGTHS:
            raise DigestInvalid(f"unsupported digest algorithm {algorithm!r}: use sha256 or sha512")
        self._hash: hashlib._Hash | hash_state.Sha256 = hashlib.new(algorithm)
        self.size_bytes = 0

    @classmethod
    def portable(cls) -> Self:
        """A new sha256 hasher that has a `state`, where this machine offers one; else one like any other."""
        hasher = cls()
        if hash_state.available():
            hasher._hash = hash_state.Sha256()
        return hasher

    @classmethod
    def restored(cls, state: bytes, size_bytes: int) -> Self | None:
        """The hasher that had this `state` after so many bytes; None if it means nothing on this machine."""
        hasher = cls()
        try:
            hasher._hash = hash_state.Sha256.restore(state)
        except (hash_state.StateUnknown, RuntimeError):
            return None
        hasher.size_bytes = size_bytes
        return hasher

    @property
    def state(self) -> bytes | None:
        """What another process needs to go on (about 140 bytes); None unless made by `portable` or `restored`."""
        return self._hash.export() if isinstance(self._hash, hash_state.Sha256) else None

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes in order; any length."""
        self._hash.update(chunk)
        self.size_bytes += memoryview(chunk).nbytes

    def digest(self) -> Digest:
        """Digest of everything so far; more may follow."""
        return Digest(self._hash.name, self._hash.hexdigest())

    def copy(self) -> "Hasher":
        """An independent hasher in the same state: a failed chunk can be forgotten by going back to it."""
        twin = Hasher.__new__(Hasher)
        twin._hash = self._hash.copy()  # noqa: SLF001 - our own class
        twin.size_bytes = self.size_bytes
        return twin
