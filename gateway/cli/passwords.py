"""Where a command gets a password from: standard input, the environment, or a prompt. Never from an argument."""

import os
import sys
from typing import Final

import click

VARIABLE: Final = "SLUICE_PASSWORD"

stdin_option = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help=f"Read the password from standard input; see also {VARIABLE}."
)


def ask_password(*, from_stdin: bool, variable: str = VARIABLE) -> str:
    """The password: the first line of standard input if told so, else from the environment, else asked for twice."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif (given := os.environ.get(variable)) is not None:
        password = given
    elif sys.stdin.isatty():
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    else:
        raise click.UsageError(f"no password: pipe it in with --password-stdin, or set {variable}")
    if not password:
        raise click.UsageError("the password is empty")
    return password
