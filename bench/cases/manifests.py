"""Small answers over connections that are kept: manifests and blob heads, with a registry token in each request."""

from functools import partial
from typing import Final

from bench.cases.case import Case, Scale, Stand
from bench.cases.traffic import Repeated, authorized
from bench.content import KIB, OCI_MANIFEST, Image, Layer, image
from bench.jobs import Shot
from bench.records import Unit

CONNECTIONS: Final = 16
TAG: Final = "latest"
_IMAGE: Final = "manifests"


def small_image() -> Image:
    """An image of five small layers: its manifest has the usual size, 1.5 KiB."""
    return image("manifests", *(Layer(f"manifests-{number}", 64 * KIB) for number in range(5)))


def put_image(stand: Stand) -> None:
    """Put it under its tag."""
    whole = small_image()
    name = stand.server.name(_IMAGE)
    for blob in whole.blobs:
        stand.server.put_blob(name, blob)
    stand.server.put_manifest(name, whole.manifest, TAG)


def manifest_shots(stand: Stand, *, method: str = "GET") -> list[Shot]:
    """Ask for the manifest by its tag, as runners do."""
    manifest = small_image().manifest
    name = stand.server.name(_IMAGE)
    headers = authorized(stand, name, Accept=OCI_MANIFEST)
    digest = manifest.digest if method == "GET" else None
    return [Shot(f"/v2/{name}/manifests/{TAG}", 200, manifest.size_bytes, method, headers, digest)]


def blob_head_shots(stand: Stand) -> list[Shot]:
    """Ask whether a layer is there."""
    layer = small_image().layers[0]
    name = stand.server.name(_IMAGE)
    return [Shot(f"/v2/{name}/blobs/{layer.digest}", 200, layer.size_bytes, "HEAD", authorized(stand, name))]


def cases(scale: Scale) -> tuple[Case, ...]:
    """Manifest GET and HEAD by tag, blob HEAD, and two workers against one."""
    seconds = 2.0 if scale is Scale.FULL else 0.7
    kept = partial(
        Repeated, unit=Unit.KILO_REQUESTS, connections=CONNECTIONS, seconds=seconds, put=put_image, shots=manifest_shots
    )
    over = f"over {CONNECTIONS} kept connections"
    return (
        kept("manifest-get", f"GET of a manifest by its tag {over}"),
        kept("manifest-head", f"HEAD of a manifest by its tag {over}", shots=partial(manifest_shots, method="HEAD")),
        kept("blob-head", f"HEAD of a blob {over}", shots=blob_head_shots),
        kept(
            "manifest-get-workers",
            f"GET of a manifest by its tag {over} from two workers and from one",
            only=frozenset({"sluice", "sluice-2-workers"}),
            cores=3,
        ),
    )
