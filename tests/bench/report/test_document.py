"""Reports as files: what is read is what was written, and other files are told."""

import json
from pathlib import Path

import pytest

from bench.report import document
from bench.report.document import ReportInvalid
from tests.bench.reports import SAMPLE


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    """Every field, also through the directory that a run wrote."""
    document.write(SAMPLE, tmp_path / document.NAME)

    read = document.read(tmp_path)

    assert read == document.read(tmp_path / document.NAME)
    assert list(read.measurements) == list(SAMPLE.measurements)
    assert (read.machine, read.contenders, read.cases) == (SAMPLE.machine, SAMPLE.contenders, SAMPLE.cases)
    assert list(read.notes) == list(SAMPLE.notes)


def test_the_file_says_its_format_and_units(tmp_path: Path) -> None:
    """Other programs can read it without us."""
    document.write(SAMPLE, tmp_path / "r.json")

    value = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))

    assert value["format"] == 1
    assert value["report"]["measurements"][0]["unit"] == "1,000 requests"


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "report": {}}', "[1]"])
def test_another_file_is_no_report(tmp_path: Path, text: str) -> None:
    """Empty, of another format, or something else."""
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ReportInvalid):
        document.read(path)


def test_a_missing_report_is_told() -> None:
    """With the command that makes one."""
    with pytest.raises(ReportInvalid, match="sluice bench run"):
        document.read(Path("no-such-directory"))
