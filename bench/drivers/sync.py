"""Runs a real `skopeo sync` of many small images from a directory into a registry, once.

The directory is made before the measurement (containers/image, "dir" transport: manifest.json, version, and blobs by
the hexadecimal part of their digest). As root, skopeo keeps its list of known blobs below /var/lib/containers,
whatever it is told; it knows registries there by host and port.
"""

import json
import resource
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

from bench.content import Blob, Image, Layer, image
from bench.drivers.relay import relay
from bench.load import Load

_VERSION: Final = "Directory Transport Version: 1.1\n"
_SHARED_LAYERS: Final = 3


async def drive(
    load: Load,
    program: str,
    *,
    images: int,
    tags: int,
    layer_bytes: int,
    prefix: str,
    authorization: str | None,
    port: int = 0,
) -> None:
    """Sync `images` images of `tags` tags each below `prefix`, with this Authorization header (Basic or Bearer).

    Tags of an image share three of their four layers. One request is counted per tag, and the bytes of each blob once
    per image. `sent_requests` and `sent_bytes` are what skopeo really sent, heads included, counted between the two at
    `port`: skopeo remembers what it knows of a registry by its address. `skopeo_cpu_s` is what it took on the load's
    side. A status other than 0 is one error.
    """
    with tempfile.TemporaryDirectory(prefix="sluice-bench-sync-") as directory:
        source = Path(directory) / "source"
        moved_bytes = sum(_write(source, number, tags, layer_bytes) for number in range(images))
        command = [program, "--insecure-policy", "sync", "--src", "dir", "--dest", "docker", "--dest-tls-verify=false"]
        async with relay(load.endpoint, port=port) as between:
            command += _login(Path(directory), between.address, authorization)
            command += [str(source), f"{between.address}/{prefix}"]
            await load.ready()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = await trio.run_process(command, check=False, capture_stdout=True, stderr=subprocess.STDOUT)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        load.extra["sent_requests"] = between.requests
        load.extra["sent_bytes"] = between.sent_bytes
        load.extra["skopeo_cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if done.returncode == 0:
            load.answered(images * tags, moved_bytes)
        else:
            load.failed(f"skopeo ended with status {done.returncode}: {done.stdout[-500:].decode(errors='replace')}")


def image_name(number: int) -> str:
    """How an image is called."""
    return f"sync-{number}"


def _write(source: Path, number: int, tags: int, layer_bytes: int) -> int:
    """Write all tags of an image; how many bytes its blobs have."""
    shared = [Layer(f"sync-{number}-{place}", layer_bytes) for place in range(_SHARED_LAYERS)]
    written: dict[str, Path] = {}
    sizes: dict[str, int] = {}
    for tag in range(tags):
        own = Layer(f"sync-{number}-tag-{tag}", layer_bytes)
        made = image(f"sync-{number}-{tag}", *shared, own)
        _write_tag(source / f"{image_name(number)}:v{tag}", made, written)
        sizes |= {blob.digest: blob.size_bytes for blob in made.blobs}
    return sum(sizes.values())


def _write_tag(directory: Path, made: Image, written: dict[str, Path]) -> None:
    directory.mkdir(parents=True)
    (directory / "version").write_text(_VERSION)
    (directory / "manifest.json").write_bytes(made.manifest.body)
    for blob in made.blobs:
        path = directory / blob.digest.removeprefix("sha256:")
        if blob.digest in written:
            path.hardlink_to(written[blob.digest])
        else:
            _write_blob(path, blob)
            written[blob.digest] = path


def _write_blob(path: Path, blob: Blob) -> None:
    with path.open("wb") as file:
        for chunk in blob.chunks():
            file.write(chunk)


def _login(directory: Path, address: str, authorization: str | None) -> Sequence[str]:
    """The options that let skopeo in."""
    if authorization is None:
        return ["--dest-no-creds"]
    kind, _, value = authorization.partition(" ")
    if kind == "Bearer":
        return ["--dest-registry-token", value]
    path = directory / "auth.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {address: {"auth": value}}}))
    return ["--dest-authfile", str(path)]
