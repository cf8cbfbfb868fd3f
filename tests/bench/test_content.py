"""Synthetic content: the same on every run, incompressible, and described truly by manifests."""

import hashlib
import json
import zlib

import pytest

from bench.content import KIB, MIB, OCI_MANIFEST, Document, Layer, image, index


@pytest.mark.parametrize("size_bytes", [0, 1, 15, 16, 17, MIB - 1, MIB, MIB + 1, 3 * MIB + 5])
def test_a_layer_has_its_size_and_its_digest(size_bytes: int) -> None:
    """The chunks of a layer add up to its size, and its digest is that of its bytes."""
    layer = Layer("a", size_bytes)
    content = b"".join(bytes(chunk) for chunk in layer.chunks())
    assert len(content) == size_bytes
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_chunk_size_changes_nothing() -> None:
    """A layer has the same bytes in chunks of any size."""
    layer = Layer("a", 100_000)
    whole = b"".join(bytes(chunk) for chunk in layer.chunks())
    assert b"".join(bytes(chunk) for chunk in layer.chunks(999)) == whole
    assert Layer("a", 100_000).digest == layer.digest


def test_seeds_make_different_bytes() -> None:
    """Two seeds share no beginning, so that nothing is deduplicated by accident."""
    first, second = (bytes(next(Layer(seed, 64).chunks())) for seed in ("a", "b"))
    assert first != second


def test_layers_do_not_compress() -> None:
    """A compressor gains nothing, also over repeated stretches."""
    content = b"".join(bytes(chunk) for chunk in Layer("a", 2 * MIB).chunks())
    assert len(zlib.compress(content, 1)) > len(content)
    assert content[:MIB] != content[MIB:]


def test_a_manifest_describes_its_blobs() -> None:
    """Digests and sizes in a manifest are those of its configuration and layers."""
    made = image("x", Layer("a", KIB), Layer("b", 2 * KIB))
    value = json.loads(made.manifest.body)
    assert [each["digest"] for each in value["layers"]] == [layer.digest for layer in made.layers]
    assert [each["size"] for each in value["layers"]] == [KIB, 2 * KIB]
    assert value["config"]["digest"] == made.config.digest
    assert made.blobs == (made.config, *made.layers)


def test_images_of_the_same_layers_differ_by_seed() -> None:
    """Shared layers do not make two images one."""
    layer = Layer("a", KIB)
    assert image("x", layer).manifest.digest != image("y", layer).manifest.digest


def test_an_index_lists_platforms() -> None:
    """A multi-arch index names each manifest with an architecture of its own."""
    images = [image(architecture, Layer(architecture, KIB)) for architecture in ("amd64", "arm64")]
    value = json.loads(index(*images).body)
    assert [each["digest"] for each in value["manifests"]] == [each.manifest.digest for each in images]
    assert [each["platform"]["architecture"] for each in value["manifests"]] == ["amd64", "arm64"]


def test_documents_come_in_chunks_too() -> None:
    """A small body is handed out as a layer's is."""
    document = Document(OCI_MANIFEST, b"abcdef")
    assert [bytes(chunk) for chunk in document.chunks(4)] == [b"abcd", b"ef"]
    assert document.size_bytes == 6
