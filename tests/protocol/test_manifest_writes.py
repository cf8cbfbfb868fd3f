"""Protocol section 1.10: PUT of manifests, row by row."""

import hashlib
import json
import os
from typing import Any

import pytest

from tests.served import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Reply,
    Served,
    descriptor,
    image_index,
    image_manifest,
    sha256,
)

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = b"{}"


def put(gateway: Served, name: str, reference: str, content: bytes, media_type: str | None = OCI_MANIFEST) -> Reply:
    """PUT a manifest."""
    headers = {"Content-Type": media_type} if media_type else {}
    return gateway.admin("PUT", f"/v2/{name}/manifests/{reference}", content, headers)


@pytest.fixture
def image(gateway: Served, name: str) -> bytes:
    """A manifest whose config is pushed, so that it could be PUT."""
    gateway.push_blob(name, CONFIG)
    return image_manifest(CONFIG)


def variant(**changes: Any) -> bytes:
    """The manifest with fields replaced, or (None) left out."""
    value = json.loads(image_manifest(CONFIG)) | changes
    return json.dumps({key: entry for key, entry in value.items() if entry is not None}).encode()


def test_mp_01_02_created(gateway: Served, name: str, image: bytes) -> None:
    """201 with a Location that can be pulled and the digest; the bytes are kept verbatim."""
    odd = image.replace(b"{", b"{ \n\t", 1).replace(b'"schemaVersion"', b'"x-unknown": [1.5e3, null],"schemaVersion"')

    reply = put(gateway, name, "odd", odd)

    assert (reply.status, reply.headers["docker-content-digest"]) == (201, sha256(odd))
    assert gateway.admin("GET", reply.headers["location"]).body == odd


def test_mp_03_digest_mismatch(gateway: Served, name: str, image: bytes) -> None:
    """By digest, one trailing space more is another manifest: 400 DIGEST_INVALID."""
    reply = put(gateway, name, sha256(image), image + b" ")

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])
    assert gateway.admin("GET", f"/v2/{name}/manifests/{sha256(image)}").status == 404


def test_mp_04_four_types(gateway: Served, name: str, image: bytes) -> None:
    """OCI manifest and index, Docker manifest and list are taken; other types are 400 MANIFEST_INVALID."""
    docker = variant(mediaType=DOCKER_MANIFEST)
    assert put(gateway, name, "oci", image).status == 201
    assert put(gateway, name, "docker", docker, DOCKER_MANIFEST).status == 201
    assert put(gateway, name, "index", image_index(image), OCI_INDEX).status == 201
    listed = json.dumps(
        {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(docker, DOCKER_MANIFEST)]}
    ).encode()
    assert put(gateway, name, "list", listed, DOCKER_LIST).status == 201

    other = put(gateway, name, "other", variant(mediaType=None), "application/vnd.example+json")

    assert (other.status, other.codes()) == (400, ["MANIFEST_INVALID"])


def test_mp_05_type_parameters_and_missing_type(gateway: Served, name: str, image: bytes) -> None:
    """Parameters of Content-Type do not count; without one the body's mediaType is taken."""
    assert put(gateway, name, "a", image, f"{OCI_MANIFEST}; charset=utf-8").status == 201
    assert put(gateway, name, "b", image, None).status == 201

    assert gateway.admin("HEAD", f"/v2/{name}/manifests/b").headers["content-type"] == OCI_MANIFEST


def test_mp_06_type_and_media_type_must_agree(gateway: Served, name: str, image: bytes) -> None:
    """A Content-Type that contradicts mediaType is 400 MANIFEST_INVALID."""
    reply = put(gateway, name, "x", image, DOCKER_MANIFEST)

    assert (reply.status, reply.codes()) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'"text"',
        b"[" * 100_000,
        b'{"schemaVersion":2,"schemaVersion":2}',
        b'{"schemaVersion":2,"config":NaN}',
        b'\xff\xfe{\x00"\x00',
        b"\xef\xbb\xbf{}",
        b'{"schemaVersion":2,"x":"\\ud800"}',
        b'{"schemaVersion":' + b"9" * 5000 + b"}",
    ],
)
def test_mp_07_what_is_no_json_object(gateway: Served, name: str, content: bytes) -> None:
    """Invalid, empty, deep, duplicate, not UTF-8: 400 MANIFEST_INVALID, never 500."""
    reply = put(gateway, name, "x", content)

    assert (reply.status, reply.codes()) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("changes", [{"schemaVersion": 1}, {"schemaVersion": None}, {"manifests": []}])
def test_mp_08_version_and_confusion(gateway: Served, name: str, image: bytes, changes: dict[str, Any]) -> None:
    """SchemaVersion other than 2, and layers beside manifests, are 400."""
    assert image

    assert put(gateway, name, "x", variant(**changes)).status == 400


