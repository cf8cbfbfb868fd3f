"""Collection under load, against a real gateway: the sweep takes what was deleted and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.collection import Collection, cases
from bench.contenders.sluice import Sluice
from bench.run import Plan, run

pytestmark = pytest.mark.slow


def test_the_sweep_takes_what_was_deleted_and_nothing_else(tmp_path: Path) -> None:
    """With the sweep files go from the disk and no answer is wrong; without it they stay."""
    brief: list[Case] = [
        replace(case, seconds=6.5 if case.name == "collection-on" else 0.5)
        for case in cases(Scale.QUICK)
        if isinstance(case, Collection)
    ]
    report = run(Plan(brief, [Sluice()], 1, tmp_path), lambda _: None)
    assert not report.notes
    off, on = report.measurements
    assert (off.errors, on.errors) == (0, 0)
    assert off.extra["blobs_collected"] == 0
    assert on.extra["blobs_collected"] > 0
    for each in (off, on):
        assert each.extra["images_pushed"] > 0
        assert 0 < each.extra["pull_p50_ms"] <= each.extra["pull_p99_ms"]
        assert 0 < each.extra["push_p50_ms"] <= each.extra["push_p99_ms"]
