"""What cases about registries over a bucket share: the traffic that a measurement caused, as figures of the case."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from bench.cases.case import Outcome, Stand
from bench.contenders.contender import Trait
from bench.histograms import summary

if TYPE_CHECKING:
    from bench.contenders.on_bucket import BucketServer


def bucket_server(stand: Stand) -> "BucketServer | None":
    """The server, if it keeps its blobs in a bucket."""
    has_bucket = Trait.BUCKET in stand.contender.traits
    return cast("BucketServer", stand.server) if has_bucket else None  # what the trait says


def watched(stand: Stand, measure: Callable[[], Outcome], *, blobs: int, stored_bytes: int) -> Outcome:
    """Measure, and add what the bucket was asked for meanwhile: so many blobs of so many bytes together.

    Requests come once more by method; medians of latencies that only pushes have are added in milliseconds.
    """
    server = bucket_server(stand)
    since = server.mark() if server is not None else 0
    outcome = measure()
    extra: dict[str, float] = {**outcome.extra, **_medians(outcome)}
    if server is not None:
        traffic = server.traffic(since)
        extra["s3_requests_per_blob"] = traffic.count / blobs
        extra |= {f"s3_{method.lower()}_requests": float(count) for method, count in sorted(traffic.requests.items())}
        extra["s3_read_bytes"] = float(traffic.read_bytes)
        extra["s3_read_per_stored_byte"] = traffic.read_bytes / stored_bytes
    return replace(outcome, extra=extra)


def _medians(outcome: Outcome) -> Mapping[str, float]:
    names = {"last_byte": "last_byte_to_201_ms", "commit": "commit_ms"}
    return {
        shown: summary(outcome.recordings[name]).p50_ms for name, shown in names.items() if name in outcome.recordings
    }
