"""Hashing a local file turn by turn."""

from pathlib import Path

from storage.digest import Digest, Hasher
from storage.file_hashing import TURN_BYTES, hash_turn


def test_a_turn_hashes_so_much_and_the_next_goes_on_there(tmp_path: Path) -> None:
    """A file longer than a turn takes two, which end at the asked offset, whatever follows and wherever the file is."""
    content = bytes(TURN_BYTES) + b"and a little more"
    path = tmp_path / "file"
    path.write_bytes(content + b" that nobody asked for")
    hasher = Hasher()

    with path.open("rb", buffering=0) as file:
        assert hash_turn(file.fileno(), hasher, len(content))
        assert hasher.size_bytes == TURN_BYTES
        assert file.tell() == 0
        assert hash_turn(file.fileno(), hasher, len(content))

    assert hasher.digest() == Digest.of(content)


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    """What there is has been hashed then."""
    path = tmp_path / "file"
    path.write_bytes(b"short")
    hasher = Hasher()

    with path.open("rb") as file:
        assert not hash_turn(file.fileno(), hasher, 6)

    assert hasher.digest() == Digest.of(b"short")
