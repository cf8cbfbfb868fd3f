"""Large blobs, whole: from the page cache (warm), from the disk (cold), and through TLS."""

import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench.cases.case import Case, Outcome, Scale, Stand
from bench.cases.traffic import Repeated, authorized, repeat
from bench.contenders.contender import Setting, Trait
from bench.content import GIB, MIB, Layer
from bench.jobs import Shot
from bench.records import Unit

CONNECTIONS: Final = (1, 8, 64)
_IMAGE: Final = "blobs"


def warm_layer(scale: Scale) -> Layer:
    """The blob that every warm case pulls: 256 MiB, or 64 MiB when it must be quick."""
    size_bytes = 256 * MIB if scale is Scale.FULL else 64 * MIB
    return Layer(f"warm-{size_bytes}", size_bytes)


def put_warm(stand: Stand, *, layer: Layer) -> None:
    """Put it."""
    stand.server.put_blob(stand.server.name(_IMAGE), layer)


def warm_shots(stand: Stand, *, layer: Layer) -> list[Shot]:
    """Ask for it."""
    return [_shot(stand, layer)]


def _shot(stand: Stand, layer: Layer) -> Shot:
    name = stand.server.name(_IMAGE)
    path = f"/v2/{name}/blobs/{layer.digest}"
    return Shot(path, 200, layer.size_bytes, headers=authorized(stand, name), digest=layer.digest)


@dataclass(frozen=True, slots=True)
class ColdBlobGet:
    """Blobs that are not in the page cache: as many at once as there are connections, each once per round."""

    connections: int
    total_bytes: int
    setting: Setting = field(default_factory=Setting)
    needs: frozenset[Trait] = frozenset()
    only: frozenset[str] = frozenset()
    cores: int = 1

    @property
    def name(self) -> str:
        """By connections."""
        return f"blob-get-cold-{self.connections}"

    @property
    def summary(self) -> str:
        """With sizes."""
        each = self.layers()[0].size_bytes // MIB
        return f"GET of {len(self.layers())} blobs of {each} MiB from the disk over {self.connections} connections"

    @property
    def unit(self) -> Unit:
        """Bulk."""
        return Unit.GIB

    def prepare(self, stand: Stand) -> None:
        """Put the blobs."""
        for layer in self.layers():
            stand.server.put_blob(stand.server.name(_IMAGE), layer)

    def measure(self, stand: Stand) -> Outcome:
        """Drop them from the page cache and pull each once."""
        layers = self.layers()
        files = {path for layer in layers for path in stand.server.files_of(layer)}
        for path in files:
            drop_from_cache(path)
        warm = sum(map(is_cached, files))
        shots = [_shot(stand, layer) for layer in layers]
        outcome = stand.drive(repeat(stand, shots, connections=self.connections, warm_s=0))
        return replace(outcome, extra={**outcome.extra, "files": len(files), "files_still_cached": warm})

    def layers(self) -> list[Layer]:
        """The blobs, all of one size."""
        count = max(4, self.connections)
        size_bytes = self.total_bytes // count
        return [Layer(f"cold-{size_bytes}-{number}", size_bytes) for number in range(count)]


def drop_from_cache(path: Path) -> None:
    """Take a file out of the page cache, after its bytes are on the disk: only clean pages can be dropped."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def is_cached(path: Path) -> bool:
    """Whether the beginning of a file can be read without its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def cases(scale: Scale) -> tuple[Case, ...]:
    """Warm and cold by connections, then TLS, then two workers."""
    full = scale is Scale.FULL
    layer = warm_layer(scale)
    mib = layer.size_bytes // MIB
    seconds = 2.0 if full else 0.7
    warm = partial(
        Repeated,
        unit=Unit.GIB,
        seconds=seconds,
        put=partial(put_warm, layer=layer),
        shots=partial(warm_shots, layer=layer),
    )
    return (
        *(
            warm(
                f"blob-get-warm-{connections}",
                f"GET of a blob of {mib} MiB in the page cache over {connections} connections",
                connections=connections,
            )
            for connections in CONNECTIONS
        ),
        *(ColdBlobGet(connections, GIB if full else 128 * MIB) for connections in CONNECTIONS),
        warm(
            "blob-get-tls",
            f"GET of a blob of {mib} MiB in the page cache over 1 connection with TLS",
            connections=1,
            setting=Setting(tls=True),
        ),
        warm(
            "blob-get-workers",
            f"GET of a blob of {mib} MiB over 8 connections from two workers and from one",
            connections=8,
            only=frozenset({"sluice", "sluice-2-workers"}),
            cores=3,
        ),
    )
