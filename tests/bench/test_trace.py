"""Traces: what is kept of an access log, what is replaced, and that nothing else gets through."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import trace
from bench.trace import Trace, TraceInvalid, Visit
from gateway.wire.access_log import AccessLog

DIGEST = f"sha256:{'ab' * 32}"


def line(target: str, **changed: Any) -> str:
    """A line as the gateway writes it."""
    values = {
        "at": 1000.0,
        "client": "10.0.0.3",
        "method": "GET",
        "target": target,
        "status": 200,
        "sent_bytes": 1500,
        "duration_s": 0.1,
        "authorized": True,
        "user_agent": "docker/24.0.5 SECRET-agent",
    }
    return json.dumps(values | changed)


def targets(*asked: str, keep_names: bool = False) -> list[str]:
    """What becomes of these targets."""
    return [visit.target for visit in trace.record(map(line, asked), keep_names=keep_names).visits]


def test_requests_come_in_the_order_of_their_beginning_with_times_from_the_first() -> None:
    """Workers write at intervals, so lines are out of order; clients become numbers."""
    lines = [
        line("/v2/", at=1002.5, client="10.0.0.3"),
        line("/v2/", at=1000.0, client="10.0.0.9"),
        line("/v2/", at=1001.0, client="10.0.0.3"),
    ]

    visits = trace.record(lines, keep_names=False).visits

    assert [(visit.at_s, visit.client) for visit in visits] == [(0.0, 0), (1.0, 1), (2.5, 1)]


def test_names_are_replaced_the_same_by_the_same() -> None:
    """Who shares a project, a tag or a layer can be seen; what it was called cannot."""
    assert targets(
        "/v2/acme/secret-app/manifests/v1.2",
        f"/v2/acme/secret-app/blobs/{DIGEST}",
        f"/v2/acme/other/blobs/{DIGEST}",
        f"/v2/acme/other/manifests/{DIGEST}",
        "/v2/acme/other/manifests/v1.2",
        "/v2/acme/other/tags/list?n=5&last=v1.2",
        "/v2/_catalog?n=5&last=acme/other",
        f"/v2/acme/other/referrers/{DIGEST}",
        f"/v2/acme/other/blobs/uploads/5f2a?digest={DIGEST.replace(':', '%3A')}",
        "/v2/acme/other/blobs/uploads/",
    ) == [
        "/v2/n1/n2/manifests/t1",
        f"/v2/n1/n2/blobs/sha256:{1:064}",
        f"/v2/n1/n3/blobs/sha256:{1:064}",
        f"/v2/n1/n3/manifests/sha256:{1:064}",
        "/v2/n1/n3/manifests/t1",
        "/v2/n1/n3/tags/list?n=5&last=t1",
        "/v2/_catalog?n=5&last=n1/n3",
        f"/v2/n1/n3/referrers/sha256:{1:064}",
        f"/v2/n1/n3/blobs/uploads/u1?digest=sha256:{1:064}",
        "/v2/n1/n3/blobs/uploads/",
    ]


def test_names_can_be_kept_but_upload_sessions_never() -> None:
    """A replay against a copy wants names; whoever knows a session could go on with it."""
    assert targets("/v2/acme/app/manifests/v1", "/v2/acme/app/blobs/uploads/5f2a", keep_names=True) == [
        "/v2/acme/app/manifests/v1",
        "/v2/acme/app/blobs/uploads/u1",
    ]


@settings(max_examples=50)
@given(st.lists(st.text(alphabet='/vSECRT2?&=:%._-~"\\\x00é', max_size=30), max_size=6))
def test_nothing_of_a_log_gets_through_unless_it_was_replaced(parts: list[str]) -> None:
    """Whatever stands in the lines: no word of them is in the trace."""
    lines = [line(f"/v2/secret-name/{part}?n=SECRET&last={part}", client=f"SECRET{part}") for part in parts]

    visits = trace.record(lines, keep_names=False).visits

    assert "secret" not in repr(visits).lower()


def test_what_is_left_out_is_counted() -> None:
    """Broken lines, other paths, unknown methods and gaps of the log itself."""
    recorded = trace.record(
        [line("/v2/"), "", "{", "[]", line("/api/v1/users"), line("/v2/", method="BREW"), '{"at":1,"lost":7}'],
        keep_names=False,
    )

    assert len(recorded.visits) == 1
    assert recorded.left_out == {
        "not a line of an access log": 2,
        "not of the registry API": 1,
        "of an unknown method": 1,
        "lost by the log itself": 7,
    }


def test_another_file_is_no_access_log() -> None:
    """Somebody names the wrong file: told, instead of an empty trace."""
    with pytest.raises(TraceInvalid, match=r"logs\.access"):
        trace.record(["127.0.0.1 - - [21/Nov/2026] GET /v2/"], keep_names=False)


def test_what_the_gateway_writes_can_be_recorded(tmp_path: Path) -> None:
    """The writer and the reader of the log agree."""
    path = tmp_path / "access.log"
    with AccessLog(path, clock=lambda: 50.0) as log:
        log.note(
            b"HEAD",
            b"/v2/lib/app/manifests/latest?token=SECRET",
            status=200,
            sent_bytes=0,
            duration_s=0.5,
            client="::1",
            user_agent=b"skopeo",
            authorized=False,
        )

    (visit,) = trace.record(path.read_text(encoding="utf-8").splitlines(), keep_names=True).visits

    assert visit == Visit(0.0, 0, "HEAD", "/v2/lib/app/manifests/latest", 200, 0, authorized=False)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Also that names were kept, and what was left out."""
    path = tmp_path / "trace"
    written = Trace((Visit(0.25, 3, "GET", "/v2/n1/blobs/x", 206, 9, authorized=True),), True, {"why": 2})  # noqa: FBT003

    trace.write(written, path)

    assert trace.read(path) == written


@pytest.mark.parametrize(
    "text", ["", "{}\n", '{"trace": 2}\n', "no JSON", '{"trace": 1, "names_kept": true}\n{"x": 1}\n']
)
def test_another_file_is_no_trace(tmp_path: Path, text: str) -> None:
    """Empty, of another format, or broken."""
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceInvalid):
        trace.read(path)
