"""What a connection costs a server in memory that has nothing to do: at rest, or with a reader that has stopped.

Memory is proportional set size, all processes. It is counted as a slope: of a server of its own, warmed by other
traffic (code, caches and pools are there), the memory beside a few connections is taken from that beside many, and
divided by how many there are more. The few are closed before the many come, so what the allocator kept of them serves
the many and is counted once. What the kernel keeps for a socket is not the process's and is not seen here; a reader
has a receive buffer of 8 KiB, so that what it does not take waits at the server.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from bench.cases.blob_get import put_warm, warm_layer, warm_shots
from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.manifests import manifest_shots, put_image
from bench.cases.traffic import repeat
from bench.contenders.contender import Setting, Trait
from bench.content import KIB, Layer
from bench.figures import RSS_PER_CONNECTION
from bench.jobs import Job
from bench.records import Unit

_FEW_SHARE: Final = 4
"""The few are a quarter of the many: enough to use up what the warm-up left free."""
_WARM_REQUESTS: Final = 2000
_WARM_CONNECTIONS: Final = 8
_READ_BYTES: Final = 64 * KIB


@dataclass(frozen=True, slots=True)
class Crowd:
    """Connections that are held. A server of its own for each round: memory remembers."""

    name: str
    summary: str
    connections: int
    hold_s: float
    layer: Layer | None = None
    """The blob that slow readers began to read; None: clients that pulled a manifest and rest."""
    setting: Setting = field(default_factory=lambda: Setting(fresh=True))
    needs: frozenset[Trait] = frozenset()
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Memory."""
        return Unit.CONNECTIONS

    def prepare(self, stand: Stand) -> None:
        """Put an image, and the blob if there is one."""
        put_image(stand)
        if self.layer is not None:
            put_warm(stand, layer=self.layer)

    def measure(self, stand: Stand) -> Outcome:
        """Warm up, then a few, then many."""
        stand.drive(
            repeat(stand, manifest_shots(stand), connections=_WARM_CONNECTIONS, requests=_WARM_REQUESTS, warm_s=0.1)
        )
        few_count = max(self.connections // _FEW_SHARE, 1)
        few = stand.drive(self._job(stand, few_count))
        many = stand.drive(self._job(stand, self.connections))
        extra: dict[str, float] = {"connections": self.connections}
        if few.server_rss_bytes is not None and many.server_rss_bytes is not None:
            more_bytes = many.server_rss_bytes - few.server_rss_bytes
            extra[RSS_PER_CONNECTION] = more_bytes / (self.connections - few_count)
        return replace(many, errors=few.errors + many.errors, extra=extra)

    def _job(self, stand: Stand, connections: int) -> Job:
        slow = self.layer is not None
        shots = warm_shots(stand, layer=self.layer) if self.layer is not None else manifest_shots(stand)
        arguments: dict[str, Any] = {
            "shots": [asdict(shot) for shot in shots],
            "connections": connections,
            "read_bytes": _READ_BYTES if slow else None,
            "hold_s": self.hold_s,
        }
        return Job("bench.drivers.crowd", stand.server.endpoint, arguments)


def cases(scale: Scale) -> tuple[Case, ...]:
    """At rest, and slow readers; fewer of these, since each costs some servers megabytes."""
    full = scale is Scale.FULL
    resting, slow = (2000, 300) if full else (500, 120)
    hold_s = 2.0 if full else 0.6
    layer = warm_layer(scale)
    return (
        Crowd(
            "idle-connections",
            f"{resting} connections at rest, each after one GET of a manifest",
            resting,
            hold_s,
        ),
        Crowd(
            "slow-readers",
            f"{slow} connections that read {_READ_BYTES // KIB} KiB of a large blob and stopped",
            slow,
            hold_s,
            layer,
        ),
    )
