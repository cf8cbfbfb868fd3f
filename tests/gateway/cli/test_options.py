"""Options that all commands share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.options import GLOB, Named, expires_option, load_settings, with_settings
from gateway.config import Settings


def test_options_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed counts most; what is not typed is left to the rest."""
    monkeypatch.setenv("SLUICE_STORAGE__DATA", "from-environment")
    monkeypatch.setenv("SLUICE_SERVER__WORKERS", "3")

    typed = load_settings(Path("typed"), None, {"server.workers": ("--workers", None)})

    assert (typed.storage.data, typed.server.workers) == (Path("typed"), 3)
    assert load_settings(None, None).storage.data == Path("from-environment")


def test_a_command_gets_the_settings() -> None:
    """Not the words that led to them."""
    given: list[Settings] = []

    @click.command()
    @click.argument("name")
    @with_settings
    def command(name: str, *, settings: Settings) -> None:
        given.append(settings)
        click.echo(name)

    result = CliRunner().invoke(command, ["hello", "--data", "d"], catch_exceptions=False)

    assert result.stdout == "hello\n"
    assert [settings.storage.data for settings in given] == [Path("d")]


@pytest.mark.parametrize(("day", "seconds"), [("1970-01-02", "86400"), ("2000-01-01", "946684800")])
def test_a_day_begins_in_utc(day: str, seconds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock of the machine says."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")

    @click.command()
    @expires_option
    def command(*, expires_at: int | None) -> None:
        click.echo(str(expires_at))

    assert CliRunner().invoke(command, ["--expires", day], catch_exceptions=False).stdout == f"{seconds}\n"
    assert CliRunner().invoke(command, [], catch_exceptions=False).stdout == "None\n"


def test_a_bad_name_is_wrong_usage() -> None:
    """The message repeats it and says what is allowed."""
    with pytest.raises(click.BadParameter, match="'a b': use characters of tags"):
        GLOB.convert("a b", None, None)
    assert Named("X", str.strip).convert(" a ", None, None) == "a"
