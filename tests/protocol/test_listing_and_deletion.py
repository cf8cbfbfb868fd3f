"""Protocol section 1.12: tags, catalog and deletion, row by row."""

import os
import re

import pytest

from tests.served import OCI_INDEX, OCI_MANIFEST, Served, image_index, image_manifest, sha256

LINK = re.compile(r'<(/v2/[^>;]*)>; rel="next"')


def tag(gateway: Served, name: str, *tags: str) -> bytes:
    """Push one image under all these tags."""
    gateway.push_blob(name, b"{}")
    manifest = image_manifest(b"{}")
    for each in tags:
        put = gateway.admin("PUT", f"/v2/{name}/manifests/{each}", manifest, {"Content-Type": OCI_MANIFEST})
        assert put.status == 201
    return manifest


def test_tg_01_list(gateway: Served, name: str) -> None:
    """tags/list has the name as the client wrote it and the tags, as JSON."""
    tag(gateway, name, "v1")

    reply = gateway.admin("GET", f"/v2/{name}/tags/list")

    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {"name": name, "tags": ["v1"]}


def test_tg_01_name_as_asked_through_the_catch_all(gateway: Served, name: str) -> None:
    """The short name and the full path are the same image, and each answer repeats the name that was asked."""
    tag(gateway, name, "v1")
    short = name.removeprefix("common/docker-hosted/")

    assert gateway.admin("GET", f"/v2/{short}/tags/list").json() == {"name": short, "tags": ["v1"]}


def test_tg_02_bytewise_order(gateway: Served, name: str) -> None:
    """Tags come in the order of their bytes."""
    tag(gateway, name, "a", "x", "v1", "Z", "_x", "1", "B")

    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == ["1", "B", "Z", "_x", "a", "v1", "x"]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_tg_03_10_pages(gateway: Served, name: str, size: int) -> None:
    """N bounds a page, one relative quoted Link leads on, the last page has none, and nothing is lost or repeated."""
    tags = ["0.1.2", "0.1.20", "0.1.3", "latest", "v"]
    tag(gateway, name, *tags)
    seen: list[str] = []
    path = f"/v2/{name}/tags/list?n={size}"

    while True:
        reply = gateway.admin("GET", path)
        page = reply.json()["tags"]
        assert len(page) <= size
        seen += page
        links = [value for key, value in reply.all_headers if key == "link"]
        if not links:
            break
        (found,) = [LINK.fullmatch(link) for link in links]
        assert found is not None
        path = found[1]

    assert seen == sorted(tags)


def test_tg_04_n_zero(gateway: Served, name: str) -> None:
    """n=0 is an empty list without a Link."""
    tag(gateway, name, "v1")

    reply = gateway.admin("GET", f"/v2/{name}/tags/list?n=0")

    assert (reply.status, reply.json()["tags"], "link" in reply.headers) == (200, [], False)


@pytest.mark.parametrize("n", ["-1", "abc", "", "1.5", "%31x"])
def test_tg_05_n_that_is_no_number(gateway: Served, name: str, n: str) -> None:
    """A negative n or one that is no number is 400 with a code of the specification."""
    tag(gateway, name, "v1")

    reply = gateway.admin("GET", f"/v2/{name}/tags/list?n={n}")

    assert (reply.status, reply.codes()) == (400, ["UNSUPPORTED"])


@pytest.mark.parametrize(("last", "rest"), [("a", ["b", "c"]), ("aa", ["b", "c"]), ("", ["a", "b", "c"]), ("z", [])])
def test_tg_06_last_is_exclusive(gateway: Served, name: str, last: str, rest: list[str]) -> None:
    """`last` is left out, need not exist, and works without n."""
    tag(gateway, name, "a", "b", "c")

    assert gateway.admin("GET", f"/v2/{name}/tags/list?last={last}").json()["tags"] == rest


@pytest.mark.parametrize("n", ["1000", "100000", str(1 << 63), "9" * 400])
def test_tg_07_huge_n(gateway: Served, name: str, n: str) -> None:
    """A huge n is no error and allocates nothing."""
    tag(gateway, name, "v1")

    assert gateway.admin("GET", f"/v2/{name}/tags/list?n={n}").json()["tags"] == ["v1"]


def test_tg_08_unknown_image(gateway: Served, name: str) -> None:
    """An image that nobody pushed to is 404 NAME_UNKNOWN."""
    reply = gateway.admin("GET", f"/v2/{name}/tags/list")

    assert (reply.status, reply.codes()) == (404, ["NAME_UNKNOWN"])


def test_tg_09_no_tags(gateway: Served, name: str) -> None:
    """An image without tags has `[]`, never null."""
    gateway.push_blob(name, b"x")

    assert gateway.admin("GET", f"/v2/{name}/tags/list").json() == {"name": name, "tags": []}


