"""`sluice serve` is told to stop before it serves: as process 1 it would not hear what nobody listens for."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# SIGTERM is ignored first, which is what the kernel does for process 1 of a container without a handler.
_IGNORED = "import os, signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"

_WHILE_PREPARING = f"""{_IGNORED}
import trio
from gateway.cli import serve

async def prepare(settings, *, password):
    os.kill(os.getppid(), signal.SIGTERM)
    await trio.sleep_forever()

serve.prepare = prepare
serve.command(["--data", sys.argv[1], "--listen", "127.0.0.1:0"])
"""

_WHILE_OPENING = f"""{_IGNORED}
from gateway.cli import serve
open_services = serve.open_services

def opening(settings):
    os.kill(os.getpid(), signal.SIGTERM)
    return open_services(settings)

serve.open_services = opening
serve.command(["--data", sys.argv[1], "--listen", "127.0.0.1:0", "--workers", sys.argv[2]])
"""


def _run(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, timeout=90
    )


def test_sigterm_while_preparing_ends_it_well(tmp_path: Path) -> None:
    """The process that prepares is ended, too: nobody holds the pipes or waits for it."""
    ended = _run(_WHILE_PREPARING, str(tmp_path / "data"))

    assert (ended.returncode, ended.stderr) == (0, "")


def test_sigterm_while_services_open_is_not_lost(tmp_path: Path) -> None:
    """The worker stops when its services are open, as after a signal that came later."""
    ended = _run(_WHILE_OPENING, str(tmp_path / "data"), "1")

    assert ended.returncode == 0, ended.stderr
    assert "worker_stopping" in ended.stderr
