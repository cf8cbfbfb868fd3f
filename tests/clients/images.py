"""Images made on the spot: random layers, true platforms, in the three shapes that clients take in and give back.

Nothing is fetched and nothing is executed. `make_image` and `Index` hold the exact bytes; `write_layout`,
`write_archive` and `write_docker_archive` put them on disk; `read_images` reads what a client wrote, unpacks every
layer itself and so says what really arrived. Knows no client and no registry.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

import zstandard

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED: Final = "2025-01-01T00:00:00Z"
CREATED_S: Final = 1735689600


def sha256(content: bytes) -> str:
    """The digest of some bytes, as text."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes, media_type: str, **extra: object) -> dict[str, object]:
    """A descriptor of some bytes."""
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **extra}


def platform_fields(platform: str) -> dict[str, str]:
    """A platform such as `linux/arm64` as configurations and indexes write it, with the variant that builders add."""
    system, _, architecture = platform.partition("/")
    variant = {"variant": "v8"} if architecture == "arm64" else {}
    return {"os": system, "architecture": architecture, **variant}


@dataclass(frozen=True)
class Image:
    """One image for one platform, with every byte of it. `platform` is like `linux/amd64`."""

    platform: str
    tars: tuple[bytes, ...]

    @cached_property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the layers as they are after unpacking, lowest first."""
        return tuple(sha256(tar) for tar in self.tars)

    @cached_property
    def layers(self) -> tuple[bytes, ...]:
        """The layers as they travel: gzip."""
        return tuple(gzip.compress(tar, 1, mtime=0) for tar in self.tars)

    @cached_property
    def config(self) -> bytes:
        """The configuration that names platform and layers."""
        value = {
            "created": CREATED,
            **platform_fields(self.platform),
            "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/marker"]},
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
            "history": [{"created": CREATED, "created_by": f"layer {n}"} for n, _ in enumerate(self.tars)],
        }
        return json.dumps(value).encode()

    @cached_property
    def manifest(self) -> bytes:
        """The OCI manifest."""
        value = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(self.config, OCI_CONFIG),
            "layers": [descriptor(layer, OCI_LAYER) for layer in self.layers],
        }
        return json.dumps(value).encode()

    @property
    def media_type(self) -> str:
        """What the manifest is."""
        return OCI_MANIFEST

    def blobs(self) -> Iterator[bytes]:
        """Everything but the top manifest."""
        yield from (self.config, *self.layers)


@dataclass(frozen=True)
class Index:
    """One image for several platforms."""

    images: tuple[Image, ...]

    @cached_property
    def manifest(self) -> bytes:
        """The OCI index."""
        entries = []
        for image in self.images:
            entries.append(descriptor(image.manifest, OCI_MANIFEST, platform=platform_fields(image.platform)))
        return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()

    @property
    def media_type(self) -> str:
        """What the manifest is."""
        return OCI_INDEX

    def blobs(self) -> Iterator[bytes]:
        """Everything but the top manifest."""
        for image in self.images:
            yield from (image.manifest, *image.blobs())

    def of(self, platform: str) -> Image:
        """The image for a platform."""
        return next(image for image in self.images if image.platform == platform)


def make_tar(files: Mapping[str, bytes], trees: Iterable[Path] = (), *, links: bool = True) -> bytes:
    """A layer of these files, a link to each, and whole folders of this machine with their modes and links.

    Folders stand before what is in them, as in layers that real builders make: podman 5.4 copies files of a partial
    pull side by side, and two copies that both make a missing folder can fail.
    """
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in sorted({str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, CREATED_S
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o755, CREATED_S
            tar.addfile(entry, io.BytesIO(content))
            if links:
                link = tarfile.TarInfo(f"{name}.link")
                link.type, link.linkname, link.mtime = tarfile.SYMTYPE, f"/{name}", CREATED_S
                tar.addfile(link)
        for tree in trees:
            tar.add(tree, str(tree).lstrip("/"))
    return held.getvalue()


def make_image(platform: str = "linux/amd64", *, layers: int = 3, layer_bytes: int = 40_000) -> Image:
    """An image that no registry has seen: half of each layer is random, half is text that compresses."""
    tars = [
        make_tar(
            {
                f"layer-{number}/random": os.urandom(layer_bytes // 2),
                f"layer-{number}/text": b"the same line again and again\n" * (layer_bytes // 60),
            }
        )
        for number in range(layers - 1)
    ]
    marker = make_tar({"marker": f"{platform} {os.urandom(8).hex()}\n".encode()})
    return Image(platform, (*tars, marker))


def make_index(*platforms: str, layers: int = 3, layer_bytes: int = 40_000) -> Index:
    """An image for each of these platforms, none of which any registry has seen."""
    return Index(tuple(make_image(platform, layers=layers, layer_bytes=layer_bytes) for platform in platforms))


def write_layout(made: Image | Index, folder: Path, tag: str) -> Path:
    """An OCI layout with one tag, which is also the full name for containerd; gives the folder."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    for content in (made.manifest, *made.blobs()):
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
    annotations = {"org.opencontainers.image.ref.name": tag, "io.containerd.image.name": tag}
    entry = descriptor(made.manifest, made.media_type, annotations=annotations)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}))
    return folder


