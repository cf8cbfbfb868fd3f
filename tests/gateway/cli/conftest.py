"""A fresh copy of the same installation for each test, and the command to work on it."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import trio

from gateway.config import Settings, Storage
from tests.gateway.api.installation import furnish
from tests.gateway.cli.command import Sluice


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory to copy; nobody has it open."""
    data = tmp_path_factory.mktemp("furnished") / "data"
    trio.run(furnish, Settings(storage=Storage(data=data)))
    return data


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Commands set the process's logging up; nothing of that may outlive the stream it writes to."""
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers
    structlog.reset_defaults()


@pytest.fixture
def data(furnished: Path, tmp_path: Path) -> Path:
    """A data directory that no other test sees."""
    return Path(shutil.copytree(furnished, tmp_path / "data"))


@pytest.fixture
def sluice(data: Path) -> Sluice:
    """The command, on that directory."""
    return Sluice(data)
