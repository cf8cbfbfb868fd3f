"""A report arranged for readers: groups, lines, and who is compared with whom."""

import pytest

from bench.report.summary import contenders, groups, is_ours
from tests.bench.reports import SAMPLE, report, rounds


def test_ours_come_first_and_are_compared_with_every_peer() -> None:
    """Peers are compared with nobody."""
    (small,) = [group for group in groups(SAMPLE) if group.title == "Small answers"]
    (section,) = small.sections
    ours, theirs = section.lines

    assert contenders(SAMPLE) == ["sluice", "docker-registry", "nginx", "url"]
    assert (ours.contender, theirs.contender) == ("sluice", "docker-registry")
    assert ours.ratios["docker-registry"].ratio == pytest.approx(0.05)
    assert theirs.ratios == {}
    assert section.summary == "GET of a manifest & more"
    assert [verdict.met for verdict in section.verdicts] == [True]


def test_two_workers_are_compared_with_one() -> None:
    """Both are ours; more workers are judged by what one does."""
    made = report(rounds("blob-get-workers", "sluice", 1.0), rounds("blob-get-workers", "sluice-2-workers", 1.1))
    lines = groups(made)[0].sections[0].lines

    assert is_ours("sluice-2-workers")
    assert not is_ours("sluicer")
    assert {line.contender: list(line.ratios) for line in lines} == {"sluice": [], "sluice-2-workers": ["sluice"]}


def test_every_case_is_in_one_group_in_the_order_of_the_run() -> None:
    """Nothing that was measured is lost, whatever it is called."""
    names = ["push-monolithic-1", "manifest-beside-pulls", "blob-get-cold-1", "never-heard-of", "manifest-head"]
    made = report(*(rounds(name, "sluice", 1.0) for name in names))

    placed = [section.case for group in groups(made) for section in group.sections]

    assert sorted(placed) == sorted(names)
    assert len(groups(made)) == 5


def test_what_only_a_case_knows_is_kept_by_contender() -> None:
    """Such as what a fleet pulled per second; memory per connection is the primary figure and not told twice."""
    sections = {section.case: section for group in groups(SAMPLE) for section in group.sections}

    assert sections["fleet"].extras["pulls_per_s"]["url"].median == 7.0
    assert not sections["idle-connections"].extras
