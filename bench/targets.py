"""What Sluice promises against its peers, as data, and whether a report keeps it. Knows nothing of how it is shown.

A promise about requests per CPU second is kept here as a bound on the CPU ratio: twenty times as many requests per
second of CPU is a twentieth of the CPU per request.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench import figures
from bench.records import Report, Target

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a target in a report."""

    target: Target
    figure: float | None
    """The ratio, or the figure itself for an absolute bound; None when it was not measured."""
    low: float | None = None
    """The interval of a ratio, or the least and greatest round."""
    high: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bound holds; None when it was not measured."""
        if self.figure is None:
            return None
        at_most, at_least = self.target.at_most, self.target.at_least
        return (at_most is None or self.figure <= at_most) and (at_least is None or self.figure >= at_least)


def _cpu(cases: Sequence[str], peer: str, at_most: float) -> Iterator[Target]:
    for case in cases:
        yield Target(case, "sluice", figures.CPU, peer, at_most=at_most)


TARGETS: Final[tuple[Target, ...]] = (
    *_cpu(("blob-get-warm-1", "blob-get-warm-8"), "nginx", 1.0),
    *_cpu(("blob-get-warm-1", "blob-get-warm-8"), "docker-registry", 0.4),
    *_cpu(("manifest-get", "blob-head"), "docker-registry", 1 / 20),
    *_cpu(("range-64k",), "docker-registry", 1 / 40),
    *_cpu(("connect-manifest-head", "connect-manifest-get"), "docker-registry", 1 / 3),
    *_cpu(("blob-get-tls",), "docker-registry", 1.1),
    *_cpu(("push-monolithic-1", "push-streamed-1", "push-monolithic-4", "push-streamed-4"), "docker-registry", 0.6),
    *(
        Target(case, "sluice", figures.WALL, "docker-registry", at_most=1 / 1.3)
        for case in ("push-monolithic-1", "push-streamed-1", "push-monolithic-4", "push-streamed-4")
    ),
    Target("manifest-beside-pulls", "sluice", "whole.p99_ms", None, at_most=5.0),
    Target("manifest-beside-pushes", "sluice", "whole.p99_ms", None, at_most=15.0),
    Target("slow-readers", "sluice", figures.CPU, None, at_most=24.0 * _KIB),
    Target("idle-connections", "sluice", figures.CPU, None, at_most=13.0 * _KIB),
    *(
        Target(case, "sluice-2-workers", figures.WALL, "sluice", at_most=1 / 1.7)
        for case in ("manifest-get-workers", "blob-get-workers")
    ),
)
"""The table of the wire's promises; server CPU, side by side in one run, token authentication on for registries."""


def _on_bucket(case: str, figure: str, at_most: float) -> Target:
    return Target(case, "sluice-s3", figure, None, at_most=at_most)


BUCKET_TARGETS: Final[tuple[Target, ...]] = (
    _on_bucket("s3-push-streamed", figures.CPU_PER_GIB, 2.0),
    _on_bucket("s3-push-streamed", "commit_ms", 50.0),
    _on_bucket("s3-push-known", figures.CPU_PER_GIB, 1.1),
    _on_bucket("s3-push-small", "s3_requests_per_blob", 8.0),
    _on_bucket("s3-push-small-chunks", "s3_requests_per_blob", 12.0),
    _on_bucket("s3-push-crowd", figures.RSS, 300.0 * _MIB),
    _on_bucket("s3-pull-cold-1", figures.CPU_PER_GIB, 1.0),
    _on_bucket("s3-pull-cold-8", figures.CPU_PER_GIB, 1.0),
    _on_bucket("s3-pull-crowd", "s3_read_per_stored_byte", 1.01),
    Target("s3-pull-warm-8", "sluice-s3", figures.CPU, "sluice", at_most=1.1),
    _on_bucket("s3-pull-redirected", figures.CPU_PER_GIB, 0.05),
)
"""The table of the promises of blobs in a bucket; CPU is the registry's alone. Warm is to be as from a directory: a
tenth more is what two servers of one kind differ by in a run."""


def _through(case: str, figure: str, at_most: float, contender: str = "sluice-proxy") -> Target:
    return Target(case, contender, figure, None, at_most=at_most)


PROXY_TARGETS: Final[tuple[Target, ...]] = (
    *(
        target
        for case, contender in (
            ("stampede-20", "sluice-proxy"),
            ("stampede-200", "sluice-proxy"),
            ("stampede-200", "sluice-proxy-2-workers"),
        )
        for target in (
            _through(case, "upstream_gets", 1.0, contender),
            _through(case, "upstream_bytes_per_byte", 1.0, contender),
            _through(case, "first_byte_later_ms", 20.0, contender),
            _through(case, "last_byte_of_direct", 1.15, contender),
            _through(case, "rss_growth_bytes", 64.0 * _MIB, contender),
        )
    ),
    Target("skopeo-sync-filled", "sluice", figures.WALL, "docker-registry", at_most=0.5),
)
"""The table of the promises of proxies and mirrors."""


def verdicts(report: Report, targets: Sequence[Target] | None = None) -> tuple[Verdict, ...]:
    """What became of each target, in their order: by default those of the tables of which the report has a case."""
    if targets is None:
        measured = {each.case for each in report.measurements}
        about = [
            table for table in (TARGETS, BUCKET_TARGETS, PROXY_TARGETS) if measured & {target.case for target in table}
        ]
        targets = [target for table in about or [TARGETS] for target in table]
    return tuple(_verdict(report, target) for target in targets)


def _verdict(report: Report, target: Target) -> Verdict:
    if target.peer is None:
        spread = figures.spread(report, target.case, target.contender, target.figure)
        return Verdict(target, None) if spread is None else Verdict(target, spread.median, spread.low, spread.high)
    ratio = figures.ratio(report, target.case, target.figure, target.contender, target.peer)
    return Verdict(target, None) if ratio is None else Verdict(target, ratio.ratio, ratio.low, ratio.high)
