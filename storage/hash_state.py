"""SHA-256 whose state can be taken out and put back, so that another process goes on hashing where this one stopped.

`hashlib` keeps its state to itself. OpenSSL's older interface (SHA256_Init and so on) works on a structure of 112 bytes
and runs at the same speed; it is called by ctypes here, which lets other threads run meanwhile. Where it is not there,
or does not do in a test what it should, `available` is false and whoever needs a state reads the bytes once more.
A state means something on machines of one byte order and one layout only: it carries both as its tag.
"""

import ctypes
import hashlib
import sys
from functools import cache
from typing import Final, Self

NAMES: Final = ("libcrypto.so.3", "libcrypto.so.1.1")
_STATE_BYTES: Final = 112  # sizeof(SHA256_CTX): 8 words, 2 of the length, 16 of the block, fill, digest length
_DIGEST_BYTES: Final = 32
TAG: Final = b"sha256-openssl-1-" + sys.byteorder.encode("ascii") + b":"
_PROBE: Final = bytes(range(256)) * 3


class StateUnknown(ValueError):
    """The state was not made by this kind of machine; the bytes have to be hashed again."""


class _Calls:
    """The three functions of a library, typed."""

    def __init__(self, library: ctypes.CDLL) -> None:
        context, size = ctypes.c_void_p, ctypes.c_size_t
        self.init = library.SHA256_Init
        self.init.argtypes = [context]
        self.update = library.SHA256_Update
        self.update.argtypes = [context, ctypes.c_void_p, size]
        self.final = library.SHA256_Final
        self.final.argtypes = [ctypes.c_char_p, context]


class Sha256:
    """As `hashlib.sha256()`, as far as `Hasher` uses it, with `export` and `restore`. RuntimeError unless `available`.

    Not for two threads at once.
    """

    name: Final = "sha256"

    def __init__(self) -> None:
        calls = _calls()
        if calls is None:
            raise RuntimeError("no library offers SHA-256 with a state that can be exported")
        self._calls = calls
        self._context = ctypes.create_string_buffer(_STATE_BYTES)
        calls.init(self._context)

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Take the next bytes in order; any length."""
        if isinstance(chunk, bytes):
            self._feed(chunk, len(chunk))
            return
        view = memoryview(chunk).cast("B")
        if not view.nbytes:
            return
        if view.readonly:
            self._feed_readonly(view)
        else:
            array = (ctypes.c_char * view.nbytes).from_buffer(view)
            self._feed(array, view.nbytes)

    def _feed_readonly(self, view: memoryview) -> None:
        if isinstance(view.obj, bytes) and len(view.obj) == view.nbytes:
            self._feed(view.obj, view.nbytes)
        else:  # ctypes takes no address of it; rare, as buffers are written to before they are hashed
            self._feed(bytes(view), view.nbytes)

    def _feed(self, data: object, size_bytes: int) -> None:
        self._calls.update(self._context, data, size_bytes)

    def hexdigest(self) -> str:
        """The digest so far; more may follow."""
        digest = ctypes.create_string_buffer(_DIGEST_BYTES)
        copy = ctypes.create_string_buffer(self._context.raw, _STATE_BYTES)
        self._calls.final(digest, copy)
        return digest.raw.hex()

    def copy(self) -> Self:
        """An independent hasher in the same state."""
        twin = type(self)()
        ctypes.memmove(twin._context, self._context, _STATE_BYTES)  # noqa: SLF001 - our own class
        return twin

    def export(self) -> bytes:
        """The state, with its tag: about 140 bytes."""
        return TAG + self._context.raw

    @classmethod
    def restore(cls, state: bytes) -> Self:
        """A hasher in a state that `export` gave, in any process; `StateUnknown` for any other."""
        if not state.startswith(TAG) or len(state) != len(TAG) + _STATE_BYTES:
            raise StateUnknown("the state of this hash was made by another kind of machine")
        hasher = cls()
        ctypes.memmove(hasher._context, state[len(TAG) :], _STATE_BYTES)
        return hasher


def available() -> bool:
    """Whether this process can export states."""
    return _calls() is not None


@cache
def _calls() -> _Calls | None:
    """The first library that passes the test; looked for once."""
    for name in NAMES:
        try:
            calls = _Calls(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
        if _works(calls):
            return calls
    return None


def _works(calls: _Calls) -> bool:
    """Whether a digest comes out right that is interrupted within a block and goes on from a copy of its state."""
    first, digest = ctypes.create_string_buffer(2 * _STATE_BYTES), ctypes.create_string_buffer(_DIGEST_BYTES)
    calls.init(first)
    calls.update(first, _PROBE[:100], 100)
    if any(first.raw[_STATE_BYTES:]):  # the structure is larger than we take it for
        return False
    second = ctypes.create_string_buffer(first.raw[:_STATE_BYTES], _STATE_BYTES)
    calls.update(second, _PROBE[100:], len(_PROBE) - 100)
    calls.final(digest, second)
    return digest.raw == hashlib.sha256(_PROBE).digest()
