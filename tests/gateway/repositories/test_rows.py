"""What a manifest needs, as rows: each thing once, in its role, with the blob that is there if it is that very one."""

import json

from gateway.oci.manifest import parse
from gateway.repositories.rows import blobs_of, digests, references
from storage import Digest, ReferenceRecord
from tests.served import OCI_CONFIG, OCI_INDEX, OCI_LAYER, descriptor, image_index, image_manifest

CONFIG, LAYER, OTHER = b"{}", b"a layer", b"another"


def test_each_thing_is_needed_once_in_each_role() -> None:
    """A layer that is named twice is one row; a config that is a layer, too, is two; order is the manifest's."""
    manifest = parse(image_manifest(CONFIG, LAYER, OTHER, LAYER, CONFIG), None)
    held = {Digest.of(LAYER): (7, len(LAYER))}

    assert references(manifest, held) == [
        ReferenceRecord("config", Digest.of(CONFIG), 2, None),
        ReferenceRecord("layer", Digest.of(LAYER), len(LAYER), 7),
        ReferenceRecord("layer", Digest.of(OTHER), len(OTHER), None),
        ReferenceRecord("layer", Digest.of(CONFIG), 2, None),
    ]
    assert digests(blobs_of(manifest)) == [Digest.of(CONFIG), Digest.of(LAYER), Digest.of(OTHER)]


def test_children_have_no_blobs() -> None:
    """An index needs manifests, whatever blobs have their digests."""
    child = image_manifest(CONFIG)
    index = parse(image_index(child), OCI_INDEX)

    assert references(index, {Digest.of(child): (7, len(child))}) == [
        ReferenceRecord("child", Digest.of(child), len(child), None)
    ]
    assert blobs_of(index) == []


def test_a_blob_of_another_size_is_not_what_is_meant() -> None:
    """A manifest of an upstream may say anything; only what has its size and digest is held for it."""
    wrong = {**descriptor(LAYER, OCI_LAYER), "size": 1}
    content = json.dumps({**json.loads(image_manifest(CONFIG)), "layers": [wrong]}).encode()

    found = references(parse(content, None), {Digest.of(LAYER): (7, len(LAYER))})

    assert found[1] == ReferenceRecord("layer", Digest.of(LAYER), 1, None)
    assert descriptor(CONFIG, OCI_CONFIG)["size"] == found[0].size_bytes
