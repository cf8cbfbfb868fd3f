"""The index of a manifest's referrers (distribution-spec "Listing referrers"; rows RF-03 to RF-17).

Knows descriptors; which manifests refer to which subject, and who may see them, is decided before.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.oci import media_types
from storage import Digest

CONTENT_TYPE: Final = media_types.OCI_INDEX
"""Exactly this, without parameters: clients compare the string (RF-03)."""

_HEAD: Final = b'{"schemaVersion":2,"mediaType":"' + CONTENT_TYPE.encode("ascii") + b'","manifests":['
_TAIL: Final = b"]}"


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest with a subject, as it is listed: with its effective artifact type (RF-07) and all annotations."""

    media_type: str
    digest: Digest
    size_bytes: int
    artifact_type: str | None
    annotations: Mapping[str, str]


def build_page(referrers: Iterable[Referrer], *, limit_bytes: int) -> tuple[bytes, int]:
    """An index of the first referrers, each digest once (RF-17), and how many of them it covers.

    It has as many as stay within `limit_bytes`: clients read up to 4 MiB and mostly ignore Link, so pages should be as
    long as they may be (RF-10). The first is taken whatever its size, so that paging ends. No referrers make an empty
    index (RF-04).
    """
    taken: list[bytes] = []
    seen: set[Digest] = set()
    size_bytes = len(_HEAD) + len(_TAIL) - 1  # one comma less than descriptors
    covered = 0
    for referrer in referrers:
        if referrer.digest not in seen:
            written = _written(referrer)
            size_bytes += len(written) + 1
            if taken and size_bytes > limit_bytes:
                break
            taken.append(written)
            seen.add(referrer.digest)
        covered += 1
    return _HEAD + b",".join(taken) + _TAIL, covered


def _written(referrer: Referrer) -> bytes:
    fields: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": str(referrer.digest),
        "size": referrer.size_bytes,
    }
    if referrer.annotations:
        fields["annotations"] = dict(referrer.annotations)
    if referrer.artifact_type:
        fields["artifactType"] = referrer.artifact_type
    # Not escaped to ASCII: annotations could grow threefold by it, beyond what clients read.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
