"""Protocol section 1.6: GET and HEAD of manifests, row by row."""

import hashlib
import json
import os

import pytest

from tests.served import OCI_INDEX, OCI_MANIFEST, Served, image_index, image_manifest, sha256


@pytest.fixture
def image(gateway: Served, name: str) -> tuple[str, bytes]:
    """A pushed image: its manifest's digest and bytes, tagged v1."""
    return gateway.push_image(name, "v1", os.urandom(2000))


def test_mg_01_exact_bytes_and_type(gateway: Served, name: str) -> None:
    """The bytes come back exactly as pushed, with the type they were pushed with and no parameters."""
    config = b"{}"
    gateway.push_blob(name, config)
    manifest = json.dumps(json.loads(image_manifest(config)), indent=7).encode() + b"\n \n"
    put = gateway.admin(
        "PUT", f"/v2/{name}/manifests/odd", manifest, {"Content-Type": f"{OCI_MANIFEST}; charset=utf-8"}
    )
    assert put.status == 201

    reply = gateway.admin("GET", f"/v2/{name}/manifests/odd")

    assert (reply.status, reply.body) == (200, manifest)
    assert reply.headers["content-type"] == OCI_MANIFEST


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_mg_02_04_05_digest_length_and_type(gateway: Served, name: str, image: tuple[str, bytes], method: str) -> None:
    """GET and HEAD, by tag and by digest, carry Docker-Content-Digest, Content-Type and the exact Content-Length."""
    digest, manifest = image

    for reference in ("v1", digest):
        reply = gateway.admin(method, f"/v2/{name}/manifests/{reference}")

        assert reply.status == 200
        assert reply.headers["docker-content-digest"] == digest
        assert reply.headers["content-type"] == OCI_MANIFEST
        assert reply.headers["content-length"] == str(len(manifest))
        assert reply.body == (manifest if method == "GET" else b"")


def test_mg_03_digest_has_the_algorithm_of_the_request(gateway: Served, name: str) -> None:
    """A manifest pushed and asked for by sha512 is answered with its sha512 digest."""
    gateway.push_blob(name, b"{}")
    manifest = image_manifest(b"{}")
    digest = f"sha512:{hashlib.sha512(manifest).hexdigest()}"
    put = gateway.admin("PUT", f"/v2/{name}/manifests/{digest}", manifest, {"Content-Type": OCI_MANIFEST})
    assert put.status == 201

    reply = gateway.admin("HEAD", f"/v2/{name}/manifests/{digest}")

    assert (reply.status, reply.headers["docker-content-digest"]) == (200, digest)


@pytest.mark.parametrize("reference", ["nothing", sha256(b"nothing")])
def test_mg_06_unknown_manifest(gateway: Served, name: str, image: tuple[str, bytes], reference: str) -> None:
    """An unknown tag or digest is 404 MANIFEST_UNKNOWN, and so is everything in an unknown image."""
    assert image

    for where in (name, f"{name}/other"):
        reply = gateway.admin("GET", f"/v2/{where}/manifests/{reference}")
        assert (reply.status, reply.codes()) == (404, ["MANIFEST_UNKNOWN"])


@pytest.mark.parametrize("accept", [None, "*/*", "application/*"])
def test_mg_07_without_accept(gateway: Served, name: str, image: tuple[str, bytes], accept: str | None) -> None:
    """Without Accept, or with a wildcard, the stored type is served."""
    reply = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers={"Accept": accept} if accept else {})

    assert (reply.status, reply.body) == (200, image[1])


def test_mg_08_accept_of_other_types_only(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """A tag whose type Accept does not list is 404 with the reason; by digest it is served all the same."""
    headers = {"Accept": OCI_INDEX}

    by_tag = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers=headers)
    by_digest = gateway.admin("GET", f"/v2/{name}/manifests/{image[0]}", headers=headers)

    assert (by_tag.status, by_tag.codes()) == (404, ["MANIFEST_UNKNOWN"])
    assert "Accept" in by_tag.json()["errors"][0]["message"]
    assert (by_digest.status, by_digest.body) == (200, image[1])


def test_mg_09_a_list_is_never_turned_into_one_platform(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """A client that does not take lists gets no child in the place of one: the tag keeps one meaning for everybody."""
    child, manifest = image
    index = image_index(manifest)
    put = gateway.admin("PUT", f"/v2/{name}/manifests/multi", index, {"Content-Type": OCI_INDEX})
    assert put.status == 201
    only_images = {"Accept": OCI_MANIFEST}

    by_tag = gateway.admin("GET", f"/v2/{name}/manifests/multi", headers=only_images)
    by_digest = gateway.admin("GET", f"/v2/{name}/manifests/{sha256(index)}", headers=only_images)

    assert (by_tag.status, by_digest.body) == (404, index)
    assert child.encode() not in by_tag.body


@pytest.mark.parametrize("form", ['"{}"', "{}", 'W/"{}"', '"sha256:0", "{}"', "*"])
def test_mg_10_if_none_match(gateway: Served, name: str, image: tuple[str, bytes], form: str) -> None:
    """The ETag is the quoted digest, and a client that has it gets 304 without a body, however it is written."""
    digest, _ = image
    assert gateway.admin("GET", f"/v2/{name}/manifests/v1").headers["etag"] == f'"{digest}"'

    reply = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers={"If-None-Match": form.replace("{}", digest)})

    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["docker-content-digest"] == digest


def test_mg_10_another_etag_gets_the_manifest(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """An ETag of something else does not match."""
    reply = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers={"If-None-Match": f'"{sha256(b"other")}"'})

    assert (reply.status, reply.body) == (200, image[1])


@pytest.mark.parametrize("span", ["bytes=0-", "bytes=5-9", "bytes=999999-"])
def test_mg_11_range_is_ignored(gateway: Served, name: str, image: tuple[str, bytes], span: str) -> None:
    """Manifests are served whole whatever Range says."""
    reply = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers={"Range": span})

    assert (reply.status, reply.body) == (200, image[1])


def test_mg_12_a_tag_reads_what_was_written(gateway: Served, name: str) -> None:
    """A tag is readable right after its 201, moves at once, and is gone right after its deletion."""
    first, _ = gateway.push_image(name, "moving", b"one")
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/moving").headers["docker-content-digest"] == first

    second, _ = gateway.push_image(name, "moving", b"two")
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/moving").headers["docker-content-digest"] == second

    assert gateway.admin("DELETE", f"/v2/{name}/manifests/moving").status == 202
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/moving").status == 404


def test_mg_13_a_manifest_is_no_blob(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """A manifest's digest asked for as a blob is 404."""
    assert gateway.admin("GET", f"/v2/{name}/blobs/{image[0]}").status == 404


def test_mg_14_cache_control(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """By digest an answer may be kept for ever, by tag it must be asked for again."""
    by_digest = gateway.admin("GET", f"/v2/{name}/manifests/{image[0]}").headers["cache-control"]
    by_tag = gateway.admin("GET", f"/v2/{name}/manifests/v1").headers["cache-control"]

    assert "immutable" in by_digest
    assert by_tag == "no-cache"
