"""The access log: whole lines, no secrets, nothing lost in silence, and cheap enough for the hottest path."""

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.wire import access_log
from gateway.wire.access_log import AccessLog, AccessLogStatistics, without_secrets


def note(log: AccessLog, target: bytes = b"/v2/lib/app/manifests/latest", **changed: Any) -> None:
    """One request like any other."""
    values: dict[str, Any] = {
        "status": 200,
        "sent_bytes": 1500,
        "duration_s": 0.25,
        "client": "10.0.0.3",
        "user_agent": b"docker/24.0.5",
        "authorized": True,
    } | changed
    log.note(b"GET", target, **values)


def lines(path: Path) -> list[dict[str, Any]]:
    """The log as a program reads it."""
    return [json.loads(line) for line in path.read_text(encoding="ascii").splitlines() if line]


def test_a_request_is_one_line(tmp_path: Path) -> None:
    """Every field, with the time at which the request began."""
    path = tmp_path / "access.log"
    with AccessLog(path, clock=lambda: 1000.5) as log:
        note(log)

    assert lines(path) == [
        {
            "at": 1000.25,
            "client": "10.0.0.3",
            "method": "GET",
            "target": "/v2/lib/app/manifests/latest",
            "status": 200,
            "sent_bytes": 1500,
            "duration_s": 0.25,
            "authorized": True,
            "user_agent": "docker/24.0.5",
        }
    ]
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


def test_what_was_noted_is_written_when_it_closes_and_order_is_kept(tmp_path: Path) -> None:
    """Many batches of two logs on one file: every line whole, each log's in order; closing twice is harmless."""
    path = tmp_path / "access.log"
    with AccessLog(path) as one, AccessLog(path) as other:
        for number in range(2000):
            note(one, b"/one/%d" % number)
            note(other, b"/other/%d" % number)
        one.close()

    targets = [line["target"] for line in lines(path)]
    assert [each for each in targets if each.startswith("/one/")] == [f"/one/{number}" for number in range(2000)]
    assert [each for each in targets if each.startswith("/other/")] == [f"/other/{number}" for number in range(2000)]
    assert one.statistics() == AccessLogStatistics(written_total=2000, lost_total=0)


@pytest.mark.parametrize(
    ("target", "written"),
    [
        (b"/v2/a/tags/list?n=10&last=v1.2", "/v2/a/tags/list?n=10&last=v1.2"),
        (b"/v2/a/blobs/uploads/77?digest=sha256:abc123&_state=SECRET", "/v2/a/blobs/uploads/77?digest=sha256:abc123"),
        (b"/v2/a/blobs/uploads/77?digest=sha256%3Aabc", "/v2/a/blobs/uploads/77?digest=sha256%3Aabc"),
        (b"/token?account=ada&password=SECRET&refresh_token=SECRET", "/token"),
        (b"/v2/?n=SECRET&last=SE%20CRET!&digest=SECRET", "/v2/"),
        (b"/v2/a/manifests/1?ns=docker.io:443&account=SECRET", "/v2/a/manifests/1?ns=docker.io:443"),
        (b"/v2/a/manifests/1?ns=http://u:SECRET@x/", "/v2/a/manifests/1"),
        (b"/v2/?SECRET&=SECRET&N=1", "/v2/"),
        (b"http://ada:SECRET@registry/v2/", "-"),
        (b"*", "-"),
    ],
)
def test_only_harmless_values_of_a_query_are_written(target: bytes, written: str) -> None:
    """Names that are not known, values that do not look right, and URLs are left out."""
    assert without_secrets(target) == written


@pytest.mark.slow
@given(st.binary(max_size=60), st.binary(max_size=300), st.text(max_size=30))
def test_whatever_a_client_sends_stays_within_its_line(
    tmp_path_factory: pytest.TempPathFactory, target: bytes, agent: bytes, client: str
) -> None:
    """Quotation marks, line ends, control characters and bytes that are no text."""
    path = tmp_path_factory.mktemp("log") / "access.log"
    with AccessLog(path) as log:
        note(log, b"/" + target, user_agent=agent, client=client)

    (line,) = lines(path)
    assert line["user_agent"] == agent.decode("latin-1")[:256]
    assert line["target"] == without_secrets(b"/" + target)


def test_lines_that_find_the_memory_full_are_counted_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slower than the requests: the log says how many lines it lacks."""
    monkeypatch.setattr(access_log, "_PENDING_BYTES", 1000)
    monkeypatch.setattr(access_log, "_BATCH_BYTES", 10**9)  # the thread is not woken before the end
    path = tmp_path / "access.log"
    with AccessLog(path) as log:
        for _ in range(100):
            note(log)

    written = [line for line in lines(path) if "target" in line]
    (gap,) = [line["lost"] for line in lines(path) if "lost" in line]
    assert 0 < len(written) < 100
    assert log.statistics() == AccessLogStatistics(written_total=len(written), lost_total=gap)
    assert len(written) + gap == 100


def test_a_full_disk_costs_lines_but_not_the_server() -> None:
    """Every write fails: the lines are counted, one warning tells of it, and nothing is raised."""
    with capture_logs() as events, AccessLog(Path("/dev/full")) as log:
        for _ in range(10):
            note(log)

    assert log.statistics() == AccessLogStatistics(written_total=0, lost_total=10)
    assert [event["event"] for event in events] == ["access_log_not_written"]


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    """A wrong setting stops the start instead of losing every line."""
    with pytest.raises(FileNotFoundError):
        AccessLog(tmp_path / "nowhere" / "access.log")


def test_many_new_targets_and_agents_take_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered to be quick is forgotten when it is too much."""
    monkeypatch.setattr(access_log, "_REMEMBERED", 10)
    with AccessLog(tmp_path / "access.log") as log:
        for number in range(100):
            note(log, b"/%d" % number, user_agent=b"agent %d" % number)
            assert len(log._targets) <= 10
            assert len(log._texts) <= 10


def test_long_targets_and_agents_are_not_remembered(tmp_path: Path) -> None:
    """A stranger chooses them, up to 32 KiB each: they are written, shortened, and no copy stays here."""
    path = tmp_path / "access.log"
    with AccessLog(path) as log:
        note(log, b"/" + b"t" * 30_000, user_agent=b"a" * 30_000)
        assert not log._targets
        assert all(len(text) < 100 for text in log._texts)

    (line,) = lines(path)
    assert line["target"].startswith("/tttt")
    assert line["user_agent"].startswith("aaaa")
    assert len(json.dumps(line)) < 4096


@pytest.mark.slow
def test_a_line_costs_little(tmp_path: Path) -> None:
    """At most 4 us of the loop's CPU per line, the best of some batches; it is 0.5 us on a machine of 2026."""
    costs = []
    with AccessLog(tmp_path / "access.log") as log:
        for _ in range(10):
            began = time.thread_time()
            for _ in range(2000):
                note(log)
            costs.append((time.thread_time() - began) / 2000)

    assert min(costs) < 4e-6
