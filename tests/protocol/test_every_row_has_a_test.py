"""Every row of the registry protocol is tested: each id stands in the name of a test function somewhere below tests/.

A name may cover several rows: `test_mg_02_04_05_digest` is MG-02, MG-04 and MG-05.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]

ROWS: Final = {
    "GEN": range(1, 24),
    "CH": range(1, 15),
    "TOK": range(1, 23),
    "OAU": range(1, 10),
    "ACC": range(1, 11),
    "MG": range(1, 15),
    "BG": range(1, 13),
    "UP": range(1, 33),
    "MT": range(1, 9),
    "MP": range(1, 26),
    "RF": range(1, 20),
    "TG": range(1, 11),
    "CT": range(1, 3),
    "DL": range(1, 11),
    "ER": range(1, 8),
    "WN": range(1, 2),
    "LM": range(1, 3),
}
"""The sections of the protocol and the numbers of their rows."""

_ROWS_IN_A_NAME: Final = re.compile(r"(?:^|_)(" + "|".join(ROWS).lower() + r")((?:_\d\d)+)(?=_|$)")


def rows_in(name: str) -> Iterator[str]:
    """The ids that a test function's name has."""
    for section, numbers in _ROWS_IN_A_NAME.findall(name.removeprefix("test")):
        yield from (f"{section.upper()}-{number}" for number in numbers.strip("_").split("_"))


@cache
def rows_tested() -> dict[str, list[str]]:
    """Each id with the tests that have it in their names, of all files that pytest collects."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                for row in rows_in(node.name):
                    found.setdefault(row, []).append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def test_every_row_is_tested() -> None:
    """No row lacks a test."""
    rows = {f"{section}-{number:02}" for section, numbers in ROWS.items() for number in numbers}
    tested = rows_tested()

    assert sorted(rows - tested.keys()) == []


def test_no_test_names_a_row_that_does_not_exist() -> None:
    """An id with a wrong number is a slip of the pen, and hides that the right one has no test."""
    rows = {f"{section}-{number:02}" for section, numbers in ROWS.items() for number in numbers}

    assert {row: names for row, names in rows_tested().items() if row not in rows} == {}


def test_ids_are_read_from_names() -> None:
    """Several rows and several sections in one name are found, and numbers elsewhere are not taken for rows."""
    assert list(rows_in("test_mg_02_04_05_digest")) == ["MG-02", "MG-04", "MG-05"]
    assert list(rows_in("test_acc_10_dl_09_deleting")) == ["ACC-10", "DL-09"]
    assert list(rows_in("test_tg_03_10_pages")) == ["TG-03", "TG-10"]
    assert list(rows_in("test_h14_h15_http_2_is_off")) == []
    assert list(rows_in("test_startup_28")) == []
