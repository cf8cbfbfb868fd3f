"""Commands that other packages bring: found by entry point, loaded when called, and clear when they cannot be."""

from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint

import click
import pytest

from gateway.cli import further, main
from tests.gateway.cli.command import run

Bring = Callable[..., None]


@click.command()
def hello() -> None:
    """Say hello."""
    click.echo("hello")


NO_COMMAND = "text"


@pytest.fixture
def bring(monkeypatch: pytest.MonkeyPatch) -> Bring:
    """Let installed packages bring these commands instead of those that they bring."""

    def install(*points: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, further.GROUP) for name, value in points]

        def entry_points(*, group: str, name: str | None = None) -> Sequence[EntryPoint]:
            return [each for each in found if each.group == group and name in {None, each.name}]

        monkeypatch.setattr(further, "entry_points", entry_points)

    return install


def test_a_command_of_another_package_is_called(bring: Bring) -> None:
    """It runs as one of Sluice's own, and stands in the list with its help."""
    bring(("hello", f"{__name__}:hello"))

    assert run("hello").out == "hello\n"
    assert "Say hello." in run("--help").out
    assert main.list_commands(click.Context(main))[-1] == "hello"


def test_nobody_can_replace_a_command(bring: Bring) -> None:
    """`sluice user` stays ours, whoever else has one."""
    bring(("user", f"{__name__}:hello"))

    assert "hello" not in run("user", "--help").out
    assert main.list_commands(click.Context(main)).count("user") == 1


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_package.cli:command", "pip install 'sluice-gateway[extra]'"),
        (f"{__name__}:NO_COMMAND", "is no click command"),
    ],
)
def test_what_cannot_be_loaded_is_told(bring: Bring, value: str, why: str) -> None:
    """Calling it ends with exit code 1 and a reason; the list of commands still works and says the same."""
    bring(("extra", value))

    called, listed = run("extra"), run("--help")

    assert (called.code, listed.code) == (1, 0)
    assert why in called.err
    assert "extra" in listed.out


def test_the_load_suite_is_one_of_them() -> None:
    """What is installed here brings `sluice bench`."""
    assert "bench" in further.names()
    assert "side by side" in further.summary("bench")
    assert further.find("nobody-brings-this") is None
