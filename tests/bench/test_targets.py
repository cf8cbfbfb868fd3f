"""The promises as data, and what becomes of them in a report."""

from dataclasses import replace

import pytest

from bench.cases.case import Scale
from bench.cases.catalog import all_cases
from bench.contenders.catalog import all_contenders
from bench.records import Target, Unit
from bench.targets import BUCKET_TARGETS, TARGETS, verdicts
from tests.bench.reports import SAMPLE, measured


def outcome(target: Target) -> bool | None:
    """What became of one target in the sample."""
    (verdict,) = verdicts(SAMPLE, [target])
    return verdict.met


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (Target("manifest-get", "sluice", "cpu", "docker-registry", at_most=1 / 20), True),
        (Target("manifest-get", "sluice", "cpu", "docker-registry", at_most=1 / 21), False),
        (Target("manifest-get", "sluice", "cpu", "docker-registry", at_least=0.05), True),
        (Target("manifest-get", "sluice", "cpu", "docker-registry", at_least=0.06), False),
        (Target("blob-get-warm-1", "sluice", "cpu", "nginx", at_most=1.0), False),
        (Target("manifest-get", "sluice", "whole.p99_ms", None, at_most=5.0), True),
        (Target("idle-connections", "sluice", "cpu", None, at_most=8999), False),
        (Target("idle-connections", "sluice", "cpu", None, at_most=9000), True),
        (Target("fleet", "url", "cpu", None, at_most=1.0), None),
        (Target("manifest-get", "sluice", "cpu", "nginx", at_most=1.0), None),
    ],
)
def test_a_target_is_met_missed_or_not_measured(target: Target, met: bool | None) -> None:  # noqa: FBT001
    """Ratios to peers, and bounds on a figure itself."""
    assert outcome(target) is met


def test_every_target_is_about_a_case_and_contenders_that_there_are() -> None:
    """A promise that no case measures would never be missed."""
    cases = {case.name for case in all_cases(Scale.FULL)}
    names = {each.name for each in all_contenders()}

    targets = (*TARGETS, *BUCKET_TARGETS)
    assert {target.case for target in targets} <= cases
    assert {target.contender for target in targets} | {target.peer for target in targets if target.peer} <= names
    assert all(target.at_most is not None or target.at_least is not None for target in targets)


def test_a_report_is_held_against_the_tables_that_it_is_about() -> None:
    """A run over buckets does not miss what only the other one measures, and the other way round."""
    bucket = replace(SAMPLE, measurements=[measured("s3-push-small", "sluice-s3", 1, 1.0, unit=Unit.GIB)])
    both = replace(SAMPLE, measurements=[*SAMPLE.measurements, *bucket.measurements])

    assert tuple(each.target for each in verdicts(SAMPLE)) == TARGETS
    assert tuple(each.target for each in verdicts(bucket)) == BUCKET_TARGETS
    assert tuple(each.target for each in verdicts(both)) == (*TARGETS, *BUCKET_TARGETS)
    assert tuple(each.target for each in verdicts(replace(SAMPLE, measurements=[]))) == TARGETS
