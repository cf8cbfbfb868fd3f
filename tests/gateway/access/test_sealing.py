"""Sealed values and the file with the installation's secret key."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from gateway.access.sealing import SealBroken, Sealer, key_from_setting, load_or_create_key

KEY = bytes(range(32))
COLUMN = "signing_keys.sealed_key"


def test_a_sealed_value_opens_in_its_place_only() -> None:
    """Another row, another column or another key does not open it, and its bytes do not show the value."""
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"the value", column=COLUMN, row="k1")

    assert sealer.open(sealed, column=COLUMN, row="k1") == b"the value"
    assert b"the value" not in sealed
    for broken in (
        lambda: sealer.open(sealed, column=COLUMN, row="k2"),
        lambda: sealer.open(sealed, column="upstreams.password", row="k1"),
        lambda: Sealer(bytes(32)).open(sealed, column=COLUMN, row="k1"),
    ):
        with pytest.raises(SealBroken):
            broken()


def test_every_damaged_byte_is_noticed() -> None:
    """No changed, missing or added byte goes through."""
    sealer = Sealer(KEY)
    sealed = sealer.seal(b"v", column=COLUMN, row="k")
    damaged = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]

    for value in (*damaged, sealed[:-1], sealed + b"\0", b""):
        with pytest.raises(SealBroken):
            sealer.open(value, column=COLUMN, row="k")


def test_the_same_value_is_sealed_differently_each_time() -> None:
    """Nonces are fresh, so equal secrets cannot be told by their rows."""
    sealer = Sealer(KEY)

    assert sealer.seal(b"v", column=COLUMN, row="k") != sealer.seal(b"v", column=COLUMN, row="k")


def test_a_fingerprint_needs_the_key() -> None:
    """The same for the same value; another key makes another one, so nobody can try values without it."""
    assert Sealer(KEY).fingerprint(b"v") == Sealer(KEY).fingerprint(b"v")
    assert len({Sealer(KEY).fingerprint(b"v"), Sealer(KEY).fingerprint(b"w"), Sealer(bytes(32)).fingerprint(b"v")}) == 3


def test_a_key_from_the_configuration_must_be_long() -> None:
    """Short texts could be guessed; long ones give the same key every time."""
    with pytest.raises(ValueError, match="32 random characters"):
        key_from_setting("x" * 31)

    assert key_from_setting("x" * 32) == key_from_setting("x" * 32) != key_from_setting("y" * 32)


def test_the_key_of_another_installation_is_kept_unless_there_is_one(tmp_path: Path) -> None:
    """A move brings the key along, and never replaces one."""
    path = tmp_path / "secret.key"

    assert load_or_create_key(path, key=KEY) == load_or_create_key(path) == KEY
    assert load_or_create_key(path, key=bytes(32)) == KEY


def test_the_key_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    """The first call makes a file of mode 0600, whatever the umask; later calls give the same key."""
    path = tmp_path / "secret.key"
    before = os.umask(0)
    try:
        key = load_or_create_key(path)
    finally:
        os.umask(before)

    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key(path) == key
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


def test_a_crash_before_the_name_appeared_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Half a file from an earlier start is replaced by a whole one."""
    (tmp_path / "secret.key.new").write_text("00ff")

    assert len(load_or_create_key(tmp_path / "secret.key")) == 32
    assert [each.name for each in tmp_path.iterdir()] == ["secret.key"]


@pytest.mark.parametrize("content", ["", "00ff", "z" * 64, "0" * 65, "0" * 64 + "\n\n", "0" * 1000])
def test_a_file_that_holds_no_key_is_refused(content: str, tmp_path: Path) -> None:
    """A damaged key is never replaced: everything sealed with it would be lost."""
    path = tmp_path / "secret.key"
    path.write_text(content)
    path.chmod(0o600)

    with pytest.raises(ValueError, match="restore it"):
        load_or_create_key(path)
    assert path.read_text() == content


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    """The message says what to do."""
    path = tmp_path / "secret.key"
    load_or_create_key(path)
    path.chmod(0o644)

    with pytest.raises(ValueError, match="chmod 600"):
        load_or_create_key(path)


@pytest.mark.slow
def test_four_processes_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    """The workers of one installation race for the file, and all read what one of them wrote."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        keys = pool.map(load_or_create_key, [tmp_path / "secret.key"] * 16, chunksize=1)

    assert len(set(keys)) == 1
