"""Latencies as HDR histograms: recorded in nanoseconds, kept to three digits, merged across processes.

What goes in is decided by drivers: for open-loop arrivals the time since an act was *due*, so that a server that stalls
is charged for everyone it kept waiting; for closed loops the time since the request was sent.
"""

from array import array
from dataclasses import dataclass

from hdrh.histogram import HdrHistogram

from bench.records import Latencies

_LOWEST_US = 1
_HIGHEST_US = 3_600_000_000
_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Recording:
    """Finished latencies in the compressed form of HdrHistogram, as text (microseconds)."""

    encoded: str

    def latencies(self) -> Latencies:
        """The quantiles."""
        return summary(self)


class Samples:
    """Collects latencies cheaply while the load runs; counting is left for later."""

    __slots__ = ("_nanoseconds",)

    def __init__(self) -> None:
        self._nanoseconds = array("q")

    def __len__(self) -> int:
        return len(self._nanoseconds)

    def add(self, nanoseconds: int) -> None:
        """Take one latency in nanoseconds (as of `time.perf_counter_ns`)."""
        self._nanoseconds.append(nanoseconds)

    def recording(self) -> Recording:
        """All of them as a histogram."""
        histogram = _empty()
        for each in self._nanoseconds:
            histogram.record_value(min(max(each // 1000, _LOWEST_US), _HIGHEST_US))
        return Recording(histogram.encode().decode())


def merged(*recordings: Recording) -> Recording:
    """All latencies of several recordings."""
    whole = _empty()
    for each in recordings:
        whole.decode_and_add(each.encoded)
    return Recording(whole.encode().decode())


def summary(*recordings: Recording) -> Latencies:
    """The quantiles of one or several recordings together; all zero when nothing was recorded."""
    histogram = _empty()
    for each in recordings:
        histogram.decode_and_add(each.encoded)
    if histogram.get_total_count() == 0:
        return Latencies(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    at = histogram.get_value_at_percentile
    return Latencies(
        count=histogram.get_total_count(),
        p50_ms=at(50) / 1000,
        p90_ms=at(90) / 1000,
        p99_ms=at(99) / 1000,
        p999_ms=at(99.9) / 1000,
        max_ms=histogram.get_max_value() / 1000,
    )


def _empty() -> HdrHistogram:
    return HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)
