"""What a scripted upstream holds: images, indexes, artifacts, tags and blobs, by the upstream's own names.

Plain values in memory, and whatever a test wants put there: nothing is checked, so that content may be as wrong as
upstreams can be.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.served import OCI_INDEX, OCI_MANIFEST, descriptor, image_manifest, sha256

EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The bytes of a manifest and how the upstream calls them."""

    content: bytes
    media_type: str = OCI_MANIFEST

    @property
    def digest(self) -> str:
        """Of the bytes."""
        return sha256(self.content)


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it was put there: its manifest, its config and its layers."""

    name: str
    reference: str
    manifest: Manifest
    config: bytes
    layers: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        """Of the manifest."""
        return self.manifest.digest

    @property
    def blobs(self) -> dict[str, bytes]:
        """Config and layers by digest."""
        return {sha256(content): content for content in (self.config, *self.layers)}


@dataclass(frozen=True, slots=True)
class Index:
    """A multi-arch image: the index and its images by platform (`OS/ARCHITECTURE[/VARIANT]`)."""

    name: str
    reference: str
    manifest: Manifest
    images: Mapping[str, Image]

    @property
    def digest(self) -> str:
        """Of the index."""
        return self.manifest.digest


@dataclass(slots=True)
class Shelf:
    """Everything that one or several scripted upstreams hold."""

    manifests: dict[str, dict[str, Manifest]] = field(default_factory=dict)
    """By image name and digest. A digest may be asked for that the bytes do not have: tests put them there."""
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """By image name and tag: a digest."""
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By image name and digest."""

    def put_blob(self, name: str, content: bytes, digest: str | None = None) -> str:
        """Hold a blob in an image, under its digest or whatever else; that digest."""
        digest = digest or sha256(content)
        self.blobs.setdefault(name, {})[digest] = content
        return digest

    def put_manifest(self, name: str, manifest: Manifest, tag: str | None = None) -> str:
        """Hold a manifest in an image, and let a tag name it; its digest."""
        self.manifests.setdefault(name, {})[manifest.digest] = manifest
        if tag is not None:
            self.tags.setdefault(name, {})[tag] = manifest.digest
        return manifest.digest

    def image(self, name: str, tag: str | None, *layers: bytes, platform: str = "linux/amd64") -> Image:
        """Hold an image of these layers."""
        system, architecture, *_ = platform.split("/")
        rootfs = {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]}
        config = json.dumps({"architecture": architecture, "os": system, "rootfs": rootfs}).encode()
        manifest = Manifest(image_manifest(config, *layers))
        for content in (config, *layers):
            self.put_blob(name, content)
        self.put_manifest(name, manifest, tag)
        return Image(name, tag or manifest.digest, manifest, config, layers)

    def index(self, name: str, tag: str, platforms: Mapping[str, tuple[bytes, ...]]) -> Index:
        """Hold a multi-arch image: the layers of each platform."""
        images = {each: self.image(name, None, *layers, platform=each) for each, layers in platforms.items()}
        entries = [_entry(image, platform) for platform, image in images.items()]
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        manifest = Manifest(json.dumps(document).encode(), OCI_INDEX)
        self.put_manifest(name, manifest, tag)
        return Index(name, tag, manifest, images)

    def artifact(self, name: str, subject: str, content: bytes, artifact_type: str) -> Manifest:
        """Hold an artifact that says it belongs to `subject` (a manifest's digest in the same image)."""
        about = self.manifests[name][subject]
        self.put_blob(name, EMPTY)
        self.put_blob(name, content)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": descriptor(EMPTY, EMPTY_TYPE),
            "layers": [descriptor(content, "application/octet-stream")],
            "subject": descriptor(about.content, about.media_type),
        }
        manifest = Manifest(json.dumps(document).encode())
        self.put_manifest(name, manifest)
        return manifest

    def find_manifest(self, name: str, reference: str) -> Manifest | None:
        """By tag or digest."""
        digest = reference if ":" in reference else self.tags.get(name, {}).get(reference, "")
        return self.manifests.get(name, {}).get(digest)

    def referrers(self, name: str, subject: str) -> bytes:
        """The index of all that says it belongs to `subject`: what the API answers and a fallback tag holds."""
        entries = []
        for digest, manifest in self.manifests.get(name, {}).items():
            document = json.loads(manifest.content)
            if document.get("subject", {}).get("digest") == subject:
                entry = {"mediaType": manifest.media_type, "digest": digest, "size": len(manifest.content)}
                entries.append({**entry, "artifactType": document.get("artifactType", "")})
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()

    def write_fallback_tag(self, name: str, subject: str) -> str:
        """Hold the index of its referrers under the tag `sha256-…`, as clients do without the API; the tag."""
        tag = subject.replace(":", "-")
        self.put_manifest(name, Manifest(self.referrers(name, subject), OCI_INDEX), tag)
        return tag


def _entry(image: Image, platform: str) -> dict[str, object]:
    system, architecture, *variant = platform.split("/")
    named = {"os": system, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
    return {**descriptor(image.manifest.content, image.manifest.media_type), "platform": named}
