"""The index of a manifest's referrers, made from rows (distribution-spec "Listing referrers"; rows RF-03 to RF-17).

Knows descriptors; which manifests refer to which subject, and who may see them, is decided before.
"""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.oci import media_types
from gateway.oci.manifest import Descriptor, Manifest
from storage import Digest, ManifestRecord

CONTENT_TYPE: Final = media_types.OCI_INDEX
"""Exactly this, without parameters: clients compare the string (RF-03)."""

PAGE_BYTES: Final = 4 * 2**20
"""What clients read at most, and they ignore Link (RF-10): so a page is as long as it can be below this."""

_HEAD: Final = b'{"schemaVersion":2,"mediaType":"' + CONTENT_TYPE.encode("ascii") + b'","manifests":['
_TAIL: Final = b"]}"


@dataclass(frozen=True, slots=True)
class Page:
    """One index document, and the digest to go on after; None on the last page."""

    content: bytes
    last: Digest | None


def from_record(record: ManifestRecord) -> Descriptor:
    """The descriptor of a stored manifest, with its effective artifact type and all its annotations (RF-06, RF-07)."""
    return Descriptor(
        media_type=record.media_type,
        digest=record.digest,
        size_bytes=record.size_bytes,
        artifact_type=record.artifact_type,
        annotations=json.loads(record.annotations) if record.annotations else {},
    )


def page(descriptors: Iterable[Descriptor], *, limit_bytes: int = PAGE_BYTES) -> Page:
    """An index of as many of the descriptors, in their order, as stay within `limit_bytes`; each digest once (RF-17).

    No descriptor makes an empty index (RF-04). The first is taken whatever its size, so that paging ends. Reads one
    descriptor more than it takes.
    """
    taken: list[bytes] = []
    size_bytes = len(_HEAD) + len(_TAIL)
    last: Digest | None = None
    for descriptor in _once(descriptors):
        written = _written(descriptor)
        size_bytes += len(written) + 1  # a comma
        if taken and size_bytes > limit_bytes:
            return Page(_HEAD + b",".join(taken) + _TAIL, last)
        taken.append(written)
        last = descriptor.digest
    return Page(_HEAD + b",".join(taken) + _TAIL, None)


def fallback_members(index: Manifest, referring: Container[Digest]) -> tuple[Descriptor, ...]:
    """Those children of a fallback tag's index that do refer to the subject, each once, in order (RF-13).

    `referring` holds the digests of manifests whose own `subject` is the one asked for: anybody who can push may list
    anything in such an index, and only the manifest itself says what it refers to.
    """
    return tuple(child for child in _once(index.children) if child.digest in referring)


def _once(descriptors: Iterable[Descriptor]) -> Iterator[Descriptor]:
    seen: set[Digest] = set()
    for descriptor in descriptors:
        if descriptor.digest not in seen:
            seen.add(descriptor.digest)
            yield descriptor


def _written(descriptor: Descriptor) -> bytes:
    fields: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size_bytes,
    }
    if descriptor.annotations:
        fields["annotations"] = dict(descriptor.annotations)
    if descriptor.artifact_type:
        fields["artifactType"] = descriptor.artifact_type
    # Not escaped to ASCII: annotations could grow threefold by it, beyond what clients read.
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
