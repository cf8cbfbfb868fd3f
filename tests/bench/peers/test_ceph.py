"""How a cluster is brought up: what is written, what runs in which order, and that every server is handed over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.peers.ceph import Cluster, Command


class Bench:
    """Notes what it is asked to run and to start."""

    def __init__(self, *, fails_at: str = "") -> None:
        self.ran: list[str] = []
        self.started: list[str] = []
        self._fails_at = fails_at

    def run(self, command: Command) -> None:
        """A command to its end."""
        self.ran.append(" ".join(map(str, command)))
        if self._fails_at and self._fails_at in self.ran[-1]:
            raise OSError(self._fails_at)

    def start(self, command: Command, log: Path) -> str:
        """A server."""
        assert log.parent.is_dir()
        self.started.append(str(command[0]))
        return self.started[-1]

    def wait(self, process: str, ready: Callable[[], bool]) -> None:
        """Until it is ready: here it never is, and that does not matter."""
        assert process == "radosgw"
        assert not ready()


def test_each_server_is_handed_over_before_the_next_step(tmp_path: Path) -> None:
    """Monitor, store and gateway, and last the user; what runs in between can fail and nothing is lost."""
    bench = Bench()
    cluster = Cluster(tmp_path / "ceph", 1)  # nothing answers on that port

    given = list(cluster.bring_up(run=bench.run, start=bench.start, wait=bench.wait))

    assert given == bench.started == ["ceph-mon", "ceph-osd", "radosgw"]
    assert bench.ran[-1].startswith("radosgw-admin")
    assert "user create" in bench.ran[-1]


def test_who_fails_in_the_middle_has_what_was_started(tmp_path: Path) -> None:
    """The caller can kill it."""
    bench = Bench(fails_at="osd new")
    given: list[str] = []

    with pytest.raises(OSError, match="osd new"):
        given.extend(Cluster(tmp_path / "ceph", 1).bring_up(run=bench.run, start=bench.start, wait=bench.wait))

    assert bench.started == ["ceph-mon"]


@pytest.mark.parametrize("certificate", [None, Path("both.pem")])
def test_the_configuration_says_what_was_asked_for(tmp_path: Path, certificate: Path | None) -> None:
    """Ports within the block, kind and size of the store, https only with a certificate."""
    bench = Bench()
    cluster = Cluster(tmp_path / "ceph", 4000, store="bluestore", capacity_bytes=123, certificate=certificate, day_s=5)

    list(cluster.bring_up(run=bench.run, start=bench.start, wait=lambda process, ready: None))
    text = (tmp_path / "ceph" / "ceph.conf").read_text()

    assert "osd_objectstore = bluestore\n" in text
    assert "bluestore_block_size = 123\n" in text
    assert "rgw_lc_debug_interval = 5\n" in text
    assert "mon_host = [v2:127.0.0.1:4002/0]\n" in text
    assert "ms_bind_port_max = 4009\n" in text
    tls = "ssl_endpoint=127.0.0.1:4001 ssl_certificate=both.pem "
    assert f"rgw_frontends = beast endpoint=127.0.0.1:4000 {tls if certificate else ''}tcp_nodelay=1\n" in text
