"""Content for registries: layers of any size that no compressor shrinks, images, and indexes, the same on every run.

A layer is a seed and a size; its bytes are a key stream (AES in counter mode) made a chunk at a time, several GiB per
second, so that making them costs the load little. Knows nothing of servers.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
_ARCHITECTURES: Final = ("amd64", "arm64", "ppc64le", "s390x")
CHUNK_BYTES: Final = MIB


@dataclass(frozen=True, slots=True)
class Layer:
    """`size_bytes` of noise that only `seed` decides."""

    seed: str
    size_bytes: int

    @property
    def media_type(self) -> str:
        """As a descriptor names it."""
        return OCI_LAYER

    @property
    def digest(self) -> str:
        """`sha256:...`; reads the whole layer the first time that this process asks."""
        return _digest(self)

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The bytes, in chunks of `chunk_bytes` and one rest. Each chunk is valid only until the next is asked for."""
        key = hashlib.sha256(self.seed.encode()).digest()
        stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
        blank = bytes(min(chunk_bytes, max(self.size_bytes, 1)))
        chunk = bytearray(len(blank) + 15)  # the cipher wants room for a block more
        left = self.size_bytes
        while left:
            count = min(left, len(blank))
            stream.update_into(memoryview(blank)[:count], chunk)
            left -= count
            yield memoryview(chunk)[:count]


@dataclass(frozen=True, slots=True)
class Document:
    """A small body of its own: a configuration, a manifest or an index."""

    media_type: str
    body: bytes

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        return len(self.body)

    @property
    def digest(self) -> str:
        """`sha256:...`."""
        return f"sha256:{hashlib.sha256(self.body).hexdigest()}"

    def chunks(self, chunk_bytes: int = CHUNK_BYTES) -> Iterator[memoryview]:
        """The bytes, as those of a layer come."""
        for start in range(0, len(self.body), chunk_bytes):
            yield memoryview(self.body)[start : start + chunk_bytes]


Blob = Layer | Document
"""What a repository holds under a digest."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform."""

    config: Document
    layers: tuple[Layer, ...]
    manifest: Document

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """Everything that has to be there before the manifest."""
        return (self.config, *self.layers)


def image(seed: str, *layers: Layer) -> Image:
    """An OCI image of these layers; `seed` makes it differ from another of the same layers."""
    config = _document(
        OCI_CONFIG,
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"seed": seed}},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        },
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in layers],
    }
    return Image(config, layers, _document(OCI_MANIFEST, manifest))


def index(*images: Image) -> Document:
    """A multi-arch index over up to as many images as `_ARCHITECTURES`."""
    entries = [
        {**_descriptor(each.manifest), "platform": {"architecture": architecture, "os": "linux"}}
        for each, architecture in zip(images, _ARCHITECTURES, strict=False)
    ]
    return _document(OCI_INDEX, {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def _document(media_type: str, value: object) -> Document:
    return Document(media_type, json.dumps(value, indent=1).encode())


def _descriptor(blob: Blob) -> dict[str, object]:
    return {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size_bytes}


@cache
def _digest(layer: Layer) -> str:
    hasher = hashlib.sha256()
    for chunk in layer.chunks():
        hasher.update(chunk)
    return f"sha256:{hasher.hexdigest()}"
