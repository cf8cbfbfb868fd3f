"""The closing lines of a run say what was skipped and why, and nothing else."""

from collections import Counter
from pathlib import Path

from tests.left_out import skipped, summary, unreached

REPORT = """<testsuites><testsuite name="pytest">
<testcase name="a"><skipped type="pytest.skip" message="podman is not installed">x.py:1</skipped></testcase>
<testcase name="b"><skipped type="pytest.skip" message="podman is not installed">x.py:2</skipped></testcase>
<testcase name="c"><skipped type="pytest.xfail" message="known" /></testcase>
<testcase name="d" />
</testsuite></testsuites>"""


def test_reasons_are_counted_over_all_reports(tmp_path: Path) -> None:
    """Skips are counted by reason across files; passes and expected failures are no skips."""
    (tmp_path / "unit.xml").write_text(REPORT)
    (tmp_path / "marked.xml").write_text(REPORT)

    assert skipped(tmp_path) == {"podman is not installed": 4}


def test_the_most_frequent_reason_comes_first() -> None:
    """The summary has one line a reason, by count, then the further lines."""
    text = summary(Counter({"rare": 1, "frequent": 3}), ["left out: x"])

    assert text.splitlines() == ["Left out of this run, and why:", "  3 x frequent", "  1 x rare", "  left out: x"]


def test_a_stage_without_a_report_was_left_out(tmp_path: Path) -> None:
    """A stage that never ran is named, so that its silence is not taken for success."""
    (tmp_path / "unit.xml").write_text(REPORT)

    assert unreached(tmp_path, ["unit", "marked"]) == ["all marked tests: a step before them failed"]


def test_a_complete_run_says_so(tmp_path: Path) -> None:
    """Without skips and with every program there, one sentence says that nothing is missing."""
    assert summary(skipped(tmp_path), []) == "Nothing was left out of this run."
