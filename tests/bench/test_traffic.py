"""The core cases of small requests, each run for a moment against real peers, as the runner runs them."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases import connections, manifests, ranges
from bench.cases.case import Case, Scale
from bench.cases.catalog import all_cases
from bench.cases.traffic import Repeated
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.nginx import Nginx
from bench.contenders.sluice import Sluice
from bench.records import Unit
from bench.run import Plan, run

pytestmark = pytest.mark.slow

SMALL = [
    case
    for case in (*manifests.cases(Scale.QUICK), *ranges.cases(Scale.QUICK), *connections.cases(Scale.QUICK))
    if isinstance(case, Repeated) and not case.only
]


def test_every_contender_answers_every_small_case(tmp_path: Path) -> None:
    """Manifests, heads, ranges and fresh connections work against ours and both peers without a single error."""
    contenders = [each for each in (Sluice(), DockerRegistry(), Nginx()) if each.missing() is None]
    brief: list[Case] = [replace(case, seconds=0.05) for case in SMALL]
    report = run(Plan(brief, contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert len(report.measurements) == len(brief) * len(contenders)
    for each in report.measurements:
        assert each.errors == 0, each
        assert each.requests > 0, each
        assert each.server_cpu_s, each
        assert each.unit is Unit.KILO_REQUESTS
        assert (each.moved_bytes == 0) == ("head" in each.case), each


def test_the_manifest_has_the_usual_size() -> None:
    """Reference figures are for a manifest of about 1.5 KiB."""
    assert 1_000 < manifests.small_image().manifest.size_bytes < 2_000


def test_names_are_unique_and_the_same_at_every_scale() -> None:
    """Case names and summaries are unique and lower case, at both scales alike."""
    for scale in Scale:
        names = [case.name for case in all_cases(scale)]
        assert len(set(names)) == len(names)
        assert all(name == name.lower() and " " not in name for name in names)
        assert all(case.summary for case in all_cases(scale))
    assert [case.name for case in all_cases(Scale.FULL)] == [case.name for case in all_cases(Scale.QUICK)]