def test_mp_09_missing_content_is_named(gateway: Served, name: str, image: bytes) -> None:
    """A missing config, layer or child is 400 MANIFEST_BLOB_UNKNOWN, one entry with the digest for each."""
    missing = image_manifest(b"no config", b"no layer", b"none either")
    reply = put(gateway, name, "x", missing)
    assert (reply.status, set(reply.codes())) == (400, {"MANIFEST_BLOB_UNKNOWN"})
    named = json.dumps(reply.json())
    assert all(sha256(part) in named for part in (b"no config", b"no layer", b"none either"))
    assert len(reply.json()["errors"]) == 3

    index = put(gateway, name, "y", image_index(image), OCI_INDEX)

    assert (index.status, index.codes()) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_mp_10_missing_subject_is_fine(gateway: Served, name: str, image: bytes) -> None:
    """The subject need not exist."""
    assert image
    subject = descriptor(b"nothing", OCI_MANIFEST)

    assert put(gateway, name, "x", variant(subject=subject)).status == 201


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_mp_11_foreign_layers_need_not_exist(gateway: Served, name: str, image: bytes, media_type: str) -> None:
    """A non-distributable layer that was never pushed is accepted."""
    assert image
    layer = {**descriptor(b"elsewhere", media_type), "urls": ["https://example.com/layer"]}

    assert put(gateway, name, "x", variant(layers=[layer])).status == 201


def test_mp_12_empty_and_nested(gateway: Served, name: str, image: bytes) -> None:
    """No layers, no manifests, an index in an index, an index with artifactType, and data fields are all fine."""
    assert put(gateway, name, "a", image).status == 201
    inner = image_index(image)
    assert put(gateway, name, "b", inner, OCI_INDEX).status == 201
    outer = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "artifactType": "application/vnd.example",
            "manifests": [{**descriptor(inner, OCI_INDEX), "data": "e30="}],
        }
    ).encode()
    assert put(gateway, name, "c", outer, OCI_INDEX).status == 201
    assert put(gateway, name, "d", image_index(), OCI_INDEX).status == 201

    assert gateway.admin("GET", f"/v2/{name}/manifests/c").body == outer


def test_mp_13_unknown_types_are_not_our_business(gateway: Served, name: str, image: bytes) -> None:
    """Config, layers and artifactType of unknown types are taken, and a config that is no JSON is never parsed."""
    assert image
    config = b"\x00not json"
    gateway.push_blob(name, config)
    manifest = variant(
        config=descriptor(config, "application/vnd.cncf.helm.config.v1+json"),
        layers=[descriptor(CONFIG, "application/wasm")],
        artifactType="application/vnd.example.thing",
    )

    assert put(gateway, name, "x", manifest).status == 201


def test_mp_14_up_to_four_mebibytes(gateway: Served, name: str, image: bytes) -> None:
    """3.95 MB is accepted; one byte more than 4 MiB is 413, announced or not."""
    assert image
    filler = "x" * 3_950_000
    big = variant(annotations={"filler": filler})
    assert put(gateway, name, "big", big).status == 201
    assert gateway.admin("GET", f"/v2/{name}/manifests/big").body == big
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/big").headers["content-length"] == str(len(big))
    tail = b" " * (4 * 2**20 + 1 - len(variant()))

    announced = put(gateway, name, "over", variant() + tail)
    headers = {"Content-Type": OCI_MANIFEST}
    chunked = gateway.admin("PUT", f"/v2/{name}/manifests/over", iter([variant(), tail]), headers, chunked=True)

    assert [(reply.status, reply.codes()) for reply in (announced, chunked)] == [(413, ["MANIFEST_INVALID"])] * 2


@pytest.mark.parametrize("size", [-1, 1 << 60, 3, 2.0, "2", True, None])
def test_mp_15_sizes_of_descriptors(gateway: Served, name: str, image: bytes, size: object) -> None:
    """A size that is negative, huge, no integer, or not the blob's is 400."""
    assert image
    config = {**descriptor(CONFIG, OCI_CONFIG), "size": size}

    reply = put(gateway, name, "x", variant(config=config))

    assert reply.status == 400
    assert set(reply.codes()) <= {"MANIFEST_INVALID", "SIZE_INVALID"}


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.oci.artifact.manifest.v1+json",
    ],
)
def test_mp_16_17_former_types(gateway: Served, name: str, image: bytes, media_type: str) -> None:
    """Schema 1 and the withdrawn artifact manifest are 400 MANIFEST_INVALID."""
    assert image

    reply = put(gateway, name, "x", variant(mediaType=media_type), media_type)

    assert (reply.status, reply.codes()) == (400, ["MANIFEST_INVALID"])


