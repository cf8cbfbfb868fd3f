"""`sluice bench`: what each command prints and writes, and that its exit code is true."""

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench import baseline, trace
from bench.cli import bench
from bench.report import document
from bench.sets import SMOKE_RATIOS
from tests.bench.reports import SAMPLE, report, rounds


def called(*words: str | Path) -> Result:
    """`sluice bench WORDS`; an exception that is no clean error fails the test."""
    result = CliRunner().invoke(bench, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def smoke(tmp_path: Path) -> Path:
    """A report of all that the smoke baseline is about: ours takes half of what each peer takes."""
    ours = [rounds(case, "sluice", 0.5, 0.5, 0.5) for case, *_ in SMOKE_RATIOS]
    theirs = [rounds(case, peer, 1.0, 1.0, 1.0) for case, _, _, peer in SMOKE_RATIOS]
    path = tmp_path / "smoke-report"
    path.mkdir()
    document.write(report(*ours, *theirs), path / document.NAME)
    return path


@pytest.fixture
def baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of this test's own in place of bench/baselines, and every peer is installed."""
    monkeypatch.setattr(baseline, "DIRECTORY", tmp_path)
    monkeypatch.setattr("bench.cli_compare.all_contenders", list)
    return tmp_path


def test_a_missing_extra_is_told_by_the_command_that_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of commands works without it; what is broken in the suite itself is not taken for a missing extra."""
    monkeypatch.delitem(sys.modules, "bench.cli_replay", raising=False)
    monkeypatch.setitem(sys.modules, "rich.progress", None)

    assert called("--help").exit_code == 0
    result = called("replay", "--help")

    assert result.exit_code == 1
    assert "rich.progress is not installed" in result.stderr
    assert "sluice-gateway[bench]" in result.stderr


def test_a_broken_part_of_the_suite_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is raised as it is, for a bug report."""
    monkeypatch.delitem(sys.modules, "bench.cli_record", raising=False)
    monkeypatch.setitem(sys.modules, "bench.trace", None)

    with pytest.raises(ModuleNotFoundError):
        called("record", "--help")


def test_the_list_names_cases_and_contenders() -> None:
    """For people and as JSON."""
    value = json.loads(called("list", "--json").stdout)

    assert {"sluice", "docker-registry", "nginx"} <= value["contenders"].keys()
    (case,) = [each for each in value["cases"] if each["case"] == "manifest-get"]
    assert case["has_target"]
    assert case["unit"] == "1,000 requests"
    assert "* manifest-get" in called("list").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--case", "nonsense"], "no case is called nonsense"),
        (["--contender", "apache"], "no contender is called apache"),
        (["--rounds", "0"], "--rounds"),
        (["--case", "manifest-get", "--check"], "whole set"),
        (["--set", "all", "--accept"], "whole set"),
    ],
)
def test_a_run_that_makes_no_sense_is_wrong_usage(words: list[str], why: str) -> None:
    """Before anything is started."""
    result = called("run", *words)

    assert result.exit_code == 2
    assert why in result.stderr


@pytest.mark.slow
def test_a_run_writes_what_it_measured(tmp_path: Path) -> None:
    """JSON, plots and the page, from a real server; exit code 0."""
    out = tmp_path / "out"

    result = called(
        "run", "--quick", "--rounds", "1", "--case", "manifest-head", "--contender", "sluice", "--output", out
    )

    assert result.exit_code == 0, result.output
    measured = document.read(out).measurements
    assert [(each.case, each.contender, each.round, each.errors) for each in measured] == [
        ("manifest-head", "sluice", 1, 0)
    ]
    assert measured[0].requests > 100
    assert {"report.json", "report.html", "small-answers-1-000-requests.png"} <= {path.name for path in out.iterdir()}
    assert "scale quick, 1 rounds" in result.stdout


@pytest.mark.slow
def test_a_run_that_could_not_measure_fails(tmp_path: Path) -> None:
    """Nobody listens there: the reason is told and written down, and the exit code is 1."""
    words = ("--url", "http://127.0.0.1:1", "--quick", "--rounds", "1", "--case", "manifest-head", "--no-plots")

    result = called("run", *words, "--output", tmp_path)

    assert result.exit_code == 1
    assert "does not answer" in " ".join(document.read(tmp_path).notes)


