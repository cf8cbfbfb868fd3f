"""Where passwords come from: a pipe, a variable, or a person who types it twice."""

import io
import sys

import click
import pytest

from gateway.cli.passwords import ask_password


class Terminal(io.StringIO):
    """Standard input with a person at it."""

    def isatty(self) -> bool:
        """A person is there."""
        return True


def test_a_pipe_counts_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first line, without the line's end and with every other blank."""
    monkeypatch.setenv("SLUICE_PASSWORD", "from the environment")
    monkeypatch.setattr(sys, "stdin", io.StringIO(" from the pipe \r\nsecond line\n"))

    assert ask_password(from_stdin=True) == " from the pipe "


def test_then_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked."""
    monkeypatch.setenv("SLUICE_PASSWORD", "from the environment")

    assert ask_password(from_stdin=False) == "from the environment"


def test_then_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, and nothing is shown of it."""
    asked: dict[str, object] = {}

    def prompt(text: str, **how: object) -> str:
        asked.update(how, text=text)
        return "typed"

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(click, "prompt", prompt)

    assert ask_password(from_stdin=False) == "typed"
    assert asked == {"text": "Password", "hide_input": True, "confirmation_prompt": True}


def test_without_any_of_them_it_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script does not hang on a question that nobody answers."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("a password\n"))

    with pytest.raises(click.UsageError, match="--password-stdin"):
        ask_password(from_stdin=False)
