"""Content for a trace: blobs and manifests of the sizes that the log saw, and the trace with their digests in it.

So a trace without names can be replayed against any registry that lets us push. Which layers an image has is not known
from a log, so every manifest here has the same small configuration and no layers; sizes and sharing are as they were.
"""

import json
import re
from dataclasses import dataclass, replace
from typing import Final

from bench.content import OCI_CONFIG, OCI_MANIFEST, Document, Layer
from bench.trace import Trace

_PULL: Final = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/?]+)")
_UNSEEN_BYTES: Final = 1024
"""The size of what was only asked for by HEAD."""
CONFIG: Final = Document(OCI_CONFIG, b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')


@dataclass(frozen=True, slots=True)
class Holding:
    """What a repository has to hold before the replay."""

    image: str
    blobs: tuple[Layer, ...]
    manifests: tuple[tuple[Document, tuple[str, ...]], ...]
    """Each with its tags."""


def holdings(trace: Trace) -> tuple[Holding, ...]:
    """What the trace asks for with success, by image."""
    sizes = _sizes(trace)
    images = dict.fromkeys(name for name, _, _ in sizes)
    return tuple(
        Holding(
            image,
            tuple(_layer(ref, size) for (name, kind, ref), size in sizes.items() if (name, kind) == (image, "blobs")),
            tuple(
                (_manifest(f"{image} {ref}", size), () if ":" in ref else (ref,))
                for (name, kind, ref), size in sizes.items()
                if (name, kind) == (image, "manifests")
            ),
        )
        for image in images
    )


def rewritten(trace: Trace, names: dict[str, str]) -> Trace:
    """The trace for a registry that has the holdings, each image under the name that `names` gives it."""
    sizes = _sizes(trace)

    def target(text: str) -> str:
        found = _PULL.fullmatch(text)
        if found is None or found["name"] not in names:
            return text
        key = (found["name"], found["kind"], found["reference"])
        reference = found["reference"]
        if ":" in reference and key in sizes:
            made = _layer(reference, sizes[key]) if key[1] == "blobs" else _manifest(f"{key[0]} {key[2]}", sizes[key])
            reference = made.digest
        return f"/v2/{names[found['name']]}/{found['kind']}/{reference}"

    return replace(trace, visits=tuple(replace(each, target=target(each.target)) for each in trace.visits))


def _sizes(trace: Trace) -> dict[tuple[str, str, str], int]:
    """Image, kind and reference -> the size of its body, or the largest part of it that was seen."""
    sizes: dict[tuple[str, str, str], int] = {}
    for visit in trace.visits:
        found = _PULL.fullmatch(visit.target)
        if found is None or visit.status not in {200, 206, 304} or visit.method not in {"GET", "HEAD"}:
            continue
        key = (found["name"], found["kind"], found["reference"])
        sizes[key] = max(sizes.get(key, 0), visit.sent_bytes)
    shared: dict[tuple[str, str], int] = {}
    for (_, kind, reference), size in sizes.items():  # a digest has one size, wherever it is
        shared[kind, reference] = max(shared.get((kind, reference), 0), size)
    return {key: (shared[key[1:]] if ":" in key[2] else size) or _UNSEEN_BYTES for key, size in sizes.items()}


def _layer(digest: str, size_bytes: int) -> Layer:
    return Layer(digest, size_bytes)


def _manifest(seed: str, size_bytes: int) -> Document:
    """A manifest of about this size; not smaller than it must be."""
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": CONFIG.digest, "size": CONFIG.size_bytes},
        "layers": [],
        "annotations": {"seed": seed, "padding": ""},
    }
    lacking = size_bytes - len(json.dumps(value))
    value["annotations"] = {"seed": seed, "padding": " " * max(lacking, 0)}
    return Document(OCI_MANIFEST, json.dumps(value).encode())
