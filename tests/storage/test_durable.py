"""The table from errno to storage error, and the primitives that make directories and bytes durable."""

import errno
import os
import stat
from pathlib import Path

import pytest

from storage import durable
from storage.errors import StorageFull, Unavailable


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full(number: int) -> None:
    """A full disk and a used-up quota are the same to the caller: no space, retry later."""
    with pytest.raises(StorageFull, match="blob x: no space") as caught, durable.failures_of("blob x"):
        raise OSError(number, "full", "/secret/path")
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT, errno.EACCES, errno.EMFILE, errno.EROFS, errno.ESTALE])
def test_trouble(number: int) -> None:
    """Everything else is trouble of the store, never "not found", and keeps the cause for the log."""
    with pytest.raises(Unavailable, match=f"blob x: {os.strerror(number)}") as caught, durable.failures_of("blob x"):
        raise OSError(number, "odd", "/secret/path")
    assert caught.value.retryable
    assert "secret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_failure_without_a_number() -> None:
    """An OSError that a library raised without errno is trouble as well."""
    with pytest.raises(Unavailable, match="input/output"), durable.failures_of("blob x"):
        raise OSError("no number")


def test_other_errors_pass() -> None:
    """What is no OSError is somebody's mistake and stays what it is."""
    with pytest.raises(ZeroDivisionError), durable.failures_of("blob x"):
        raise ZeroDivisionError


def test_make_directories_syncs_every_new_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each new directory's parent is synced, from the top down; what exists keeps its mode and is left alone."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    (tmp_path / "there").mkdir(mode=0o755)
    durable.make_directories(tmp_path / "there" / "one" / "two")
    assert synced == [tmp_path / "there", tmp_path / "there" / "one"]
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "there/one/two").stat().st_mode) == 0o700
    durable.make_directories(tmp_path / "there" / "one" / "two")
    assert len(synced) == 2


def test_make_directory_tells_whether_it_was_new(tmp_path: Path) -> None:
    """The first one makes it, the second one finds it."""
    assert durable.make_directory(tmp_path / "new")
    assert not durable.make_directory(tmp_path / "new")


def test_write_all_goes_on_after_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that takes less than it was given, within a part or at its end, is given the rest at the right place."""
    parts: list[bytes | bytearray | memoryview] = [b"0", memoryview(b"1234"), b"", bytearray(b"56"), memoryview(b"789")]
    for limit in (1, 2, 3, 5, 7, 10):

        def short(descriptor: int, given: list[memoryview], at: int, limit: int = limit) -> int:
            return os.pwrite(descriptor, b"".join(given)[:limit], at)

        monkeypatch.setattr(os, "pwritev", short)
        with (tmp_path / "file").open("w+b") as file:
            assert durable.write_all(file.fileno(), parts, 2) == 10
            assert file.read() == b"\0\x000123456789"


def test_write_all_of_more_parts_than_one_call_takes(tmp_path: Path) -> None:
    """As many parts as a client can make of tiny chunks are written in order, and none at all is fine."""
    parts = [b"%d," % number for number in range(3000)]
    with (tmp_path / "file").open("w+b") as file:
        assert durable.write_all(file.fileno(), [], 0) == 0
        durable.write_all(file.fileno(), parts, 0)
        assert file.read() == b"".join(parts)


def test_append_copy(tmp_path: Path) -> None:
    """Bytes are copied from any place of one file to the end of the other; beyond the end there are none."""
    (tmp_path / "source").write_bytes(b"0123456789")
    with (tmp_path / "source").open("rb") as source, (tmp_path / "target").open("w+b") as target:
        ends = source.fileno(), target.fileno()
        assert durable.append_copy(*ends, position=2, size_bytes=3) == 3
        assert durable.append_copy(*ends, position=7, size_bytes=100) == 3
        assert durable.append_copy(*ends, position=10, size_bytes=100) == 0
    assert (tmp_path / "target").read_bytes() == b"234789"
