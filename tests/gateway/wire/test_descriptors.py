"""Connections within the descriptors of the process."""

import resource
import subprocess
import sys

import pytest

from gateway.wire.descriptors import connections_within

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


@pytest.mark.slow
def test_the_soft_limit_becomes_the_hard_one() -> None:
    """In a process of its own, for the limit never comes back."""
    ended = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False, timeout=30)

    assert ended.stdout.split() == ["200", "200", "200"], ended.stderr