def test_mp_18_19_moving_a_tag(gateway: Served, name: str) -> None:
    """PUT moves a tag and the old digest stays; PUT of the same again is 201."""
    old, old_bytes = gateway.push_image(name, "t", b"old")
    new, _ = gateway.push_image(name, "t", b"new")

    assert gateway.admin("HEAD", f"/v2/{name}/manifests/t").headers["docker-content-digest"] == new
    assert gateway.admin("GET", f"/v2/{name}/manifests/{old}").body == old_bytes
    assert put(gateway, name, "t", old_bytes).status == 201
    assert put(gateway, name, "t", old_bytes).status == 201


def test_mp_20_sha512_is_kept(gateway: Served, name: str, image: bytes) -> None:
    """A manifest pushed by sha512 keeps that digest, also through a tag."""
    digest = f"sha512:{hashlib.sha512(image).hexdigest()}"
    reply = gateway.admin("PUT", f"/v2/{name}/manifests/{digest}?tag=strong", image, {"Content-Type": OCI_MANIFEST})
    assert (reply.status, reply.headers["docker-content-digest"]) == (201, digest)

    assert gateway.admin("HEAD", f"/v2/{name}/manifests/strong").headers["docker-content-digest"] == digest


def test_mp_21_several_tags_at_once(gateway: Served, name: str, image: bytes) -> None:
    """PUT by digest with twelve tag= makes all of them and lists each in OCI-Tag; far too many are 414."""
    names = [f"t{number}" for number in range(12)]
    path = f"/v2/{name}/manifests/{sha256(image)}"

    reply = gateway.admin(
        "PUT", f"{path}?{'&'.join(f'tag={tag}' for tag in names)}", image, {"Content-Type": OCI_MANIFEST}
    )

    assert reply.status == 201
    assert [value for key, value in reply.all_headers if key == "oci-tag"] == names
    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == sorted(names)
    flood = gateway.admin("PUT", f"{path}?{'&'.join(f'tag=x{n}' for n in range(101))}", image)
    assert flood.status == 414


def test_mp_21_a_bad_tag_refuses_all(gateway: Served, name: str, image: bytes) -> None:
    """One malformed tag= is 400 and nothing is stored."""
    path = f"/v2/{name}/manifests/{sha256(image)}"

    reply = gateway.admin("PUT", f"{path}?tag=good&tag=.bad", image, {"Content-Type": OCI_MANIFEST})

    assert reply.status == 400
    assert gateway.admin("GET", path).status == 404


def test_mp_23_the_image_is_made_by_its_first_push(gateway: Served, name: str) -> None:
    """An image that nobody announced exists after its first push."""
    assert gateway.admin("GET", f"/v2/{name}/tags/list").status == 404

    gateway.push_image(name, "v1", b"layer")

    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == ["v1"]


def test_mp_24_conditional_put(gateway: Served, name: str, image: bytes) -> None:
    """If-None-Match: * makes a tag only if it is new, If-Match moves it only from what the client saw; else 412."""
    path, kind = f"/v2/{name}/manifests/t", {"Content-Type": OCI_MANIFEST}
    other = variant(annotations={"a": "b"})

    assert gateway.admin("PUT", path, image, {**kind, "If-None-Match": "*"}).status == 201
    assert gateway.admin("PUT", path, other, {**kind, "If-None-Match": "*"}).status == 412
    assert gateway.admin("PUT", path, other, {**kind, "If-Match": f'"{sha256(b"stale")}"'}).status == 412
    assert gateway.admin("PUT", path, other, {**kind, "If-Match": f'"{sha256(image)}"'}).status == 201


def test_mp_25_children_must_be_in_the_same_image(gateway: Served, name: str) -> None:
    """An index over a manifest that only another image has is 400."""
    _, manifest = gateway.push_image(f"{name}/one", "t", os.urandom(10))

    reply = put(gateway, f"{name}/two", "t", image_index(manifest), OCI_INDEX)

    assert (reply.status, reply.codes()) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_mp_09_layer_of_another_image_is_missing_here(gateway: Served, name: str) -> None:
    """A layer that only another image has does not count (rows ACC-04, ACC-08)."""
    layer = os.urandom(100)
    gateway.push_image(f"{name}/one", "t", layer)
    gateway.push_blob(f"{name}/two", CONFIG)
    manifest = json.loads(image_manifest(CONFIG)) | {"layers": [descriptor(layer, OCI_LAYER)]}

    reply = put(gateway, f"{name}/two", "t", json.dumps(manifest).encode())

    assert (reply.status, reply.codes()) == (400, ["MANIFEST_BLOB_UNKNOWN"])
