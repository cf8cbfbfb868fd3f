"""The documents keep their word: rows are covered, files exist, commands can be typed as they stand."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from gateway.cli import main
from tests.protocol.test_every_row_has_a_test import ROWS, rows_tested

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
"""Decision records are not among them: they speak of what was tried and of what is to come."""
PROTOCOL: Final = ROOT / "docs" / "protocol.md"
LEVELS: Final = {"M", "M+", "S", "O", "D", "C", "G"}
HIDDEN: Final = {".git", ".venv", ".tools", ".clients", "data", "__pycache__"}

_ROW: Final = re.compile(r"^\| ([A-Z]{2,3}-\d\d) \| (.+) \| (.+) \| (.+) \|$", re.MULTILINE)
_MENTIONED: Final = re.compile(r"\b([A-Z]{2,3}-\d\d)\b")
_CODE: Final = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FILE: Final = re.compile(r"[\w./*-]+\.(?:md|py)")
_BLOCK: Final = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND: Final = re.compile(r"^\$ (?:[A-Z_]+=\S+ )*(sluice(?: .*)?)$", re.MULTILINE)


def ids() -> Iterator[str]:
    """Every row of sections 1.1 to 1.14."""
    for section, numbers in ROWS.items():
        yield from (f"{section}-{number:02}" for number in numbers)


def documented() -> dict[str, tuple[str, str, str]]:
    """What docs/protocol.md says of each row: sentence, level, tests. A row that stands twice fails here."""
    rows = _ROW.findall(PROTOCOL.read_text(encoding="utf-8"))
    found = {row: (sentence, level, tests) for row, sentence, level, tests in rows}
    assert len(found) == len(rows)
    return found


def test_every_row_is_documented() -> None:
    """Each row has its line, in the order of the sections, with a sentence and a level, and no other row has one."""
    assert list(documented()) == list(ids())
    for row, (sentence, level, _) in documented().items():
        assert sentence.endswith("."), row
        assert set(re.split("[/, ]+", level)) <= LEVELS, row


@pytest.mark.slow
def test_every_row_names_the_tests_that_prove_it() -> None:
    """The files that a row names, beside those of the protocol or from the root, hold a test with its id."""
    tested = rows_tested()
    for row, (_, _, files) in documented().items():
        proving = {test.partition("::")[0] for test in tested[row]}
        named = _CODE.findall(files)
        assert named, row
        places = {name.removeprefix("tests/") if "/" in name else f"protocol/{name}" for name in named}
        assert places <= proving, row


def test_rows_that_are_mentioned_exist() -> None:
    """No text of the protocol page refers to a row that is not there."""
    assert set(_MENTIONED.findall(PROTOCOL.read_text(encoding="utf-8"))) == set(ids())


@pytest.fixture(scope="module")
def project_files() -> list[str]:
    """Every file of the project, relative to its root."""
    tops = [path for path in ROOT.iterdir() if path.name not in HIDDEN]
    paths = [each for top in tops for each in (top, *top.rglob("*.*"))]
    return [path.relative_to(ROOT).as_posix() for path in paths if path.suffix in {".md", ".py"}]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_are_named_exist(document: Path, project_files: list[str]) -> None:
    """Each Markdown or Python file in backticks is in the project: from its root or beside the page, or by its name."""
    beside = f"{document.parent.relative_to(ROOT).as_posix()}/".removeprefix("./")
    for code in set(_CODE.findall(document.read_text(encoding="utf-8"))):
        if _FILE.fullmatch(code) and not code.startswith("/"):
            pattern = re.escape(code).replace(r"\*", "[^/]*")
            place = f"(?:{re.escape(beside)})?" if "/" in code else "(?:.*/)?"
            meant = re.compile(place + pattern)
            assert any(meant.fullmatch(path) for path in project_files), f"{document.name}: {code}"


def commands() -> Iterator[tuple[str, str, bool]]:
    """Document, command line, and whether it is meant to be typed as it stands; others only name a command."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in _BLOCK.findall(text):
            for line in _COMMAND.findall(block.replace("\\\n", " ")):
                yield document.name, line, True
        for code in _CODE.findall(text):
            if code.startswith("sluice "):
                yield document.name, code, False


def parse(line: str, *, whole: bool) -> None:
    """Let click parse the line without running anything; raises `click.UsageError` for what could not be typed."""
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(main, info_name="sluice")
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    if whole:
        assert not isinstance(command, click.Group), f"{line} lacks a command"
        command.make_context(context.info_name, words, parent=context.parent)
    else:
        options = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= options, line


@pytest.mark.slow
@pytest.mark.parametrize(("document", "line", "whole"), list(commands()), ids=str)
def test_commands_can_be_typed(document: str, line: str, *, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `sluice` line of the documents parses: its command, its options, the form and number of its arguments."""
    monkeypatch.delenv("SLUICE_CONFIG", raising=False)
    parse(line, whole=whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["sluice usr add ada", "sluice user add", "sluice serve --nowhere", "sluice gc extra", "sluice user"]
)
def test_a_line_that_cannot_be_typed_is_found(line: str) -> None:
    """A wrong command, a missing or superfluous argument and an unknown option do not pass."""
    with pytest.raises((click.UsageError, AssertionError)):
        parse(line, whole=True)


def test_there_are_commands_to_check() -> None:
    """README.md and docs/clients.md have lines to type, so the test above is not an empty one."""
    typed = {document for document, _, whole in commands() if whole}
    assert {"README.md", "clients.md"} <= typed
