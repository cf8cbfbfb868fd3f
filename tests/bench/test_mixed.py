"""Pulls beside pushes, against real registries: fixed amounts of both are done, and both count."""

from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.mixed import PUSHERS, Mixed, cases
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import Sluice
from bench.content import MIB
from bench.run import Plan, run


@pytest.mark.slow
def test_both_loads_are_done_and_count(tmp_path: Path) -> None:
    """The bytes are those of all pulls and all pushes, the same for each server."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    case: Case = Mixed(4 * MIB)
    report = run(Plan([case], contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert len(report.measurements) == len(contenders)
    for each in report.measurements:
        assert each.errors == 0, each
        assert each.moved_bytes == PUSHERS * 4 * MIB * 5  # each byte that is pushed, and four that are pulled
        assert each.requests == each.extra["pulls"] + each.extra["pushes"]
        assert each.server_cpu_s


def test_there_is_one_case() -> None:
    """Both scales have the same case, in other sizes."""
    (full,), (quick,) = cases(Scale.FULL), cases(Scale.QUICK)
    assert full.name == quick.name
    assert full.summary != quick.summary
