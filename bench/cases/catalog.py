"""The list of all cases, in the order in which reports show them."""

from collections.abc import Callable
from typing import Final

from bench.cases import (
    blob_get,
    bucket_pull,
    bucket_push,
    collection,
    connections,
    crowd,
    fairness,
    fleet,
    listings,
    manifests,
    mixed,
    push,
    ranges,
    stampede,
    sync,
)
from bench.cases.case import Case, Scale

_KINDS: Final[tuple[Callable[[Scale], tuple[Case, ...]], ...]] = (
    blob_get.cases,
    manifests.cases,
    ranges.cases,
    connections.cases,
    push.cases,
    fairness.cases,
    crowd.cases,
    fleet.cases,
    mixed.cases,
    sync.cases,
    stampede.cases,
    collection.cases,
    listings.cases,
    bucket_push.cases,
    bucket_pull.cases,
)


def all_cases(scale: Scale) -> tuple[Case, ...]:
    """Every case at a scale. Names are unique."""
    return tuple(case for kind in _KINDS for case in kind(scale))
