"""A CI fleet: runners that pull multi-arch images with shared layers, when their jobs begin, not when a server likes.

Latencies are from the moment a pull was due to the first byte of its first blob, and to the whole image; the arrivals
are an open loop, so that a server that falls behind is charged for all it kept waiting. Each runner gets a token of its
own from a sluice. docker-registry has no token server, so its runners bring tokens that cost it nothing to issue: the
comparison is to our disadvantage by that much (`token_p50_ms` says when tokens were there).
"""

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.contenders.contender import Setting, Trait
from bench.content import KIB
from bench.fleet import Fleet, catalog, pulls
from bench.jobs import Job
from bench.records import Unit

if TYPE_CHECKING:
    from bench.contenders.sluice import SluiceServer

TAG: Final = "latest"
_WARM_PULLS: Final = 10


@dataclass(frozen=True, slots=True)
class CiFleet:
    """Pulls that arrive at random."""

    fleet: Fleet
    name: str = "ci-fleet"
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset({Trait.LISTS})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def summary(self) -> str:
        """With its numbers."""
        fleet = self.fleet
        return (
            f"{fleet.runners} runners pull {fleet.images} multi-arch images with shared layers, each with a token, "
            f"{fleet.pulls_per_s:g} pulls per second in an open loop"
        )

    @property
    def unit(self) -> Unit:
        """Most of the work is small requests."""
        return Unit.KILO_REQUESTS

    def prepare(self, stand: Stand) -> None:
        """Put all images, and pull a few."""
        server = stand.server
        for wanted in catalog(self.fleet):
            name = server.name(wanted.name)
            for each in wanted.images:
                for blob in each.blobs:
                    server.put_blob(name, blob)
                server.put_manifest(name, each.manifest)
            server.put_manifest(name, wanted.index, TAG)
        stand.drive(self._job(stand, replace(self.fleet, seconds=_WARM_PULLS / self.fleet.pulls_per_s)))

    def measure(self, stand: Stand) -> Outcome:
        """One process with all runners."""
        outcome = stand.drive(self._job(stand, self.fleet))
        extra = dict(outcome.extra)
        if outcome.first_byte is not None and outcome.whole is not None:
            extra |= {
                "pulls": outcome.whole.count,
                "first_byte_p99_ms": outcome.first_byte.p99_ms,
                "first_byte_p999_ms": outcome.first_byte.p999_ms,
                "whole_p999_ms": outcome.whole.p999_ms,
                "token_p50_ms": outcome.recordings["token"].latencies().p50_ms,
                "late_p99_ms": outcome.recordings["late"].latencies().p99_ms,
            }
        return replace(outcome, extra=extra)

    def _job(self, stand: Stand, fleet: Fleet) -> Job:
        server = stand.server
        names = {wanted.name: server.name(wanted.name) for wanted in catalog(self.fleet)}
        ours = Trait.OURS in stand.contender.traits
        arguments = {
            "pulls": [asdict(pull) for pull in pulls(fleet, stand.round)],
            "names": names,
            "tag": TAG,
            "basic": cast("SluiceServer", server).basic() if ours else None,  # what the trait says
            "headers": {} if ours else {name: server.authorization(name) for name in names.values()},
        }
        return Job("bench.drivers.fleet", server.endpoint, arguments)


def cases(scale: Scale) -> tuple[Case, ...]:
    """One."""
    if scale is Scale.FULL:
        fleet = Fleet(30, pool=20, median_layer_bytes=1024 * KIB, runners=200, pulls_per_s=20.0, seconds=20.0)
    else:
        fleet = Fleet(6, pool=6, median_layer_bytes=128 * KIB, runners=40, pulls_per_s=20.0, seconds=2.5)
    return (CiFleet(fleet),)
