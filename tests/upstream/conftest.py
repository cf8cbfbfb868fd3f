"""A gateway of two workers before scripted upstreams: what only one worker knows is seen to matter."""

import os
from collections.abc import Iterator

import pytest
import trustme

from tests.served import Served
from tests.upstream.scripted import ScriptedUpstream

SECRET_KEY = "fedcba9876543210" * 4


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served gateway of two workers, which can keep credentials. Whatever upstreams did, it met no defect of its own.

    That is asserted when all is over: defects are logged with a traceback, and a worker that dies is replaced.
    """
    environment = {"SLUICE_ACCESS__SECRET_KEY": SECRET_KEY}
    with Served(tmp_path_factory.mktemp("gateway"), environment=environment, workers=2) as served:
        yield served
    assert "Traceback" not in served.log()
    assert served.log().count("worker_started") == 2


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


@pytest.fixture
def other() -> Iterator[ScriptedUpstream]:
    """Another one, on another host."""
    with ScriptedUpstream(host="127.0.0.2") as scripted:
        yield scripted


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of upstreams that speak TLS."""
    return trustme.CA()


@pytest.fixture
def layer() -> bytes:
    """The bytes of a layer that nobody has seen: what any repository holds is not asked for elsewhere."""
    return os.urandom(100_000)
