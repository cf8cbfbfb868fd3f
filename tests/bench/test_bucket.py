"""What a measurement over a bucket adds to its figures."""

from dataclasses import dataclass, replace
from typing import Any, cast

from bench.cases.bucket import watched
from bench.cases.case import Outcome, Stand
from bench.contenders.contender import Trait
from bench.histograms import Samples
from bench.peers.radosgw import Traffic

OUTCOME = Outcome(2, 10, 0, 1.0, 1.0, 1.0, None, extra={"own": 1.0})


@dataclass
class Server:
    """Tells a traffic that is easy to reckon with."""

    marks: int = 0

    def mark(self) -> int:
        """One after the other."""
        self.marks += 1
        return self.marks

    def traffic(self, since: int) -> Traffic:
        """Since the first of them."""
        assert since == 1
        return Traffic({"PUT": 5, "GET": 1}, 30)


@dataclass
class Contender:
    """Has a bucket or not."""

    traits: frozenset[Trait]


def stand(*traits: Trait) -> Stand:
    """All that matters here."""
    made: Any = type("Stand", (), {"server": Server(), "contender": Contender(frozenset(traits))})()
    return cast("Stand", made)


def test_traffic_is_told_per_blob_and_byte() -> None:
    """Beside what the case says itself."""
    outcome = watched(stand(Trait.BUCKET), lambda: OUTCOME, blobs=2, stored_bytes=20)

    assert outcome.extra == {
        "own": 1.0,
        "s3_requests_per_blob": 3.0,
        "s3_put_requests": 5.0,
        "s3_get_requests": 1.0,
        "s3_read_bytes": 30.0,
        "s3_read_per_stored_byte": 1.5,
    }


def test_who_has_no_bucket_is_measured_too() -> None:
    """As the one that ours is held against."""
    assert watched(stand(), lambda: OUTCOME, blobs=1, stored_bytes=1).extra == {"own": 1.0}


def test_latencies_of_the_end_of_a_push_are_added() -> None:
    """Medians, in milliseconds."""
    samples = Samples()
    for _ in range(3):
        samples.add(5_000_000)
    outcome = replace(OUTCOME, recordings={"commit": samples.recording()})

    assert round(watched(stand(), lambda: outcome, blobs=1, stored_bytes=1).extra["commit_ms"]) == 5
