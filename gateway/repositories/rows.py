"""What every kind of repository does alike to rows of manifests; for use inside a transaction. Decides nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence

from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import Reference, Tag
from gateway.oci.referrers import Referrer
from storage import Digest, Document, ImageRecord, ManifestRecord, ReferenceRecord, Transaction
from storage.metadata import images, manifests


def read_manifest(tx: Transaction, repository_id: int, image: str, reference: Reference) -> Document | None:
    """The exact bytes that a tag or digest leads to in this image; None if there are none."""
    found = images.find(tx, repository_id, image)
    if found is None:
        return None
    if isinstance(reference, Tag):
        return manifests.by_tag(tx, found.id, reference.name)
    return manifests.by_digest(tx, found.id, reference)


def blobs_of(manifest: Manifest) -> list[Descriptor]:
    """The blobs that a manifest names, config first, as often as it does."""
    return [*((manifest.config,) if manifest.config else ()), *manifest.layers]


def digests(items: Iterable[Descriptor]) -> list[Digest]:
    """Each digest once, in order."""
    return list(dict.fromkeys(item.digest for item in items))


def references(manifest: Manifest, held: Mapping[Digest, tuple[int, int]]) -> list[ReferenceRecord]:
    """The rows that say what a manifest needs; `held`: blob id and size of what the image may read of it.

    Each thing once: a manifest may name one layer thousands of times, and every row is written under the write lock.
    What is held with another size than the manifest says is not what it means.
    """
    roles = ["config"] * (manifest.config is not None) + ["layer"] * len(manifest.layers)
    named = [*zip(roles, blobs_of(manifest), strict=True), *(("child", child) for child in manifest.children)]
    first: dict[tuple[str, Digest], Descriptor] = {}
    for role, item in named:
        first.setdefault((role, item.digest), item)
    return [
        ReferenceRecord(role, digest, item.size_bytes, None if role == "child" else _fitting(held.get(digest), item))
        for (role, digest), item in first.items()
    ]


def _fitting(held: tuple[int, int] | None, item: Descriptor) -> int | None:
    return held[0] if held is not None and held[1] == item.size_bytes else None


def store(
    tx: Transaction,
    image: ImageRecord,
    document: Document,
    manifest: Manifest,
    *,
    references: Sequence[ReferenceRecord],
    by: int | None,
    now: int,
) -> int:
    """Store a manifest with what it needs, and give its row's id; one that is there already stays as it is."""
    subject = manifest.subject
    return manifests.put(
        tx,
        image.id,
        document,
        artifact_type=manifest.artifact_type,
        subject=subject.digest if subject else None,
        annotations=json.dumps(dict(manifest.annotations)) if subject and manifest.annotations else None,
        references=references,
        by=by,
        now=now,
    )


def referrer_of(row: ManifestRecord) -> Referrer:
    """A stored manifest as it is listed."""
    return Referrer(
        media_type=row.media_type,
        digest=row.digest,
        size_bytes=row.size_bytes,
        artifact_type=row.artifact_type,
        annotations=json.loads(row.annotations) if row.annotations else {},
    )
