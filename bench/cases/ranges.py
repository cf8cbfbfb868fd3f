"""Small ranges of a large blob, as lazy-pulling snapshotters and resuming clients ask for them."""

import random
from functools import partial
from typing import Final

from bench.cases.blob_get import put_warm, warm_layer
from bench.cases.case import Case, Scale, Stand
from bench.cases.traffic import Repeated, authorized
from bench.content import KIB, Layer
from bench.jobs import Shot
from bench.records import Unit

RANGE_BYTES: Final = 64 * KIB
CONNECTIONS: Final = 16
_OFFSETS: Final = 512


def range_shots(stand: Stand, *, layer: Layer) -> list[Shot]:
    """Ranges at random offsets, the same in every round."""
    name = stand.server.name("blobs")
    headers = authorized(stand, name)
    chance = random.Random(layer.seed)
    starts = [chance.randrange(layer.size_bytes - RANGE_BYTES) for _ in range(_OFFSETS)]
    return [
        Shot(
            f"/v2/{name}/blobs/{layer.digest}",
            206,
            RANGE_BYTES,
            headers={**headers, "Range": f"bytes={start}-{start + RANGE_BYTES - 1}"},
        )
        for start in starts
    ]


def cases(scale: Scale) -> tuple[Case, ...]:
    """64 KiB over kept connections."""
    layer = warm_layer(scale)
    return (
        Repeated(
            "range-64k",
            f"GET of 64 KiB at random offsets of a warm blob over {CONNECTIONS} kept connections",
            Unit.KILO_REQUESTS,
            CONNECTIONS,
            2.0 if scale is Scale.FULL else 0.7,
            partial(put_warm, layer=layer),
            partial(range_shots, layer=layer),
        ),
    )
