"""Manifests beside bulk, against real servers: both kinds of figures come out, and each is about its own traffic."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.fairness import Beside, cases
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import Sluice
from bench.run import Plan, run
from bench.targets import TARGETS

BRIEF: list[Case] = [replace(case, seconds=0.3) for case in cases(Scale.QUICK) if isinstance(case, Beside)]


@pytest.mark.slow
def test_manifests_and_bulk_are_told_apart(tmp_path: Path) -> None:
    """Latencies are the manifests', bytes are the bulk's, and nothing fails, with either server."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    report = run(Plan(BRIEF, contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert len(report.measurements) == len(BRIEF) * len(contenders)
    for each in report.measurements:
        assert each.errors == 0, each
        assert each.whole is not None
        assert each.requests == each.whole.count > 0, each
        assert each.extra["manifest_p99_ms"] == each.whole.p99_ms
        assert each.extra["bulk_mib_per_s"] > 0
        assert each.moved_bytes > each.requests * 10_000, each  # far more than manifests


def test_targets_name_these_cases() -> None:
    """The promises about manifests beside bulk are about cases that exist."""
    promised = {target.case for target in TARGETS if target.case.startswith("manifest-beside")}
    assert promised == {case.name for case in BRIEF}
