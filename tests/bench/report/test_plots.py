"""Plots: every measured contender is drawn in its colour, with units, as PNG and as an element for a page."""

from xml.etree import ElementTree as ET

import pytest

from bench.figures import RSS_PER_CONNECTION
from bench.records import Unit
from bench.report.plots import Plot, draw
from tests.bench.reports import SAMPLE, measured, report

pytestmark = pytest.mark.slow  # matplotlib takes most of a second to import


@pytest.fixture(scope="module")
def plots() -> list[Plot]:
    """Those of the sample."""
    return draw(SAMPLE)


def test_there_is_a_plot_for_ratios_and_for_each_unit_of_each_group(plots: list[Plot]) -> None:
    """Names are fit for files and differ."""
    names = [plot.name for plot in plots]

    assert names[0] == "ratios"
    assert {"whole-blobs-gib", "small-answers-1-000-requests", "memory-per-client-connection"} <= set(names)
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalnum() for name in names)


def test_axes_have_labels_with_units_and_rounds_are_dots(plots: list[Plot]) -> None:
    """Three rounds are three dots beside the median."""
    (plot,) = [each for each in plots if each.name == "small-answers-1-000-requests"]
    (axes,) = plot.figure.axes

    assert axes.get_xlabel() == "server CPU seconds per 1,000 requests"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["manifest-get"]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert sorted(len(line.get_xdata()) for line in dots) == [3, 3]  # type: ignore[arg-type]  # an array of rounds
    assert len({line.get_color() for line in dots}) == 2


def test_a_contender_has_one_colour_on_all_plots(plots: list[Plot]) -> None:
    """And two have two."""
    colours: dict[str, set[str]] = {}
    for plot in plots:
        for legend in plot.figure.legends:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                name = text.get_text().removeprefix("against ")
                colours.setdefault(name, set()).add(str(handle.get_color()))  # type: ignore[union-attr]

    assert all(len(each) == 1 for each in colours.values())
    assert len(set.union(*colours.values())) == len(colours)


def test_pictures_are_pictures(plots: list[Plot]) -> None:
    """PNG begins as PNG does; SVG parses, refers to nothing outside, and takes the page's colours."""
    for plot in plots:
        assert plot.png().startswith(b"\x89PNG\r\n")
        svg = plot.svg()
        ET.fromstring(svg)  # noqa: S314  # our own text
        assert "currentColor" in svg
        assert 'href="http' not in svg
        assert "url(http" not in svg


def test_nothing_measured_is_nothing_drawn() -> None:
    """An empty report has no plots, and no error."""
    assert draw(report()) == []


def test_memory_that_shrank_is_left_out_of_the_plot() -> None:
    """A logarithmic axis has no place for it; no warning, no crash, and the others are drawn."""
    made = report(
        [measured("idle-connections", "sluice", 1, 0.1, unit=Unit.CONNECTIONS, extra={RSS_PER_CONNECTION: 9000})],
        [measured("slow-readers", "sluice", 1, 0.1, unit=Unit.CONNECTIONS, extra={RSS_PER_CONNECTION: -2000})],
    )

    (plot,) = draw(made)

    plot.png()
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == ["idle-connections"]
