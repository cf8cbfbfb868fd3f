"""The command as a whole: every part is there, explains itself with examples, and takes no secret as an argument."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from gateway.cli import main
from tests.gateway.cli.command import Sluice, run

PARTS = ["serve", "user", "robot", "token", "project", "repo", "warm", "gc", "fsck", "migrate", "config", "bench"]


def _all_commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*words, name), command
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*words, name))


EVERY = dict(_all_commands(main))


def test_every_part_is_there() -> None:
    """The names that scripts rely on."""
    assert main.list_commands(click.Context(main)) == PARTS
    assert {words[1] for words in EVERY if words[0] == "user" and len(words) > 1} >= {
        "add",
        "list",
        "passwd",
        "disable",
        "enable",
        "delete",
        "grant",
        "revoke",
    }


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_every_help_has_worked_examples(words: tuple[str, ...]) -> None:
    """Each on a line of its own, and each a call of the command at hand."""
    outcome = run(*words, "--help")

    examples = outcome.out.partition("  Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert outcome.code == 0
    assert examples
    assert any(f"sluice {' '.join(words)}" in line for line in examples)
    assert all(line.startswith("    ") for line in examples)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_secret_is_an_argument(words: tuple[str, ...]) -> None:
    """Arguments can be read by every user of the machine; what is about secrets is a flag."""
    telling = ("password", "secret", "token", "key")
    taking = [
        parameter.name
        for parameter in EVERY[words].params
        if any(word in str(parameter.name) for word in telling)
        and not (isinstance(parameter, click.Option) and parameter.is_flag)
        and not str(parameter.name).endswith("_id")
    ]

    assert taking == []


def test_an_unknown_command_is_wrong_usage() -> None:
    """Exit code 2, and where to look."""
    outcome = run("frobnicate")

    assert outcome.code == 2
    assert "No such command 'frobnicate'" in outcome.err


def test_the_version_is_told() -> None:
    """For bug reports."""
    assert run("--version").out.startswith("sluice, version ")


@pytest.mark.slow
def test_light_commands_do_not_import_the_server() -> None:
    """`sluice user list` must not wait for what only the server needs."""
    code = (
        "import sys, gateway.cli.user, gateway.cli.robot, gateway.cli.token, gateway.cli.project, gateway.cli.repo,"
        " gateway.cli.config, gateway.cli.migrate\n"
        "print([name for name in ('quart', 'hypercorn', 'boto3', 'gateway.app') if name in sys.modules])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.slow
def test_the_module_is_the_command(sluice: Sluice) -> None:
    """`python -m gateway` does what `sluice` does."""
    words = [sys.executable, "-m", "gateway", "config", "check", "--data", str(sluice.data)]

    assert "the configuration is good" in subprocess.run(words, capture_output=True, text=True, check=True).stdout
