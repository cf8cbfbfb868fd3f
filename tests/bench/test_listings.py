"""Long lists against real registries: every case walks what it has put, and meets who can take part."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.listings import Listing, cases
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import Sluice
from bench.run import Plan, run

pytestmark = pytest.mark.slow


def test_every_listing_is_walked(tmp_path: Path) -> None:
    """Each case runs without an error, against docker-registry too where it takes part."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    brief: list[Case] = [
        replace(case, tags=min(case.tags, 200), images=min(case.images, 3), seconds=0.2)
        for case in cases(Scale.QUICK)
        if isinstance(case, Listing)
    ]
    report = run(Plan(brief, contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    assert {(each.case, each.contender) for each in report.measurements} == {
        ("tags-list-short", "sluice"),
        ("tags-list-long", "sluice"),
        ("catalog-long", "sluice"),
        *(("tags-list-short", each.name) for each in contenders),
    }
    for each in report.measurements:
        assert each.errors == 0, each
        assert each.requests > 0, each
