"""The generated parts of a Markdown page: between the marks, and nowhere else."""

from pathlib import Path

import pytest

from bench.report import markdown
from bench.report.markdown import NoPlace
from tests.bench.reports import SAMPLE

PAGE = """# Figures
<!-- bench:begin targets -->
old
<!-- bench:end -->
in between
<!-- bench:begin tables -->
<!-- bench:end -->
the end
"""
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md"


def test_only_what_is_between_marks_changes(tmp_path: Path) -> None:
    """Tables with every contender, targets with the losses; doing it twice changes nothing."""
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")

    assert markdown.fill(SAMPLE, path) == [path]
    text = path.read_text(encoding="utf-8")
    markdown.fill(SAMPLE, path)

    assert path.read_text(encoding="utf-8") == text
    assert text.startswith("# Figures\n<!-- bench:begin targets -->\n")
    assert "old" not in text
    assert "in between" in text
    assert text.endswith("<!-- bench:end -->\nthe end\n")
    assert "**missed**" in text
    assert "| `blob-get-warm-1` | nginx |" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head(tmp_path: Path) -> None:
    """Or it would not be a table."""
    path = tmp_path / "page.md"
    path.write_text(PAGE, encoding="utf-8")
    markdown.fill(SAMPLE, path)

    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1


@pytest.mark.slow
def test_plots_lie_beside_the_page_and_stale_ones_go(tmp_path: Path) -> None:
    """Every picture that the page shows is there, and no other."""
    path = tmp_path / "page.md"
    path.write_text("<!-- bench:begin plots -->\n<!-- bench:end -->\n", encoding="utf-8")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "stale.png").write_bytes(b"")

    markdown.fill(SAMPLE, path)

    text = path.read_text(encoding="utf-8")
    pictures = {file.name for file in (tmp_path / "page").iterdir()}
    assert pictures
    assert "stale.png" not in pictures
    assert all(f"(page/{name})" in text for name in pictures)
    assert text.count("](page/") == len(pictures)


@pytest.mark.parametrize("text", ["no marks", "<!-- bench:begin nonsense -->\n<!-- bench:end -->\n"])
def test_a_page_without_places_is_left_alone(tmp_path: Path, text: str) -> None:
    """And told."""
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(NoPlace):
        markdown.fill(SAMPLE, path)
    assert path.read_text(encoding="utf-8") == text


def test_the_page_of_benchmarks_has_all_places() -> None:
    """So that one command fills it."""
    text = DOCUMENT.read_text(encoding="utf-8")

    whole = ["run", "targets", "plots", "tables"]
    names = whole + [f"{section}-{name}" for section in ("s3", "proxy") for name in ("run", "targets", "tables")]
    assert [text.count(f"<!-- bench:begin {name} -->\n") for name in names] == [1] * len(names)
    assert text.count("<!-- bench:end -->") == len(names)


def test_a_section_is_filled_alone(tmp_path: Path) -> None:
    """A page may hold two reports; plots of a section have a folder of their own."""
    path = tmp_path / "page.md"
    path.write_text(PAGE + "<!-- bench:begin s3-tables -->\nnone yet\n<!-- bench:end -->\n", encoding="utf-8")

    markdown.fill(SAMPLE, path, "s3")
    only_section = path.read_text(encoding="utf-8")
    markdown.fill(SAMPLE, path)
    both = path.read_text(encoding="utf-8")

    assert only_section.startswith(PAGE)
    assert "none yet" not in only_section
    assert "| `blob-get-warm-1` | nginx |" in only_section
    assert both.endswith(only_section.removeprefix(PAGE))
    with pytest.raises(NoPlace, match="no marks"):
        markdown.fill(SAMPLE, path, "other")
