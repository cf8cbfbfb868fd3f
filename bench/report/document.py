"""A report as a JSON file: what other programs read, and what tables and plots can be made from again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from bench.records import Report

NAME: Final = "report.json"


class ReportInvalid(Exception):
    """The file is missing, of another version or no report. The message says which."""


@dataclass(frozen=True, slots=True)
class _Document:
    report: Report
    format: Literal[1] = 1
    """Raised whenever a reader of older files would misunderstand newer ones."""


def write(report: Report, path: Path) -> None:
    """Write it; `read` gives it back equal."""
    path.write_bytes(TypeAdapter(_Document).dump_json(_Document(report), indent=1) + b"\n")


def read(path: Path) -> Report:
    """A report from its file, or from the one in a directory that `sluice bench run` wrote. Raises ReportInvalid."""
    file = path / NAME if path.is_dir() else path
    try:
        return TypeAdapter(_Document).validate_json(file.read_bytes()).report
    except FileNotFoundError:
        raise ReportInvalid(f"{file} does not exist; `sluice bench run` writes one") from None
    except ValidationError as error:
        raise ReportInvalid(f"{file} is no report of format 1: {error}") from error
