"""A report as the files of a directory: JSON for programs, PNG for slides, one HTML page for readers."""

from pathlib import Path
from typing import Final

from bench.records import Report
from bench.report import document, page, plots

PAGE: Final = "report.html"


def write(report: Report, directory: Path) -> list[Path]:
    """Write all of them; what was written."""
    written = write_json(report, directory)
    drawn = plots.draw(report)
    for plot in drawn:
        path = directory / f"{plot.name}.png"
        path.write_bytes(plot.png())
        written.append(path)
    path = directory / PAGE
    path.write_text(page.render(report, drawn), encoding="utf-8")
    return [*written, path]


def write_json(report: Report, directory: Path) -> list[Path]:
    """Write the JSON only."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / document.NAME
    document.write(report, path)
    return [path]
