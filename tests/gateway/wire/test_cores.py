"""How many workers `auto` is: what the process is bound to and what its control groups leave of it."""

import os
from pathlib import Path

import pytest

from gateway.wire.cores import usable_cores

BOUND = len(os.sched_getaffinity(0))


def groups(directory: Path, own: str, **files: str) -> int:
    """The answer for a process in the group `own`, with these files (`__` for `/`, `_dot_` for `.`) in the tree."""
    (directory / "own").write_text(own)
    for name, text in files.items():
        path = directory / "tree" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return usable_cores(groups=directory / "tree", own_group=directory / "own")


def test_without_control_groups_it_is_the_affinity(tmp_path: Path) -> None:
    """No files, no limit, and nonsense in them: every core that the process is bound to."""
    assert groups(tmp_path, "0::/") == BOUND
    assert groups(tmp_path, "0::/\nnonsense", cpu_dot_max="max 100000") == BOUND
    assert groups(tmp_path, "", cpu_dot_max="1000 100000") == BOUND
    assert groups(tmp_path, "0::/", cpu_dot_max="x") == BOUND


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("100000 100000", 1), ("1000 100000", 1)])
def test_a_quota_of_the_second_version(tmp_path: Path, quota: str, cores: int) -> None:
    """A part of a core is one worker, never none."""
    assert groups(tmp_path, "0::/pod/box", pod__box__cpu_dot_max=quota) == min(cores, BOUND)


def test_the_smallest_quota_above_counts(tmp_path: Path) -> None:
    """A pod's limit holds for the containers in it."""
    assert groups(tmp_path, "0::/pod/box", pod__box__cpu_dot_max="max 100000", pod__cpu_dot_max="70000 100000") == 1


def test_a_quota_of_the_first_version(tmp_path: Path) -> None:
    """Quota and period lie in files of their own, below the controllers' name; -1 is none."""
    period = {"cpu,cpuacct__box__cpu_dot_cfs_period_us": "100000"}
    own = "4:memory:/box\n3:cpu,cpuacct:/box\n"
    assert groups(tmp_path, own, **{"cpu,cpuacct__box__cpu_dot_cfs_quota_us": "-1"}, **period) == BOUND
    assert groups(tmp_path, own, **{"cpu,cpuacct__box__cpu_dot_cfs_quota_us": "100000"}, **period) == 1


def test_whatever_this_machine_is_there_is_a_core() -> None:
    """The real files are understood."""
    assert 1 <= usable_cores() <= BOUND
