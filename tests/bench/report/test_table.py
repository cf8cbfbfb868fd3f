"""A report on a terminal."""

import io

from rich.console import Console

from bench import baseline
from bench.report import table
from tests.bench.reports import MACHINE, SAMPLE


def printed(*, width: int = 200) -> tuple[Console, io.StringIO]:
    """A console that keeps what it prints."""
    kept = io.StringIO()
    return Console(file=kept, width=width), kept


def test_every_contender_of_every_case_is_shown_and_the_losses_with_them() -> None:
    """With notes, marked-up text in them taken literally."""
    console, kept = printed()

    table.show(SAMPLE, console)

    text = kept.getvalue()
    for case in ("manifest-get", "blob-get-warm-1", "idle-connections", "fleet"):
        assert case in text
    assert "missed" in text
    assert "2 errors" in text
    assert "note: scale <quick>" in text
    assert "pulls_per_s: url 7" in text


def test_a_comparison_says_good_or_worse() -> None:
    """A ratio that was not measured is worse, and is called so."""
    entries = (
        baseline.Entry("manifest-get", "cpu", "sluice", "docker-registry", 0.05, 0.01),
        baseline.Entry("blob-get-warm-1", "cpu", "sluice", "nginx", 0.5, 0.01),
        baseline.Entry("range-64k", "cpu", "sluice", "docker-registry", 0.5, 0.01),
    )
    compared = baseline.compare(SAMPLE, baseline.Baseline("2026-11-20T00:00:00+00:00", MACHINE, 5, entries))
    console, kept = printed()

    console.print(table.comparisons(compared))

    good, worse, missing = [line for line in kept.getvalue().splitlines() if "sluice" in line]
    assert "good" in good
    assert "worse" in worse
    assert "not measured" in missing
    assert "worse" in missing
