"""A trace is driven against a real registry: content is made, every answer is right, and the times are kept."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench import trace
from bench.cli import bench
from bench.contenders.contender import Start
from bench.contenders.sluice import Sluice, SluiceServer
from bench.processes import Cores
from bench.replay import image_of, repeated
from bench.trace import Trace, Visit

LAYER, MANIFEST = f"sha256:{1:064}", f"sha256:{2:064}"


def visit(at_s: float, target: str, status: int = 200, sent_bytes: int = 0, *, method: str = "GET") -> Visit:
    """A request of one of three clients."""
    return Visit(at_s, int(at_s * 100) % 3, method, target, status, sent_bytes, authorized=True)


PULLS = (
    visit(0.0, "/v2/n1/n2/manifests/t1", sent_bytes=1500),
    visit(0.1, f"/v2/n1/n2/manifests/{MANIFEST}", sent_bytes=900),
    visit(0.2, f"/v2/n1/n2/manifests/{MANIFEST}", 304),
    visit(0.3, f"/v2/n1/n2/blobs/{LAYER}", method="HEAD"),
    visit(0.3, f"/v2/n1/n2/blobs/{LAYER}", sent_bytes=200_000),
    visit(0.4, f"/v2/n1/n2/blobs/{LAYER}", 206, 1000),
    visit(0.5, f"/v2/n1/n3/blobs/{LAYER}", sent_bytes=200_000),
    visit(0.6, "/v2/n1/n3/blobs/uploads/", 202, method="POST"),
    Visit(0.7, 0, "GET", "/v2/", 401, 100, authorized=False),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SluiceServer]:
    """A gateway of this module's own."""
    started = Sluice().start(Start(tmp_path_factory.mktemp("sluice"), Cores(frozenset(), frozenset())))
    assert isinstance(started, SluiceServer)
    yield started
    started.stop()


def replay(server: SluiceServer, path: Path, *words: str) -> Result:
    """`sluice bench replay` as the administrator."""
    user, password = server.login
    environment = {"BENCH_USER": user, "BENCH_PASSWORD": password}
    return CliRunner(env=environment).invoke(bench, ["replay", str(path), "--url", server.endpoint.url, *words])


def test_only_pulls_are_repeated() -> None:
    """What was pushed is not in a log."""
    assert [each.status for each in repeated(PULLS)] == [200, 200, 304, 200, 200, 206, 200, 401]


@pytest.mark.parametrize(
    ("target", "image"),
    [
        ("/v2/a/b/c/manifests/v1", "a/b/c"),
        (f"/v2/a/b/blobs/{LAYER}", "a/b"),
        ("/v2/a/b/blobs/uploads/u1?digest=x", "a/b"),
        ("/v2/a/b/tags/list?n=1", "a/b"),
        ("/v2/_catalog", ""),
        ("/v2/", ""),
    ],
)
def test_the_image_of_a_target(target: str, image: str) -> None:
    """It decides which token is sent."""
    assert image_of(target) == image


@pytest.mark.slow
def test_a_trace_without_names_is_replayed_on_made_up_content(server: SluiceServer, tmp_path: Path) -> None:
    """Every kind of pull is answered as recorded, at the recorded times divided by the speed, by two processes."""
    path = tmp_path / "trace"
    trace.write(Trace(PULLS, names_kept=False), path)

    result = replay(server, path, "--prepare", "--json", "--processes", "2", "--speed", "2")

    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["requests"], told["errors"], told["not_repeated"]) == (8, 0, 1)
    known = 1500 + 900 + 200_000 * 2 + 1000
    assert known < told["moved_bytes"] < known + 500  # and what a 401 says
    assert told["wall_s"] >= 0.35
    assert told["whole"]["count"] == told["first_byte"]["count"] == told["late"]["count"] == 8


@pytest.mark.slow
def test_an_answer_that_is_not_as_recorded_fails_the_command(server: SluiceServer, tmp_path: Path) -> None:
    """Nothing was prepared: the answers are counted, told in words, and the exit code is 1."""
    path = tmp_path / "trace"
    trace.write(Trace((visit(0.0, "/v2/bench/load/nothing/manifests/v1"),), names_kept=True), path)

    result = replay(server, path)

    assert result.exit_code == 1
    assert "gave 404, not 200" in result.stderr


@pytest.mark.slow
def test_a_registry_that_is_not_there_is_told(tmp_path: Path) -> None:
    """No traceback for a wrong address or a file that is no trace."""
    path = tmp_path / "trace"
    trace.write(Trace(PULLS, names_kept=False), path)

    nowhere = CliRunner().invoke(bench, ["replay", str(path), "--url", "http://127.0.0.1:1"])
    no_trace = CliRunner().invoke(bench, ["replay", __file__, "--url", "http://127.0.0.1:1"])

    assert (nowhere.exit_code, no_trace.exit_code) == (1, 1)
    assert "does not answer" in nowhere.stderr
    assert "Error: " in no_trace.stderr
