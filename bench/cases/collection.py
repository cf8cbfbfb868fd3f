"""Garbage collection while clients pull and push: what it costs them, and that it takes nothing from them.

Manifests and a blob are pulled in an open loop while others push images and delete their last: the same in both cases,
but in one of them the sweep runs every second with a grace of two, so that what is deleted goes from the disk while it
is measured. Without a wrong answer, that is: an error here is lost data. `blobs_collected` says how many files went.
docker-registry must be read-only while it collects, so there is nothing to compare.
"""

import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Final, cast

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.manifests import blob_head_shots, manifest_shots, put_image
from bench.contenders.contender import Setting, Trait
from bench.content import KIB
from bench.drivers.churn import BLOBS_PER_IMAGE
from bench.jobs import Job
from bench.records import Unit

if TYPE_CHECKING:
    from bench.contenders.sluice import SluiceServer

_PUSHERS: Final = 4
_LAYER_BYTES: Final = 64 * KIB
_RATE_PER_S: Final = 100.0
_SWEEPING: Final = (
    ("SLUICE_GARBAGE__INTERVAL_S", "0.5"),
    ("SLUICE_GARBAGE__GRACE_S", "2"),  # a push that takes longer loses its blobs before it has a manifest
    ("SLUICE_GARBAGE__UNDELETE_S", "0"),
)


@dataclass(frozen=True, slots=True)
class Collection:
    """Pulls, pushes and deletions, with the sweep or without."""

    name: str
    summary: str
    seconds: float
    setting: Setting
    needs: frozenset[Trait] = frozenset({Trait.OURS})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Small requests."""
        return Unit.KILO_REQUESTS

    def prepare(self, stand: Stand) -> None:
        """Put what is pulled."""
        put_image(stand)

    def measure(self, stand: Stand) -> Outcome:
        """A process that pulls and one that pushes and deletes."""
        server = cast("SluiceServer", stand.server)  # what the trait says
        before = _files(server)
        pulls = {
            "shots": [asdict(shot) for shot in (*manifest_shots(stand), *blob_head_shots(stand))],
            "rate_per_s": _RATE_PER_S,
            "seconds": self.seconds,
            "seed": f"collection-{stand.round}",
        }
        pushes = {
            "name": server.name("churn"),
            "authorization": server.basic(),
            "pushers": _PUSHERS,
            "layer_bytes": _LAYER_BYTES,
            "seconds": self.seconds,
            "seed": f"churn-{stand.round}",
        }
        outcome = stand.drive(
            Job("bench.drivers.paced", server.endpoint, pulls), Job("bench.drivers.churn", server.endpoint, pushes)
        )
        pushed = outcome.extra["images_pushed"] * BLOBS_PER_IMAGE
        extra = {**outcome.extra, "blobs_collected": before + pushed - _files(server)}
        for kind, latencies in (("pull", outcome.whole), ("push", outcome.recordings["push"].latencies())):
            if latencies is not None:
                extra |= {f"{kind}_p50_ms": latencies.p50_ms, f"{kind}_p99_ms": latencies.p99_ms}
        return replace(outcome, extra=extra)


def _files(server: "SluiceServer") -> int:
    """How many blobs there are on its disk; those that go while we look are gone."""
    return sum(len(files) for _, _, files in os.walk(server.directory / "data" / "storages"))


def cases(scale: Scale) -> tuple[Case, ...]:
    """Without the sweep (it would come in an hour), and with it."""
    seconds = 20.0 if scale is Scale.FULL else 5.5
    load = f"{_RATE_PER_S:g} pulls per second in an open loop beside {_PUSHERS} pushers who delete their last image"
    return (
        Collection("collection-off", f"{load}, while no garbage is collected", seconds, Setting(fresh=True)),
        Collection(
            "collection-on",
            f"{load}, while garbage is collected every second",
            seconds,
            Setting(fresh=True, environment=_SWEEPING),
        ),
    )