def test_a_report_is_shown_again_and_its_files_are_made(smoke: Path, tmp_path: Path) -> None:
    """From the directory that a run wrote; a wrong path is told."""
    shown = called("report", smoke)
    wrong = called("report", tmp_path / "nowhere")

    assert "manifest-get" in shown.stdout
    assert (shown.exit_code, wrong.exit_code) == (0, 1)
    assert "sluice bench run" in wrong.stderr


@pytest.mark.slow
def test_pages_are_written_and_filled(smoke: Path, tmp_path: Path) -> None:
    """`--output` makes the HTML page, `--markdown` fills one; a page without places is told."""
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:begin targets -->\n<!-- bench:end -->\n", encoding="utf-8")
    bare = tmp_path / "bare.md"
    bare.write_text("nothing", encoding="utf-8")

    assert called("report", smoke, "--output", tmp_path / "out", "--markdown", page).exit_code == 0
    assert called("report", smoke, "--markdown", bare).exit_code == 1
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "manifest-get" in page.read_text(encoding="utf-8")


def test_ratios_are_accepted_and_compared(smoke: Path, baselines: Path) -> None:
    """Without a baseline nothing can be compared; what was accepted is good; twice the CPU is worse."""
    assert called("compare", smoke).exit_code == 1
    assert called("compare", smoke, "--accept").exit_code == 0
    good = called("compare", smoke)
    kept = baseline.read(baselines / "smoke.json")
    stricter = [baseline.Entry(e.case, e.figure, e.contender, e.peer, e.ratio / 2, e.noise) for e in kept.entries]
    baseline.write(
        baseline.Baseline(kept.accepted_from, kept.machine, kept.rounds, tuple(stricter)), baselines / "smoke.json"
    )
    worse = called("compare", smoke)

    assert (good.exit_code, worse.exit_code) == (0, 1)
    assert "worse" in worse.stdout
    assert "a ratio is worse than its baseline" in worse.stderr


def test_what_is_not_whole_is_not_accepted(tmp_path: Path, baselines: Path) -> None:
    """A smoke baseline with a hole would watch less than it says."""
    document.write(SAMPLE, tmp_path / "r.json")

    result = called("compare", tmp_path / "r.json", "--accept")

    assert result.exit_code == 1
    assert "push-streamed-1" in result.stderr
    assert not (baselines / "smoke.json").exists()


def test_peers_that_are_not_installed_are_not_compared_with(
    smoke: Path, baselines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and no reason to fail."""
    called("compare", smoke, "--accept")
    document.write(
        report(rounds("blob-get-warm-1", "sluice", 0.5), rounds("blob-get-warm-1", "nginx", 1.0)),
        smoke / document.NAME,
    )

    class Absent:
        name = "docker-registry"

        def missing(self) -> str:
            return "docker-registry is not installed"

    monkeypatch.setattr("bench.cli_compare.all_contenders", lambda: [Absent()])
    result = called("compare", smoke)

    assert result.exit_code == 0
    assert "not compared with docker-registry: docker-registry is not installed" in result.stdout


def test_a_log_becomes_a_trace(tmp_path: Path) -> None:
    """The numbers are told; what is no log, or not there, is an error."""
    log = tmp_path / "access.log"
    line = {"at": 5.0, "client": "::1", "method": "GET", "target": "/v2/secret/x/tags/list", "status": 200}
    log.write_text(json.dumps({**line, "sent_bytes": 9, "authorized": True}) + "\nbroken\n", encoding="utf-8")
    made = tmp_path / "trace"

    good = called("record", log, "-o", made)

    assert good.exit_code == 0
    assert "1 requests of 1 clients" in good.stdout
    assert "left out: 1 not a line of an access log" in good.stderr
    assert [visit.target for visit in trace.read(made).visits] == ["/v2/n1/n2/tags/list"]
    assert called("record", tmp_path / "none", "-o", made).exit_code == 1
    assert called("record", __file__, "-o", made).exit_code == 1
