"""The service that contenders share: one for all, gone with the last, and its own account of what it was asked for."""

from pathlib import Path

import psutil
import pytest

from bench.contenders.contender import Endpoint
from bench.contenders.setup import ask
from bench.peers.radosgw import Radosgw
from bench.processes import Cores

FREE = Cores(frozenset(), frozenset())


def ceph() -> set[int]:
    """Its processes below this one; other tests may have some."""
    return {child.pid for child in psutil.Process().children(recursive=True) if "ceph" in child.name()}


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the packages that bring it."""
    monkeypatch.setattr("bench.peers.radosgw._SEARCH", "")

    assert "ceph-mon, ceph-osd, radosgw not installed (Debian packages" in (Radosgw().missing() or "")


@pytest.mark.slow
@pytest.mark.s3
def test_it_runs_as_long_as_somebody_has_a_bucket(tmp_path: Path) -> None:
    """Buckets are counted apart, by method and by bytes that were sent; afterwards no process and no file is left."""
    service = Radosgw("memstore")
    if why := service.missing():
        pytest.skip(why)
    (tmp_path / "server").mkdir()
    before = ceph()
    first = service.bucket(tmp_path / "server", FREE)
    try:
        second = service.bucket(tmp_path / "server", FREE)
        since = first.mark()
        place = Endpoint("127.0.0.1", service.port)
        answers = [ask(place, "GET", f"/{first.name}/absent").status for _ in range(2)]
        ours, other = first.traffic(since), second.traffic(since)
        pids = ceph() - before
        second.release()
        still = first.mark()
    finally:
        first.release()

    assert answers == [403, 403]
    assert first.url == place.url
    assert first.name != second.name
    assert ours.requests == {"GET": 2}
    assert ours.count == 2
    assert ours.read_bytes > 0
    assert other.count == 0
    assert still > since
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert [path.name for path in tmp_path.iterdir()] == ["server"]
