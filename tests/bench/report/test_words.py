"""Figures as people read them."""

import pytest

from bench.figures import Ratio
from bench.records import Target, Unit
from bench.report import words
from bench.report.summary import groups
from bench.targets import Verdict
from tests.bench.reports import SAMPLE


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.04081, "0.0408"), (1.0, "1"), (23.45, "23.4"), (24515.4, "24,515"), (0.0000312, "0.000031")],
)
def test_three_digits(number: float, text: str) -> None:
    """No exponents, thousands apart."""
    assert words.digits(number) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.05, "1/20"), (0.31, "0.31"), (1.137, "1.14"), (12.0, "12")])
def test_a_small_ratio_is_a_fraction(ratio: float, text: str) -> None:
    """A twentieth says more than 0.05."""
    assert words.fraction(ratio) == text


def test_noise_is_told_unless_there_was_one_round_only() -> None:
    """One round knows nothing of its noise."""
    assert words.share(Ratio(0.05, 0.045, 0.055, 5)) == "1/20 ±10%"
    assert words.share(Ratio(0.05, 0.05, 0.05, 1)) == "1/20"


@pytest.mark.parametrize(
    ("target", "bound", "about"),
    [
        (Target("c", "sluice", "cpu", "nginx", at_most=1.0), "≤ 1 \u00d7 nginx", "server CPU"),
        (
            Target("c", "sluice", "wall", "nginx", at_most=1.0, at_least=0.5),
            "≤ 1 \u00d7 nginx and ≥ 0.5 \u00d7 nginx",
            "wall time",
        ),
        (Target("c", "sluice", "whole.p99_ms", None, at_most=5.0), "≤ 5 ms", "whole.p99_ms"),
        (Target("c", "sluice", "cpu", None, at_most=24 * 1024.0), "≤ 24 KiB", "memory"),
    ],
)
def test_a_target_in_words(target: Target, bound: str, about: str) -> None:
    """What is asked for, and of what."""
    assert words.bound(target) == bound
    assert words.figure_of(target) == about


def test_what_was_not_measured_is_said_so() -> None:
    """No figure is made up."""
    verdict = Verdict(Target("c", "sluice", "cpu", "nginx", at_most=1.0), None)

    assert (words.reached(verdict), words.outcome(verdict)) == ("-", "not measured")


def test_every_row_has_a_cell_per_column() -> None:
    """Also for a registry known by its URL, whose CPU nobody sees, and for memory; errors stand by the name."""
    rows = {
        (section.case, line.contender): words.cells(section, line)
        for group in groups(SAMPLE)
        for section in group.sections
        for line in section.lines
    }

    assert {len(row) for row in rows.values()} == {len(words.COLUMNS)}
    assert rows["fleet", "url"][1:5] == ("url (2 errors)", "-", "-", "-")
    assert rows["idle-connections", "sluice"][2] == "8.79 KiB"
    assert rows["manifest-get", "sluice"][2:5] == ("0.05 s/1,000", "0.04 to 0.06", "20,000 req")
    assert rows["manifest-get", "sluice"][-1].startswith("1/20 ±")


@pytest.mark.parametrize(
    ("name", "amount", "text"),
    [("background_bytes_per_s", 2048, "2 KiB/s"), ("wasted_bytes", 10, "10 B"), ("pulls_per_s", 7.0, "7")],
)
def test_figures_of_one_case_end_in_their_unit(name: str, amount: float, text: str) -> None:
    """So bytes are shown as such."""
    assert words.of_the_case(name, amount) == text


def test_memory_is_memory() -> None:
    """The unit of the axis too."""
    assert "bytes" in words.axis(Unit.CONNECTIONS)
    assert words.axis(Unit.GIB) == "server CPU seconds per GiB"
