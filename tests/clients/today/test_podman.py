"""podman of today: layers as zstd and zstd:chunked, partial pulls of a changed image, and artifacts."""

import re

import pytest

from tests.clients.images import Image, arrival, make_image, make_tar, sha256
from tests.clients.podman_client import Podman
from tests.clients.registry import Registry

pytestmark = pytest.mark.clients

SEVERAL_RANGES = re.compile(r"bytes=\d+-\d+(,\d+-\d+)+")


def with_many_files(marker: bytes) -> Image:
    """An image with one layer of many files, of which one is the marker and the others are always the same."""
    files = {f"data/{number:03}": bytes([number]) * 3 + make_noise(number) for number in range(60)}
    return Image("linux/amd64", (make_tar({**files, "data/030": marker}, links=False),))


def make_noise(number: int) -> bytes:
    """20 KiB that do not compress and are the same in every run."""
    noise, state = bytearray(), number + 1
    while len(noise) < 20_480:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        noise += (state >> 24).to_bytes(5, "big")
    return bytes(noise)


@pytest.mark.parametrize("compression", ["zstd", "zstd:chunked"])
def test_zstd(podman: Podman, registry: Registry, compression: str) -> None:
    """Layers pushed as zstd arrive, and come back as they were."""
    image = make_image()
    name = registry.new_name()
    reference = registry.reference(name, "1.0")
    podman.load(image, reference)

    podman.run(
        *("push", "--tls-verify=false", "--format", "oci", "--compression-format", compression),
        reference,
        f"docker://{reference}",
    )

    stored = registry.stored(name, "1.0")
    assert {layer["mediaType"] for layer in stored.manifest["layers"]} == {
        "application/vnd.oci.image.layer.v1.tar+zstd"
    }
    assert stored.images[0].diff_ids == arrival(image).diff_ids
    assert podman.pull(reference).diff_ids == arrival(image).diff_ids


def test_partial_pull(podman: Podman, registry: Registry) -> None:
    """Of a changed image podman fetches only what it lacks, by several ranges in one request."""
    name = registry.new_name()
    for tag, marker in (("1.0", b"before\n"), ("2.0", b"after\n")):
        reference = registry.reference(name, tag)
        podman.load(with_many_files(marker), reference)
        podman.run(
            *("push", "--tls-verify=false", "--format", "oci", "--compression-format", "zstd:chunked"),
            reference,
            f"docker://{reference}",
        )
    podman.forget_images()
    podman.run("pull", "--quiet", "--tls-verify=false", registry.reference(name, "1.0"))

    with registry.watch() as seen:
        podman.run("pull", "--quiet", "--tls-verify=false", registry.reference(name, "2.0"))

    (layer,) = registry.stored(name, "2.0").manifest["layers"]
    fetched = [each for each in seen if each.path.endswith(layer["digest"])]
    assert fetched
    assert {each.status for each in fetched} == {206}
    assert sum(each.answer_bytes for each in fetched) < layer["size"] / 4
    several = [each for each in fetched if SEVERAL_RANGES.fullmatch(each.header("range"))]
    assert several
    for each in several:
        assert each.answer_header("content-type").startswith("multipart/byteranges; boundary=")
    assert podman.held(registry.reference(name, "2.0")).diff_ids == arrival(with_many_files(b"after\n")).diff_ids


def test_artifact(podman: Podman, registry: Registry) -> None:
    """A file that is no image is pushed as an artifact and comes back byte for byte."""
    folder = podman.new_folder()
    content = make_noise(7)
    (folder / "file.bin").write_bytes(content)
    (folder / "pulled").mkdir()
    name = registry.new_name()
    reference = registry.reference(name, "1.0")

    podman.run("artifact", "add", reference, folder / "file.bin")
    podman.run("artifact", "push", "--tls-verify=false", reference)
    podman.run("artifact", "rm", reference)
    podman.run("artifact", "pull", "--tls-verify=false", reference)

    assert registry.stored(name, "1.0").images[0].diff_ids == (sha256(content),)
    if "extract" in podman.run("artifact", "--help").output:  # from 5.5
        podman.run("artifact", "extract", reference, folder / "pulled")
        assert (folder / "pulled" / "file.bin").read_bytes() == content
