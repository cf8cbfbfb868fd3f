"""How commands print: tables for people, JSON for programs, one row at a time so that no list is held whole."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import click

Row = Mapping[str, object]

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024


class Listing:
    """A list on standard output. Columns are as wide as the first page needs; JSON is one array."""

    def __init__(self, *columns: str, as_json: bool) -> None:
        self._columns = columns
        self._as_json = as_json
        self._widths: list[int] = []
        self._printed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._as_json and error is None:
            click.echo("\n]" if self._printed else "[]")

    def add(self, rows: Sequence[Row]) -> None:
        """Print more rows; each has all columns, and perhaps more for JSON."""
        if self._as_json:
            self._add_json(rows)
            return
        cells = [[_cell(row[column]) for column in self._columns] for row in rows]
        if not self._widths and cells:
            head = [column.replace("_", " ").upper() for column in self._columns]
            self._widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
            self._print(head)
        for line in cells:
            self._print(line)

    def _add_json(self, rows: Sequence[Row]) -> None:
        for row in rows:
            click.echo(("[\n  " if not self._printed else ",\n  ") + json.dumps(row, ensure_ascii=False), nl=False)
            self._printed += 1

    def _print(self, cells: Sequence[str]) -> None:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(cells, self._widths, strict=True)).rstrip())


def moment(seconds: int | None) -> str | None:
    """A time as JSON and tables show it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def amount(size_bytes: int) -> str:
    """Bytes for people: `12.3 MiB`."""
    if size_bytes < _STEP:
        return f"{size_bytes} B"
    size = size_bytes / _STEP
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"


def _cell(value: object) -> str:
    """A value on one line: control characters that somebody put into a description must not reach the terminal."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return "".join(each if each.isprintable() else " " for each in text) or "-"