def write_archive(made: Image | Index, path: Path, tag: str) -> Path:
    """The same as `write_layout`, as one tar file; gives its path."""
    layout = write_layout(made, path.with_suffix(".layout"), tag)
    with tarfile.open(path, "w") as tar:
        for entry in sorted(layout.iterdir()):
            tar.add(entry, entry.name)
    return path


def write_docker_archive(image: Image, path: Path, *names: str) -> Path:
    """What `docker save` writes and `docker load` reads, with full names such as `host/a:1`; gives the path."""
    config = f"{hashlib.sha256(image.config).hexdigest()}.json"
    files = {config: image.config}
    layers = []
    for diff_id, tar in zip(image.diff_ids, image.tars, strict=True):
        layers.append(f"{diff_id.removeprefix('sha256:')}/layer.tar")
        files[layers[-1]] = tar
    listing = [{"Config": config, "RepoTags": list(names), "Layers": layers}]
    files["manifest.json"] = json.dumps(listing).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@dataclass(frozen=True, slots=True)
class Arrived:
    """An image as some client or registry holds it: what its bytes hash to, never what they claim."""

    platform: str
    config: str
    diff_ids: tuple[str, ...]


def arrival(image: Image) -> Arrived:
    """What must arrive when this image was sent."""
    return Arrived(image.platform, sha256(image.config), image.diff_ids)


def unpacked(content: bytes) -> bytes:
    """A layer without its compression, told by its first bytes."""
    if content[:2] == b"\x1f\x8b":
        return _every_gzip_member(content)
    if content[:4] == b"\x28\xb5\x2f\xfd" or content[1:4] == b"\x2a\x4d\x18":  # a frame, or one that is skipped
        with zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True) as reader:
            return reader.read()
    return content


def arrived(config: bytes, layers: Iterable[bytes]) -> Arrived:
    """What these bytes are."""
    value = json.loads(config)
    platform = f"{value['os']}/{value['architecture']}"
    return Arrived(platform, sha256(config), tuple(sha256(unpacked(layer)) for layer in layers))


def read_images(path: Path) -> list[Arrived]:
    """Every image in an OCI layout, an OCI archive, a docker archive or a `dir:` folder, in the order of its listing.

    Fails where a blob of a layout is not what its name says, or where an index names an image that is not there,
    except for images that a client has left out on purpose because they are for other platforms.
    """
    read = _folder(path) if path.is_dir() else _archive(path)
    listing = json.loads(read.get("manifest.json", "null"))
    if isinstance(listing, list):
        return [arrived(read[entry["Config"]], (read[layer] for layer in entry["Layers"])) for entry in listing]
    if listing is not None:  # `dir:` names files by the digest alone
        blobs = {f"blobs/sha256/{name}": content for name, content in read.items()}
        return [arrived(_blob(blobs, listing["config"]["digest"]), _blobs(blobs, listing["layers"]))]
    return list(_images_of(read, json.loads(read["index.json"])))


def read_content(blobs: Path, digest: str, platform: str) -> Arrived:
    """The image for a platform below a digest, in a folder of blobs that are named by their digests.

    Other platforms' manifests may lie there without their layers.
    """
    document = json.loads(_blob_in(blobs, digest))
    wanted = platform_fields(platform)
    for entry in document.get("manifests", ()):
        if entry["platform"] == wanted:
            return read_content(blobs, entry["digest"], platform)
    layers = (_blob_in(blobs, layer["digest"]) for layer in document["layers"])
    return arrived(_blob_in(blobs, document["config"]["digest"]), layers)


def _blob_in(blobs: Path, digest: str) -> bytes:
    content = (blobs / digest.replace(":", "/")).read_bytes()
    assert sha256(content) == digest
    return content


def _images_of(read: Mapping[str, bytes], document: dict[str, Any]) -> Iterator[Arrived]:
    for entry in document["manifests"]:
        if f"blobs/{entry['digest'].replace(':', '/')}" not in read:
            continue
        child = json.loads(_blob(read, entry["digest"]))
        if "manifests" in child:
            yield from _images_of(read, child)
        else:
            yield arrived(_blob(read, child["config"]["digest"]), _blobs(read, child["layers"]))


def _blob(read: Mapping[str, bytes], digest: str) -> bytes:
    content = read[f"blobs/{digest.replace(':', '/')}"]
    assert sha256(content) == digest
    return content


def _blobs(read: Mapping[str, bytes], descriptors: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return (_blob(read, each["digest"]) for each in descriptors)


def _folder(path: Path) -> dict[str, bytes]:
    files = (each for each in path.rglob("*") if each.is_file())
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in files}


def _archive(path: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isfile() or entry.issym() or entry.islnk() else None
            if content is not None:
                found[os.path.normpath(entry.name)] = content.read()
    return found


def _every_gzip_member(content: bytes) -> bytes:
    parts = []
    while content:
        member = zlib.decompressobj(wbits=31)
        parts.append(member.decompress(content))
        content = member.unused_data
    return b"".join(parts)