def test_ct_01_catalog(gateway: Served, name: str) -> None:
    """The catalog has the full names in order and pages by the same rules."""
    for part in ("b", "a", "a-b", "a/c"):
        gateway.push_blob(f"{name}/{part}", b"x")
    prefix = f"{name}/"
    wanted = sorted(f"{prefix}{part}" for part in ("b", "a", "a-b", "a/c"))

    seen: list[str] = []
    path = f"/v2/_catalog?n=2&last={prefix}"
    while len(seen) < len(wanted):
        reply = gateway.admin("GET", path)
        assert reply.status == 200
        seen += [each for each in reply.json()["repositories"] if each.startswith(prefix)]
        match = LINK.fullmatch(reply.headers.get("link", ""))
        if match is None:
            break
        path = match[1]

    assert seen == wanted


def test_ct_02_catalog_n_zero(gateway: Served) -> None:
    """n=0 is an empty list."""
    assert gateway.admin("GET", "/v2/_catalog?n=0").json() == {"repositories": []}


def test_dl_01_by_tag(gateway: Served, name: str) -> None:
    """DELETE by tag takes that tag alone; the manifest and its other tags stay."""
    manifest = tag(gateway, name, "one", "two")

    reply = gateway.admin("DELETE", f"/v2/{name}/manifests/one")

    assert (reply.status, reply.headers["content-length"]) == (202, "0")
    assert gateway.admin("GET", f"/v2/{name}/manifests/one").status == 404
    assert gateway.admin("GET", f"/v2/{name}/manifests/two").body == manifest
    assert gateway.admin("GET", f"/v2/{name}/manifests/{sha256(manifest)}").status == 200


def test_dl_02_10_by_digest(gateway: Served, name: str) -> None:
    """DELETE by digest takes the manifest and all its tags at once, also from the list; 202 has Content-Length 0."""
    manifest = tag(gateway, name, "one", "two")

    reply = gateway.admin("DELETE", f"/v2/{name}/manifests/{sha256(manifest)}")

    assert (reply.status, reply.headers["content-length"]) == (202, "0")
    for reference in ("one", "two", sha256(manifest)):
        assert gateway.admin("GET", f"/v2/{name}/manifests/{reference}").status == 404
    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == []


def test_dl_03_unknown(gateway: Served, name: str) -> None:
    """Deleting what is not there is 404."""
    for reference in ("none", sha256(b"none")):
        reply = gateway.admin("DELETE", f"/v2/{name}/manifests/{reference}")
        assert (reply.status, reply.codes()) == (404, ["MANIFEST_UNKNOWN"])


def test_dl_04_a_method_that_is_not_offered(gateway: Served, name: str) -> None:
    """What cannot be deleted is 405 UNSUPPORTED with Allow."""
    reply = gateway.admin("DELETE", f"/v2/{name}/tags/list")

    assert (reply.status, reply.codes()) == (405, ["UNSUPPORTED"])
    assert "GET" in reply.headers["allow"]


def test_dl_05_blob(gateway: Served, name: str) -> None:
    """DELETE of a blob takes it from this image only; unknown ones are 404 BLOB_UNKNOWN."""
    content = os.urandom(100)
    digest = gateway.push_blob(name, content)
    gateway.push_blob(f"{name}/other", content)

    reply = gateway.admin("DELETE", f"/v2/{name}/blobs/{digest}")

    assert (reply.status, reply.headers["content-length"]) == (202, "0")
    assert gateway.admin("GET", f"/v2/{name}/blobs/{digest}").status == 404
    assert gateway.admin("GET", f"/v2/{name}/other/blobs/{digest}").body == content
    again = gateway.admin("DELETE", f"/v2/{name}/blobs/{digest}")
    assert (again.status, again.codes()) == (404, ["BLOB_UNKNOWN"])


def test_dl_06_blob_in_use(gateway: Served, name: str) -> None:
    """A blob that a manifest still needs can be deleted; the manifest stays, and the same push mends it."""
    layer = os.urandom(100)
    digest, manifest = gateway.push_image(name, "v1", layer)

    assert gateway.admin("DELETE", f"/v2/{name}/blobs/{sha256(layer)}").status == 202
    assert gateway.admin("GET", f"/v2/{name}/manifests/{digest}").body == manifest
    gateway.push_blob(name, layer)
    assert gateway.admin("GET", f"/v2/{name}/blobs/{sha256(layer)}").body == layer


def test_dl_07_child_of_an_index(gateway: Served, name: str) -> None:
    """A child can be deleted; its index stays."""
    child, manifest = gateway.push_image(name, "child", b"layer")
    index = image_index(manifest)
    gateway.admin("PUT", f"/v2/{name}/manifests/index", index, {"Content-Type": OCI_INDEX})

    assert gateway.admin("DELETE", f"/v2/{name}/manifests/{child}").status == 202

    assert gateway.admin("GET", f"/v2/{name}/manifests/index").body == index


def test_dl_08_push_again_after_deletion(gateway: Served, name: str) -> None:
    """What was deleted can be pushed again at once, manifest and blob."""
    layer = os.urandom(100)
    digest, _ = gateway.push_image(name, "v1", layer)
    assert gateway.admin("DELETE", f"/v2/{name}/manifests/{digest}").status == 202
    assert gateway.admin("DELETE", f"/v2/{name}/blobs/{sha256(layer)}").status == 202

    again, manifest = gateway.push_image(name, "v1", layer)

    assert again == digest
    assert gateway.admin("GET", f"/v2/{name}/manifests/v1").body == manifest
