"""Our own server as a contender: its settings reach it, and its API is at hand."""

from pathlib import Path

import pytest

from bench.contenders.contender import ContenderFailed, Setting, Start, Trait
from bench.contenders.sluice import Sluice, SluiceServer
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())


def test_its_api_and_settings(tmp_path: Path) -> None:
    """A case can call the management API, and set what `sluice serve` reads from the environment."""
    setting = Setting(environment=(("SLUICE_LIMITS__TAGS_PAGE", "7"),))
    server = Sluice().start(Start(tmp_path, FREE, setting))
    assert isinstance(server, SluiceServer)
    try:
        assert server.api("GET", "repos").status == 200
        server.make("projects", {"name": "another"})
        with pytest.raises(ContenderFailed, match="409"):
            server.make("projects", {"name": "another"})
        assert server.login[0] == "admin"
    finally:
        server.stop()


def test_a_wrong_setting_is_told(tmp_path: Path) -> None:
    """A server that does not start raises with what it printed."""
    setting = Setting(environment=(("SLUICE_NO_SUCH_KEY", "1"),))
    with pytest.raises(ContenderFailed, match=r"(?i)no_such_key"):
        Sluice().start(Start(tmp_path, FREE, setting))


def test_workers_are_processes(tmp_path: Path) -> None:
    """With two workers the tree has more processes than with one, and only special cases take it."""
    contender = Sluice("sluice-2-workers", workers=2)
    assert Trait.MANY_CORES in contender.traits
    assert Trait.MANY_CORES not in Sluice().traits
    server = contender.start(Start(tmp_path, FREE))
    try:
        assert server.processes is not None
        assert len(server.processes.pids()) == 3
    finally:
        server.stop()
