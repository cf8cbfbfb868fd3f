"""The page: whole, by itself, with every text from outside escaped and the losses in sight."""

import re
from html.parser import HTMLParser

import pytest

from bench.report import page
from bench.report.plots import draw
from tests.bench.reports import SAMPLE, report

pytestmark = pytest.mark.slow  # matplotlib takes most of a second to import

VOID = {"meta", "use", "path", "br"}


class Reader(HTMLParser):
    """Collects tags, and what would be loaded from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "xlink:href"} and value and not value.startswith("#"):
                self.loaded.append(value)
            if name == "id" and value:
                self.ids.append(value)


@pytest.fixture(scope="module")
def html() -> str:
    """The page of the sample."""
    return page.render(SAMPLE, draw(SAMPLE))


def test_it_needs_nothing_else(html: str) -> None:
    """No scripts, nothing that is loaded; identifiers of several plots do not clash."""
    reader = Reader()
    reader.feed(html)

    assert reader.loaded == []
    assert not {"script", "link", "img", "iframe"} & set(reader.tags)
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html
    assert len(set(reader.ids)) == len(reader.ids)
    assert reader.tags.count("svg") == len(draw(SAMPLE))


def test_what_a_plot_refers_to_is_on_the_page(html: str) -> None:
    """Markers and clips are found under the names that they were given."""
    defined = set(re.findall(r'\bid="([^"]+)"', html))

    assert set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html)) <= defined


def test_the_losses_stand_in_the_first_lines(html: str) -> None:
    """What was missed is named before any table."""
    opening = html.partition("<h2>")[0]

    assert "Missed:" in opening
    assert "blob-get-warm-1 (server CPU)" in opening


def test_texts_from_outside_are_escaped(html: str) -> None:
    """Names, notes and summaries cannot become markup."""
    assert "a &lt;CPU&gt;" in html
    assert "scale &lt;quick&gt;" in html
    assert "a manifest &amp; more" in html


def test_an_empty_report_is_a_page() -> None:
    """Every target is said not to be measured."""
    assert "0 of 0 targets met" in page.render(report(), [])
