"""What a CI fleet pulls and when: images that share layers, runners that keep what they have pulled, random arrivals.

Pure and the same for the same seed. What a runner still has to fetch is decided here, in the order of arrivals, and
not while the load runs: so every contender is asked for exactly the same.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from bench.content import KIB, Document, Image, Layer, image, index

_SHARED_PER_IMAGE: Final = 3
_OWN_PER_IMAGE: Final = 2
_ARCHITECTURES: Final = 2
_SPREAD: Final = 1.0
"""Of layer sizes (log-normal): most are small, some are four times the median."""
_POPULARITY: Final = 1.0
"""Zipf's exponent: the second image is pulled half as often as the first, the third a third as often."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How large it is and how it behaves."""

    images: int
    pool: int
    """Shared layers that images draw from."""
    median_layer_bytes: int
    runners: int
    pulls_per_s: float
    seconds: float
    seed: str = "fleet"


@dataclass(frozen=True, slots=True)
class MultiArch:
    """An image for two platforms, and the index over them. Runners pull the first."""

    name: str
    images: tuple[Image, ...]
    index: Document


@dataclass(frozen=True, slots=True)
class Pull:
    """A runner wants an image: what it has to ask for besides the HEAD of the tag. Has a JSON form (`asdict`)."""

    at_s: float
    image: str
    tag_bytes: int
    """The index behind the tag."""
    documents: tuple[tuple[str, int], ...]
    """Digests and sizes of the index and the manifest; empty when the runner has them, and then it is done."""
    blobs: tuple[tuple[str, int], ...]
    """Digests and sizes of the configuration and the layers that it does not have."""


@cache
def catalog(fleet: Fleet) -> tuple[MultiArch, ...]:
    """All images; reads every layer once."""
    chance = random.Random(f"{fleet.seed}-images")
    pool = [_layer(chance, fleet, f"shared-{number}") for number in range(fleet.pool)]
    return tuple(_multi_arch(chance, fleet, pool, number) for number in range(fleet.images))


def pulls(fleet: Fleet, round_number: int) -> tuple[Pull, ...]:
    """Everything that is pulled in one round, in order. Runners begin with nothing."""
    chance = random.Random(f"{fleet.seed}-{round_number}")
    images = catalog(fleet)
    weights = [1 / (place + 1) ** _POPULARITY for place in range(len(images))]
    held: dict[int, set[str]] = {}
    planned: list[Pull] = []
    at_s = 0.0
    while (at_s := at_s + chance.expovariate(fleet.pulls_per_s)) < fleet.seconds or not planned:
        runner = chance.randrange(fleet.runners)
        wanted = chance.choices(images, weights)[0]
        planned.append(_pull(min(at_s, fleet.seconds), wanted, held.setdefault(runner, set())))
    return tuple(planned)


def _pull(at_s: float, wanted: MultiArch, held: set[str]) -> Pull:
    mine = wanted.images[0]
    documents = () if wanted.index.digest in held else (wanted.index, mine.manifest)
    blobs = [blob for blob in mine.blobs if blob.digest not in held]
    held.update((wanted.index.digest, *(blob.digest for blob in mine.blobs)))
    return Pull(
        at_s,
        wanted.name,
        wanted.index.size_bytes,
        tuple((each.digest, each.size_bytes) for each in documents),
        tuple((each.digest, each.size_bytes) for each in blobs),
    )


def _multi_arch(chance: random.Random, fleet: Fleet, pool: Sequence[Layer], number: int) -> MultiArch:
    made = []
    for platform in range(_ARCHITECTURES):
        shared = chance.sample(pool, min(_SHARED_PER_IMAGE, len(pool)))
        own = [_layer(chance, fleet, f"own-{number}-{platform}-{place}") for place in range(_OWN_PER_IMAGE)]
        made.append(image(f"{fleet.seed}-{number}-{platform}", *shared, *own))
    return MultiArch(f"fleet-{number}", tuple(made), index(*made))


def _layer(chance: random.Random, fleet: Fleet, name: str) -> Layer:
    size_bytes = int(fleet.median_layer_bytes * min(chance.lognormvariate(0, _SPREAD), 8))
    return Layer(f"{fleet.seed}-{name}", max(size_bytes, KIB))
