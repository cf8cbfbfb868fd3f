"""Connections within the descriptors of the process."""

import resource
import subprocess
import sys

import pytest

from gateway.wire.descriptors import connections_within, files_within

_SCRIPT = """
import resource
from gateway.wire.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200))
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [(1024, 384), (20_256, 10_000), (20_254, 9999), (100, 1), (resource.RLIM_INFINITY, 10_000)],
)
def test_connections_leave_descriptors_for_the_rest(limit: int, allowed: int) -> None:
    """Half of what is left after 256, never more than wanted, never none."""
    assert connections_within(limit, wanted=10_000) == allowed


def test_kept_files_take_from_the_connections_and_never_much() -> None:
    """At most an eighth, and what they take is not promised twice."""
    assert [files_within(limit, wanted=512) for limit in (resource.RLIM_INFINITY, 1 << 20, 1024)] == [512, 512, 128]
    assert connections_within(1024, wanted=10_000, kept=128) == 320


@pytest.mark.slow
def test_the_soft_limit_becomes_the_hard_one() -> None:
    """In a process of its own, for the limit never comes back."""
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False, timeout=30)

    assert ended.stdout.split() == ["200", "200", "200"], ended.stderr
