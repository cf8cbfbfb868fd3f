"""Baselines: what is accepted, what is worse, and that noise is allowed for but no more."""

from pathlib import Path

import pytest

from bench import baseline
from bench.baseline import ALLOWED_LEAST, Baseline, BaselineInvalid, Entry
from bench.sets import SMOKE_RATIOS
from tests.bench.reports import MACHINE, SAMPLE, measured, report, rounds

RATIO = ("manifest-get", "cpu", "sluice", "docker-registry")


def accepted(ratio: float, noise: float = 0.0) -> Baseline:
    """A baseline of one ratio."""
    return Baseline("2026-11-20T00:00:00+00:00", MACHINE, 5, (Entry(*RATIO, ratio, noise),))


def worse(before: Baseline, *cpu_s: float, errors: int = 0) -> bool:
    """Whether a run in which we took so much, and the peer 1.0, is worse."""
    ours = [measured("manifest-get", "sluice", n, each, errors=errors) for n, each in enumerate(cpu_s, start=1)]
    now = report(ours, rounds("manifest-get", "docker-registry", *[1.0] * len(cpu_s)))
    (compared,) = baseline.compare(now, before)
    return compared.worse


def test_a_steady_run_may_be_worse_by_the_least_that_can_be_seen_and_no_more() -> None:
    """No noise in either run: the fixed allowance decides."""
    assert not worse(accepted(0.1), *[0.1 * (1 + ALLOWED_LEAST - 0.01)] * 5)
    assert worse(accepted(0.1), *[0.1 * (1 + ALLOWED_LEAST + 0.01)] * 5)
    assert not worse(accepted(0.1), *[0.01] * 5)


def test_noise_is_allowed_for() -> None:
    """A ratio that is 40 % worse is one when rounds were steady, and none when they scattered, then or now."""
    assert worse(accepted(0.1), 0.139, 0.140, 0.140, 0.140, 0.141)
    assert not worse(accepted(0.1), 0.06, 0.10, 0.140, 0.18, 0.20)
    assert not worse(accepted(0.1, noise=0.5), 0.139, 0.140, 0.140, 0.140, 0.141)


def test_what_was_not_measured_or_went_wrong_is_worse() -> None:
    """Nothing was shown: silence is no proof."""
    assert worse(accepted(0.1), 0.1, 0.1, errors=1)
    (missing,) = baseline.compare(report(rounds("manifest-get", "sluice", 0.1)), accepted(0.1))
    assert missing.worse
    assert missing.now is None


def test_a_run_that_is_accepted_is_not_worse_than_itself(tmp_path: Path) -> None:
    """Through the file, which keeps everything; what was not measured is left out."""
    made = baseline.accept(SAMPLE, [RATIO, ("blob-get-warm-1", "cpu", "sluice", "nginx"), ("none", "cpu", "a", "b")])
    path = tmp_path / "baseline.json"
    baseline.write(made, path)

    read = baseline.read(path)

    assert read == made
    assert [entry.case for entry in read.entries] == ["manifest-get", "blob-get-warm-1"]
    assert not any(compared.worse for compared in baseline.compare(SAMPLE, read))


def test_a_run_with_wrong_answers_is_not_accepted() -> None:
    """A server that answers 500 is quick."""
    wrong = report([measured("c", "sluice", 1, 0.1, errors=3)], rounds("c", "peer", 1.0))

    assert baseline.accept(wrong, [("c", "cpu", "sluice", "peer")]).entries == ()


def test_another_file_is_no_baseline(tmp_path: Path) -> None:
    """Missing or broken: told with what to do."""
    with pytest.raises(BaselineInvalid, match="--accept"):
        baseline.read(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BaselineInvalid, match="is no baseline"):
        baseline.read(tmp_path / "broken.json")


def test_the_smoke_baseline_is_there_and_whole() -> None:
    """`make bench-smoke` compares every ratio that it measures."""
    kept = baseline.read(baseline.DIRECTORY / "smoke.json")

    assert {(each.case, each.figure, each.contender, each.peer) for each in kept.entries} == set(SMOKE_RATIOS)
