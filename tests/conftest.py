"""What holds for every test: a clean environment, hypothesis without a stopwatch, and how to ask for a program."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from tests import system_packages

pytest_plugins = ["tests.servers.plugin"]

hypothesis.settings.register_profile(
    "sluice",
    deadline=None,  # a busy machine is no bug; pytest-timeout ends what hangs
    print_blob=True,
)
hypothesis.settings.load_profile("sluice")

KEPT = {"SLUICE_CRASH_ROUNDS", "SLUICE_CLIENTS_DIR"}
"""Variables of ours that steer the tests themselves."""


def pytest_configure() -> None:
    """Forget what the caller's shell says about Sluice, S3 and proxies: tests talk to loopback, as configured."""
    for name in list(os.environ):
        ours = name.startswith("SLUICE_") and name not in KEPT
        if ours or name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]


WHOLE = ("tests/protocol/", "tests/security/", "tests/clients/", "tests/gateway/api/", "tests/gateway/cli/")
"""Folders whose tests work with a whole gateway: they are part of `make test`, not of the quick `make check`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what works with a whole gateway, by its folder."""
    for item in items:
        if item.nodeid.startswith(WHOLE):
            item.add_marker(pytest.mark.served)


@pytest.fixture(scope="session")
def program() -> Callable[[str], Path]:
    """Where a program of `system_packages.PROGRAMS` is; the test is skipped, with the reason, where it is missing."""

    def path(name: str) -> Path:
        entry = next(each for each in system_packages.PROGRAMS if each.name == name)
        found = entry.path()
        if found is None:
            pytest.skip(f"{name} is not installed (Debian package {entry.packages[0]})")
        return found

    return path
