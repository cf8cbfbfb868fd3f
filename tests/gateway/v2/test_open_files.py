"""Descriptors that are kept: within the bound, for whole files only, and each closed exactly once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.v2.open_files import _IDLE_TURNS, OpenFiles


@pytest.fixture
def kept() -> Iterator[OpenFiles]:
    """Room for two."""
    files = OpenFiles(limit=2)
    yield files
    files.clear()


def keep(files: OpenFiles, path: Path, content: bytes = b"content") -> Path:
    """Write a file and have it kept under its name."""
    path.write_bytes(content)
    with path.open("rb") as opened:
        files.keep(path.name, opened.fileno())
    return path


def is_open(descriptor: int) -> bool:
    """Whether the descriptor is one."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_a_copy_is_kept(kept: OpenFiles, tmp_path: Path) -> None:
    """It can be read after its giver has closed theirs."""
    keep(kept, tmp_path / "a")
    held = kept.take("a", 7)

    assert held is not None
    assert os.pread(held.descriptor, 100, 0) == b"content"
    held.release()
    assert is_open(held.descriptor)


def test_what_was_used_longest_ago_makes_room(kept: OpenFiles, tmp_path: Path) -> None:
    """The bound holds, and taking counts as use."""
    keep(kept, tmp_path / "a")
    keep(kept, tmp_path / "b")
    a = kept.take("a", 7)
    assert a is not None
    a.release()
    keep(kept, tmp_path / "c")

    assert len(kept) == 2
    assert kept.take("b", 7) is None


def test_a_file_that_is_being_sent_is_closed_after_it(kept: OpenFiles, tmp_path: Path) -> None:
    """By whoever lets go last, once."""
    keep(kept, tmp_path / "a")
    first, second = kept.take("a", 7), kept.take("a", 7)
    assert first is not None
    assert first is second
    kept.clear()
    first.release()
    assert is_open(first.descriptor)
    first.release()

    assert not is_open(first.descriptor)


@pytest.mark.parametrize("change", ["truncated", "removed"])
def test_a_file_that_is_not_what_it_was_is_not_given(kept: OpenFiles, tmp_path: Path, change: str) -> None:
    """The application would find it damaged or absent, so it has to look."""
    path = keep(kept, tmp_path / "a")
    if change == "truncated":
        os.truncate(path, 3)
    else:
        path.unlink()

    assert kept.take("a", 7) is None
    assert len(kept) == 0


async def test_removed_files_are_let_go_without_being_asked_for(kept: OpenFiles, tmp_path: Path) -> None:
    """Otherwise their space would not come free."""
    keep(kept, tmp_path / "a")
    held = kept.take("a", 7)
    assert held is not None
    held.release()
    (tmp_path / "a").unlink()
    await kept.tidy()

    assert not is_open(held.descriptor)


async def test_files_that_nobody_wants_are_let_go(kept: OpenFiles, tmp_path: Path) -> None:
    """After some turns; what was used in between stays."""
    keep(kept, tmp_path / "a")
    keep(kept, tmp_path / "b")
    for _ in range(_IDLE_TURNS + 1):
        await kept.tidy()
        b = kept.take("b", 7)
        assert b is not None
        b.release()

    assert kept.take("a", 7) is None
    assert len(kept) == 1


def test_none_are_kept_without_room(tmp_path: Path) -> None:
    """A limit of 0 is one."""
    files = OpenFiles(limit=0)
    keep(files, tmp_path / "a")

    assert len(files) == 0


def test_without_a_free_descriptor_nothing_is_kept(kept: OpenFiles, tmp_path: Path) -> None:
    """A descriptor that is none cannot be copied; that costs the memory of it, not the answer."""
    kept.keep("a", 1 << 20)

    assert len(kept) == 0
