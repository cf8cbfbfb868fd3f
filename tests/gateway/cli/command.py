"""The command `sluice` as a person types it, run in this process on an installation of the test's own."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from gateway.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, what it said, and what it said beside that."""

    code: int
    out: str
    err: str

    @property
    def value(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Standard output by line."""
        return self.out.splitlines()


@dataclass(frozen=True)
class Sluice:
    """Calls commands with `--data` set."""

    data: Path

    def __call__(self, *words: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Outcome:
        """Run one command; anything but a result or a clean error fails the test."""
        return run(*words, "--data", str(self.data), stdin=stdin, environ=environ)

    def good(self, *words: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Outcome:
        """Run one command that has to work."""
        outcome = self(*words, stdin=stdin, environ=environ)
        assert outcome.code == 0, outcome
        return outcome


def run(*words: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Outcome:
    """Run `sluice WORDS`."""
    result = CliRunner(env=dict(environ or {})).invoke(main, list(words), input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)
