"""A stampede: many clients ask a proxy for a blob that it has to fetch from its upstream first.

What counts is how often the upstream is asked and how many bytes it sends; how much later than from the upstream itself
the first byte comes, and how much later than for one client that asks the upstream directly everybody has the last one;
and what memory it takes.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, cast

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.traffic import authorized, repeat
from bench.contenders.contender import Setting, Trait
from bench.content import KIB, MIB, Layer
from bench.jobs import Shot
from bench.records import Unit

if TYPE_CHECKING:
    from bench.contenders.through import ThroughServer

_IMAGE: Final = "stampede"
_OURS: Final = frozenset({"sluice-proxy", "sluice-proxy-2-workers"})


@dataclass(frozen=True, slots=True)
class Stampede:
    """`clients` GETs of one blob, a new one each round, begun within the first half of one direct download."""

    name: str
    clients: int
    size_bytes: int
    only: frozenset[str] = frozenset()
    setting: Setting = field(default_factory=lambda: Setting(fresh=True))
    """A server of its own for every round: memory remembers."""
    needs: frozenset[Trait] = frozenset({Trait.PROXY})
    cores: int = 1

    @property
    def summary(self) -> str:
        """With its numbers."""
        return (
            f"GET of a blob of {self.size_bytes // MIB} MiB by {self.clients} clients, one after the other within the "
            "first half of its download, from a proxy that does not have it"
        )

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Pull something small, so that nothing is done for the first time."""
        self._pull(stand, Layer(f"{self.name}-first", 64 * KIB), clients=2)

    def measure(self, stand: Stand) -> Outcome:
        """The upstream directly, by one client; then the crowd."""
        server = cast("ThroughServer", stand.server)  # what the trait says
        layer = Layer(f"{self.name}-{stand.round}", self.size_bytes)
        server.put_blob(server.name(_IMAGE), layer)
        direct_shot = Shot(f"/v2/{_IMAGE}/blobs/{layer.digest}", 200, layer.size_bytes)
        direct_job = repeat(stand, [direct_shot], connections=1, requests=1, warm_s=0)
        direct = stand.drive(replace(direct_job, endpoint=server.upstream.endpoint))
        since = server.mark()
        half_s = direct.whole.max_ms / 2000 if direct.whole else 0.0
        crowd = self._pull(stand, layer, clients=self.clients, spread_s=half_s)
        asked = server.asked(since)
        extra: dict[str, float] = {
            "clients": self.clients,
            "upstream_gets": asked.blob_gets,
            "upstream_bytes_per_byte": asked.sent_bytes / self.size_bytes,
        }
        if direct.whole and direct.first_byte and crowd.whole and crowd.first_byte:
            extra["last_byte_of_direct"] = crowd.whole.max_ms / direct.whole.max_ms
            extra["first_byte_later_ms"] = crowd.first_byte.p50_ms - direct.first_byte.p50_ms
        if direct.server_rss_bytes is not None and crowd.server_rss_bytes is not None:
            extra["rss_growth_bytes"] = crowd.server_rss_bytes - direct.server_rss_bytes
        return replace(crowd, errors=crowd.errors + direct.errors, extra={**crowd.extra, **extra})

    def _pull(self, stand: Stand, layer: Layer, *, clients: int, spread_s: float = 0.0) -> Outcome:
        name = stand.server.name(_IMAGE)
        stand.server.put_blob(name, layer)
        path = f"/v2/{name}/blobs/{layer.digest}"
        shot = Shot(path, 200, layer.size_bytes, headers=authorized(stand, name), digest=layer.digest)
        return stand.drive(repeat(stand, [shot], connections=clients, requests=clients, warm_s=0, spread_s=spread_s))


def cases(scale: Scale) -> tuple[Case, ...]:
    """Small against the peer, which fetches once per client; the large one is ours alone."""
    full = scale is Scale.FULL
    small, large = (32 * MIB, 256 * MIB) if full else (4 * MIB, 16 * MIB)
    return (
        Stampede("stampede-20", 20, small, only=frozenset({"sluice-proxy", "docker-registry-proxy"})),
        Stampede("stampede-200", 200 if full else 50, large, only=_OURS),
    )
