"""Latencies keep three digits through recording, the pipe between processes, and merging."""

import json
from dataclasses import asdict

import pytest

from bench.histograms import Recording, Samples, merged, summary


def recording(*milliseconds: float) -> Recording:
    """These latencies."""
    samples = Samples()
    for each in milliseconds:
        samples.add(int(each * 1e6))
    return samples.recording()


def test_quantiles_are_those_of_the_samples() -> None:
    """Of 1 to 1,000 ms the median is 500 ms, and so on, to three digits."""
    latencies = recording(*range(1, 1001)).latencies()
    assert latencies.count == 1000
    assert latencies.p50_ms == pytest.approx(500, rel=0.002)
    assert latencies.p90_ms == pytest.approx(900, rel=0.002)
    assert latencies.p99_ms == pytest.approx(990, rel=0.002)
    assert latencies.p999_ms == pytest.approx(999, rel=0.002)
    assert latencies.max_ms == pytest.approx(1000, rel=0.002)


def test_recordings_of_several_processes_count_together() -> None:
    """Merging gives the quantiles of all samples, not a mean of quantiles."""
    quick, slow = recording(*[1.0] * 990), recording(*[1000.0] * 10)
    for together in (summary(quick, slow), merged(quick, slow).latencies()):
        assert together.count == 1000
        assert together.p50_ms == pytest.approx(1, rel=0.002)
        assert together.p999_ms == pytest.approx(1000, rel=0.002)


def test_a_recording_survives_json() -> None:
    """What a load process prints is what the suite reads."""
    made = recording(1, 2, 3)
    assert Recording(**json.loads(json.dumps(asdict(made)))).latencies() == made.latencies()


def test_nothing_recorded_is_zero() -> None:
    """A job without a single answer has a count of zero, not an error."""
    assert Samples().recording().latencies().count == 0


def test_extremes_are_kept_within_the_scale() -> None:
    """Less than a microsecond and more than an hour are recorded as the ends of the scale."""
    latencies = recording(0.0000001, 10_000_000).latencies()
    assert latencies.count == 2
    assert latencies.max_ms == pytest.approx(3_600_000, rel=0.002)
