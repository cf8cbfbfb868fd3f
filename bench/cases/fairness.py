"""How long a small request waits beside bulk: manifests, beside 8 pulls of a large blob and beside 4 pushes.

Manifests are due a hundred times per second, however busy the server is (`bench.drivers.paced`), and the latencies are
theirs; bytes and CPU per GiB are those of the bulk, which has no other figure here. Bulk and manifests come from two
processes on the load's core; the one with the manifests goes first, and the extra `late_p99_ms` says how much of the
latency is still the load's own delay: figures of a machine where that is not well below the p99 say nothing.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Final

from bench.cases.blob_get import put_warm, warm_layer, warm_shots
from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.manifests import manifest_shots, put_image
from bench.cases.traffic import repeat
from bench.contenders.contender import Setting, Trait
from bench.content import MIB, Layer
from bench.jobs import Job
from bench.records import Unit

PULLS: Final = 8
PUSHES: Final = 4
RATE_PER_S: Final = 100.0


@dataclass(frozen=True, slots=True)
class Beside:
    """Manifest GETs while something else keeps the server busy."""

    name: str
    summary: str
    seconds: float
    bulk: Callable[[Stand], Job]
    """The background job."""
    put: Callable[[Stand], None]
    """Puts what it needs."""
    rate_per_s: float = RATE_PER_S
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset()
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Of the bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Put the image and what the bulk needs."""
        put_image(stand)
        self.put(stand)

    def measure(self, stand: Stand) -> Outcome:
        """A process for the manifests and one for the bulk."""
        arguments = {
            "shots": [asdict(shot) for shot in manifest_shots(stand)],
            "rate_per_s": self.rate_per_s,
            "seconds": self.seconds,
            "seed": f"{self.name}-{stand.round}",
        }
        outcome = stand.drive(Job("bench.drivers.paced", stand.server.endpoint, arguments), self.bulk(stand))
        bulk_bytes_per_s = outcome.extra["background_bytes_per_s"]
        extra = {
            "bulk_mib_per_s": bulk_bytes_per_s / MIB,
            "late_p99_ms": outcome.recordings["late"].latencies().p99_ms,
        }
        if outcome.whole is not None:
            extra |= {"manifest_p50_ms": outcome.whole.p50_ms, "manifest_p99_ms": outcome.whole.p99_ms}
        return replace(
            outcome,
            moved_bytes=int(bulk_bytes_per_s * outcome.wall_s),
            errors=outcome.errors + int(outcome.extra["background_errors"]),
            extra=extra,
        )


def pull_bulk(stand: Stand, *, layer: Layer) -> Job:
    """Pull a large blob again and again."""
    return repeat(stand, warm_shots(stand, layer=layer), connections=PULLS, background=True)


def push_bulk(stand: Stand, *, size_bytes: int) -> Job:
    """Push layers again and again, chunked as docker does: each is hashed and written, and then known already."""
    name = stand.server.name("pushed")
    arguments = {
        "layers": [asdict(Layer(f"beside-{stand.round}-{number}", size_bytes)) for number in range(PUSHES)],
        "name": name,
        "authorization": stand.server.authorization(name, push=True),
        "streamed": True,
        "again": True,
    }
    return Job("bench.drivers.push", stand.server.endpoint, arguments, background=True)


def put_first(stand: Stand) -> None:
    """Push a small layer, so that nothing is done for the first time in the measurement."""
    stand.server.put_blob(stand.server.name("pushed"), Layer("first", MIB))


def cases(scale: Scale) -> tuple[Case, ...]:
    """Beside pulls and beside pushes."""
    seconds = 10.0 if scale is Scale.FULL else 2.5
    layer = warm_layer(scale)
    pushed_bytes = 16 * MIB if scale is Scale.FULL else 4 * MIB
    how = f"GET of a manifest, {RATE_PER_S:g} per second in an open loop, beside"
    return (
        Beside(
            "manifest-beside-pulls",
            f"{how} {PULLS} pulls of a warm blob of {layer.size_bytes // MIB} MiB",
            seconds,
            bulk=partial(pull_bulk, layer=layer),
            put=partial(put_warm, layer=layer),
        ),
        Beside(
            "manifest-beside-pushes",
            f"{how} {PUSHES} chunked pushes of layers of {pushed_bytes // MIB} MiB",
            seconds,
            bulk=partial(push_bulk, size_bytes=pushed_bytes),
            put=put_first,
            setting=Setting(fresh=True),
            needs=frozenset({Trait.PUSH}),
        ),
    )
