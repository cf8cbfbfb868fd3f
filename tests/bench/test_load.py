"""A load process by itself: what it says, in which order, and that it never outlives its starter."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders.contender import Endpoint
from bench.load import Load

DRIVER = """
async def drive(load, *, requests, word=True):
    load.answered(1000, 1000)
    load.failed("before it counted")
    load.samples("whole").add(1)
    if word:
        await load.ready()
    for number in range(requests):
        load.answered(1, 10)
        load.samples("whole").add(2_000_000)
    for number in range(7):
        load.failed(f"error {number}")
    load.extra["something_ms"] = 1.5
"""


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A load process that finds a driver of ours."""
    (tmp_path / "driver_of_a_test.py").write_text(DRIVER)
    root = Path(__file__).resolve().parents[2]
    started = subprocess.Popen(
        [sys.executable, "-m", "bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root)},
    )
    with started:
        yield started
        started.kill()


def job(**arguments: object) -> bytes:
    """The first line for it."""
    endpoint = {"host": "127.0.0.1", "port": 1, "certificate": None, "authority": ""}
    return json.dumps({"driver": "driver_of_a_test", "endpoint": endpoint, "arguments": arguments}).encode() + b"\n"


@pytest.mark.slow
def test_it_waits_for_the_word_and_counts_from_there(process: subprocess.Popen[bytes]) -> None:
    """Ready, go, done, result: what happened before the word is forgotten, errors are counted and a few told."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(job(requests=3))
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == "ready"
    process.stdin.write(b'"go"\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == "done"
    result = json.loads(process.stdout.readline())
    assert (result["requests"], result["moved_bytes"], result["errors"]) == (3, 30, 7)
    assert result["complaints"] == [f"error {number}" for number in range(5)]
    assert result["extra"] == {"something_ms": 1.5}
    assert set(result["recordings"]) == {"whole"}
    assert process.wait(10) == 0


@pytest.mark.slow
def test_it_ends_when_its_starter_is_gone(process: subprocess.Popen[bytes]) -> None:
    """A load process whose input ends does not stay behind."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(job(requests=3))
    process.stdin.flush()
    assert json.loads(process.stdout.readline()) == "ready"
    process.stdin.close()
    assert process.wait(10) != 0


@pytest.mark.slow
def test_a_driver_that_never_gets_ready_is_an_error(process: subprocess.Popen[bytes]) -> None:
    """A measurement without a beginning is none."""
    output, errors = process.communicate(job(requests=1, word=False), 20)
    assert output == b""
    assert b"never called ready" in errors


def test_nothing_counts_without_the_word() -> None:
    """Finishing before it began raises."""
    with pytest.raises(RuntimeError, match="ready"):
        Load(Endpoint("127.0.0.1", 1)).finish()
