"""Pulling blobs that lie in a bucket: for the first time, by a crowd at once, again, and by a redirect there."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

from bench.cases.blob_get import put_warm, warm_layer, warm_shots
from bench.cases.bucket import bucket_server, watched
from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.traffic import Repeated, authorized, repeat
from bench.contenders.contender import ContenderFailed, Setting, Trait
from bench.content import MIB, Layer
from bench.jobs import Job, Shot
from bench.records import Unit

_IMAGE: Final = "pulled"
_OURS: Final = frozenset({"sluice-s3"})
_CROWD: Final = 100


@dataclass(frozen=True, slots=True)
class BucketPull:
    """Layers that nobody has pulled before, each by `clients` at once and once by each of them."""

    name: str
    summary: str
    layers: int
    size_bytes: int
    clients: int = 1
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset({Trait.BUCKET})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Nothing: each round pulls layers of its own."""

    def measure(self, stand: Stand) -> Outcome:
        """Push the round's layers, and pull them."""
        name = stand.server.name(_IMAGE)
        pulled = [Layer(f"{self.name}-{stand.round}-{number}", self.size_bytes) for number in range(self.layers)]
        for layer in pulled:
            stand.server.put_blob(name, layer)
        headers = authorized(stand, name)
        shots = [
            Shot(f"/v2/{name}/blobs/{layer.digest}", 200, layer.size_bytes, headers=headers, digest=layer.digest)
            for layer in pulled
        ]
        requests = self.layers * self.clients
        job = repeat(stand, shots, connections=requests, requests=requests, warm_s=0)
        stored_bytes = self.layers * self.size_bytes
        return watched(stand, lambda: stand.drive(job), blobs=self.layers, stored_bytes=stored_bytes)


@dataclass(frozen=True, slots=True)
class RedirectedPull:
    """Layers whose bytes the service sends itself: the registry only says where they are."""

    layers: int
    size_bytes: int
    name: str = "s3-pull-redirected"
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset({Trait.BUCKET, Trait.OURS})
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def summary(self) -> str:
        """With sizes."""
        return f"GET of {self.layers} blobs of {self.size_bytes // MIB} MiB that leads to the bucket by 307, and there"

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Put them."""
        for layer in self._layers():
            stand.server.put_blob(self._name(stand), layer)

    def measure(self, stand: Stand) -> Outcome:
        """One client, one layer after the other."""
        name = self._name(stand)
        arguments = {
            "layers": [asdict(layer) for layer in self._layers()],
            "name": name,
            "authorization": stand.server.authorization(name),
        }
        job = Job("bench.drivers.redirected", stand.server.endpoint, arguments)
        stored_bytes = self.layers * self.size_bytes
        return watched(stand, lambda: stand.drive(job), blobs=self.layers, stored_bytes=stored_bytes)

    def _layers(self) -> Sequence[Layer]:
        return [Layer(f"{self.name}-{number}", self.size_bytes) for number in range(self.layers)]

    def _name(self, stand: Stand) -> str:
        server = bucket_server(stand)
        if server is None:
            raise ContenderFailed(f"{stand.contender.name} has no bucket to lead to")
        return server.redirected_name(_IMAGE)


def cases(scale: Scale) -> tuple[Case, ...]:
    """Cold, by a crowd, warm, redirected. A crowd of large pulls is ours alone: the peer would take minutes."""
    full = scale is Scale.FULL
    cold, large, small = (512 * MIB, 1024 * MIB, 16 * MIB) if full else (64 * MIB, 32 * MIB, MIB)
    layer = warm_layer(scale)
    return (
        BucketPull("s3-pull-cold-1", f"First GET of a blob of {cold // MIB} MiB from a bucket", 1, cold),
        BucketPull(
            "s3-pull-cold-8", f"First GET of 8 blobs of {cold // MIB // 8} MiB at once from a bucket", 8, cold // 8
        ),
        BucketPull(
            "s3-pull-crowd",
            f"First GET of a blob of {large // MIB} MiB by {_CROWD} clients at once from a bucket",
            1,
            large,
            _CROWD,
            only=_OURS,
        ),
        BucketPull(
            "s3-pull-crowd-small",
            f"First GET of a blob of {small // MIB} MiB by {_CROWD} clients at once from a bucket",
            1,
            small,
            _CROWD,
        ),
        Repeated(
            "s3-pull-warm-8",
            f"GET of a blob of {layer.size_bytes // MIB} MiB that was pulled before, over 8 connections; `sluice` has "
            "it in a directory",
            unit=Unit.GIB,
            connections=8,
            seconds=2.0 if full else 0.7,
            put=lambda stand: put_warm(stand, layer=layer),
            shots=lambda stand: warm_shots(stand, layer=layer),
            only=_OURS | {"sluice", "docker-registry-s3"},
        ),
        RedirectedPull(4, 256 * MIB if full else 16 * MIB),
    )
