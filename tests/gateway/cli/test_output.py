"""Printing: tables whose columns fit, JSON that is one array, and no control characters on a terminal."""

import json
from collections.abc import Sequence

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.output import Listing, Row, amount, moment


def printed(pages: Sequence[Sequence[Row]], *, as_json: bool) -> str:
    """What a listing of columns a and b prints."""

    @click.command()
    def command() -> None:
        with Listing("a", "b_c", as_json=as_json) as listing:
            for page in pages:
                listing.add(page)

    return CliRunner().invoke(command, catch_exceptions=False).stdout


def test_columns_fit_the_first_page() -> None:
    """Later pages follow its widths; nothing is cut."""
    out = printed(
        [[{"a": 1, "b_c": "long text"}, {"a": None, "b_c": True}], [{"a": "x" * 5, "b_c": []}]], as_json=False
    )

    assert out.splitlines() == ["A  B C", "1  long text", "-  yes", "xxxxx  -"]


def test_nothing_is_no_table_and_an_empty_array() -> None:
    """A program gets JSON in any case."""
    assert printed([], as_json=False) == ""
    assert printed([[]], as_json=True) == "[]\n"


_ROWS = st.lists(
    st.fixed_dictionaries({"a": st.none() | st.integers() | st.text(), "b_c": st.booleans() | st.lists(st.text())})
)


@pytest.mark.slow
@given(st.lists(_ROWS, max_size=3))
def test_pages_of_json_are_one_array(pages: list[list[Row]]) -> None:
    """However the rows are split."""
    assert json.loads(printed(pages, as_json=True)) == [row for page in pages for row in page]


@pytest.mark.slow
@given(_ROWS)
def test_no_row_controls_the_terminal(rows: list[Row]) -> None:
    """A description may hold anything; a line of a table is one line of printable characters."""
    out = printed([rows], as_json=False)

    assert len(out.splitlines()) == (len(rows) + 1 if rows else 0)
    assert all(each.isprintable() for each in out.replace("\n", ""))


def test_amounts_and_times_are_for_people() -> None:
    """Bytes in binary units, times in UTC."""
    assert [amount(size) for size in (0, 1023, 1024, 1536, 1 << 20, 5 << 40, 1 << 60)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "1.0 MiB",
        "5.0 TiB",
        "1024.0 PiB",
    ]
    assert (moment(0), moment(None)) == ("1970-01-01T00:00:00Z", None)
