"""Figures, medians and ratios, against what can be reckoned by hand."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import figures
from bench.records import Unit
from tests.bench.reports import SAMPLE, measured, report, rounds


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("cpu", 0.25),
        ("wall", 1.0),
        ("client_cpu", 0.25),
        ("rss", 64 * 2**20),
        ("first_byte.p50_ms", 1.0),
        ("whole.p99_ms", 3.0),
        ("whole.nonsense", None),
        ("pulls_per_s", 7.0),
        ("unknown", None),
    ],
)
def test_a_figure_by_its_name(figure: str, expected: float | None) -> None:
    """CPU and wall time are per unit of work: half a second for 2,000 requests is a quarter per thousand."""
    one = dataclasses.replace(measured("c", "sluice", 1, 0.5, extra={"pulls_per_s": 7.0}), requests=2000)

    assert figures.value(one, figure) == expected


def test_the_unit_decides_what_work_is() -> None:
    """GiB for bulk; for connections the primary figure is memory, as the case tells it."""
    extra = {"rss_bytes_per_connection": 9000.0}

    assert figures.value(measured("c", "sluice", 1, 0.5, unit=Unit.GIB), "cpu") == 0.5
    assert figures.value(measured("c", "sluice", 1, 0.5, unit=Unit.CONNECTIONS, extra=extra), "cpu") == 9000.0
    assert figures.value(measured("c", "url", 1, None), "cpu") is None


def test_the_median_and_the_extremes_are_of_the_rounds() -> None:
    """One bad round moves the range, not the figure."""
    spread = figures.spread(report(rounds("c", "sluice", 1.0, 9.0, 2.0)), "c", "sluice")

    assert spread is not None
    assert (spread.median, spread.low, spread.high) == (2.0, 1.0, 9.0)
    assert figures.spread(SAMPLE, "c", "nobody") is None


def test_a_ratio_is_of_medians_in_the_same_rounds() -> None:
    """A round that only one contender has is left out; errors are summed."""
    both = report(rounds("c", "sluice", 1.0, 1.0, 1.0, 50.0), rounds("c", "peer", 4.0, 4.0, 4.0))

    ratio = figures.ratio(both, "c", "cpu", "sluice", "peer")

    assert ratio is not None
    assert (ratio.ratio, ratio.low, ratio.high, ratio.rounds) == (0.25, 0.25, 0.25, 3)
    assert ratio.noise == 0
    assert figures.ratio(both, "c", "cpu", "sluice", "nobody") is None
    assert figures.errors(SAMPLE, "fleet", "url") == 2


def test_what_used_nothing_has_no_ratio() -> None:
    """Nobody divides by a CPU time of zero, as a clock tick may give for a short round."""
    assert figures.ratio(report(rounds("c", "a", 1.0), rounds("c", "b", 0.0)), "c", "cpu", "a", "b") is None


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10)), min_size=1, max_size=9))
def test_the_interval_holds_the_ratio_and_comes_out_the_same(pairs: list[tuple[float, float]]) -> None:
    """Whatever the rounds are; the same report gives the same interval twice."""
    ours, theirs = zip(*pairs, strict=True)
    made = report(rounds("c", "a", *ours), rounds("c", "b", *theirs))

    ratio = figures.ratio(made, "c", "cpu", "a", "b")

    assert ratio is not None
    assert ratio == figures.ratio(made, "c", "cpu", "a", "b")
    assert ratio.low <= ratio.ratio * 1.000001
    assert ratio.high >= ratio.ratio * 0.999999


def test_more_scatter_is_more_noise() -> None:
    """The interval of steady rounds is narrower than that of wild ones."""
    peer = rounds("c", "peer", *[1.0] * 7)
    steady = figures.ratio(
        report(rounds("c", "a", 1.0, 1.01, 0.99, 1.0, 1.01, 0.99, 1.0), peer), "c", "cpu", "a", "peer"
    )
    wild = figures.ratio(report(rounds("c", "a", 0.5, 1.5, 0.7, 1.3, 1.0, 2.0, 0.4), peer), "c", "cpu", "a", "peer")

    assert steady is not None
    assert wild is not None
    assert steady.noise < 0.02
    assert wild.noise > 0.3
