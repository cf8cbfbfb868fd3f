"""SHA-256 with a state: the same digests as hashlib's, wherever it is interrupted and moved to."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Digest, Hasher, hash_state
from storage.hash_state import TAG, Sha256, StateUnknown

DATA = bytes(range(256)) * 40


@given(st.lists(st.integers(0, 300), max_size=30))
def test_any_split_and_any_stop(sizes: list[int]) -> None:
    """Taken up again from its state after every chunk, it gives the digest of all of them."""
    hasher, expected, at = Sha256(), hashlib.sha256(), 0
    for size in sizes:
        chunk = DATA[at : at + size]
        hasher.update(chunk)
        expected.update(chunk)
        hasher, at = Sha256.restore(hasher.export()), at + size
        assert hasher.hexdigest() == expected.hexdigest()


def test_every_kind_of_buffer() -> None:
    """Bytes, bytearrays, and views of both, writable or not, whole or in part."""
    hasher = Sha256()
    for chunk in (DATA, bytearray(DATA), memoryview(DATA), memoryview(DATA)[3:9], memoryview(bytearray(DATA))[1:], b""):
        hasher.update(chunk)
    assert hasher.hexdigest() == hashlib.sha256(DATA * 3 + DATA[3:9] + DATA[1:]).hexdigest()


def test_buffer_stays_usable() -> None:
    """Hashing does not pin a buffer: it may be resized afterwards."""
    buffer = bytearray(DATA)
    Sha256().update(memoryview(buffer)[1:])
    buffer.extend(b"more")
    assert len(buffer) == len(DATA) + 4


def test_copy_is_independent() -> None:
    """What a copy takes does not change the one it was made from."""
    hasher = Sha256()
    hasher.update(b"one")
    twin = hasher.copy()
    twin.update(b"two")
    assert hasher.hexdigest() == hashlib.sha256(b"one").hexdigest()
    assert twin.hexdigest() == hashlib.sha256(b"onetwo").hexdigest()


def test_another_process_goes_on() -> None:
    """The state means the same in another process."""
    hasher = Sha256()
    hasher.update(DATA[:1000])
    script = (
        "import sys; from storage.hash_state import Sha256; h = Sha256.restore(bytes.fromhex(sys.argv[1]));"
        "h.update(bytes.fromhex(sys.argv[2])); print(h.hexdigest())"
    )
    command = [sys.executable, "-c", script, hasher.export().hex(), DATA[1000:3000].hex()]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()
    assert told == hashlib.sha256(DATA[:3000]).hexdigest()


@pytest.mark.parametrize("state", [b"", b"x" * 140, TAG, TAG + bytes(111), b"sha256-other-1:" + bytes(112)])
def test_foreign_state(state: bytes) -> None:
    """A state of another kind of machine is refused, and a hasher is not made of it."""
    with pytest.raises(StateUnknown):
        Sha256.restore(state)
    assert Hasher.restored(state, 1) is None


def test_portable_hasher() -> None:
    """A portable hasher is moved by its state and counts on; an ordinary one has none."""
    hasher = Hasher.portable()
    hasher.update(b"one")
    state = hasher.state
    assert state is not None
    moved = Hasher.restored(state, hasher.size_bytes)
    assert moved is not None
    moved.update(b"two")
    assert (moved.size_bytes, moved.digest()) == (6, Digest.of(b"onetwo"))
    assert moved.copy().state == moved.state
    assert Hasher().state is None


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no library offers it, hashers work as ever and have no state."""
    monkeypatch.setattr(hash_state, "NAMES", ("libnothing.so.0",))
    hash_state._calls.cache_clear()
    try:
        assert not hash_state.available()
        hasher = Hasher.portable()
        hasher.update(b"one")
        assert (hasher.state, hasher.digest()) == (None, Digest.of(b"one"))
        assert Hasher.restored(TAG + bytes(112), 3) is None
    finally:
        hash_state._calls.cache_clear()
