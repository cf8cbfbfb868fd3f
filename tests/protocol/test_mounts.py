"""Protocol section 1.9: mounting blobs from one image into another, row by row."""

import os
from urllib.parse import quote

import pytest

from tests.people import make_member, make_place
from tests.served import Reply, Served, sha256


def mount(gateway: Served, target: str, query: str) -> Reply:
    """POST with mount parameters."""
    return gateway.admin("POST", f"/v2/{target}/blobs/uploads/?{query}", b"")


@pytest.fixture
def content(gateway: Served, name: str) -> bytes:
    """A blob pushed to NAME/source."""
    value = os.urandom(1000)
    gateway.push_blob(f"{name}/source", value)
    return value


def test_mt_01_mount(gateway: Served, name: str, content: bytes) -> None:
    """201 with the blob's URL in the target and its digest, and one stored copy."""
    digest = sha256(content)

    reply = mount(gateway, f"{name}/target", f"mount={digest}&from={name}/source")

    assert (reply.status, reply.headers["docker-content-digest"]) == (201, digest)
    assert reply.headers["location"] == f"/v2/{name}/target/blobs/{digest}"
    assert gateway.admin("GET", reply.headers["location"]).body == content
    stored = [path for path in gateway.data.rglob(f"*{digest.removeprefix('sha256:')}*") if path.is_file()]
    assert len(stored) == 1


@pytest.mark.parametrize("case", ["absent blob", "unknown source", "not there", "bad name"])
def test_mt_02_fallback_to_an_upload(gateway: Served, name: str, content: bytes, case: str) -> None:
    """A blob that is not to be had there is 202 with a usable session, never 404."""
    digest = sha256(b"absent") if case == "absent blob" else sha256(content)
    source = {"unknown source": f"{name}/nowhere", "not there": name, "bad name": "../.."}.get(case, f"{name}/source")

    reply = mount(gateway, f"{name}/target", f"mount={digest}&from={quote(source)}")

    assert (reply.status, reply.headers["range"]) == (202, "0-0")
    finished = gateway.admin("PUT", f"{reply.headers['location']}?digest={sha256(b'own')}", b"own")
    assert finished.status == 201


def test_mt_04_without_from(gateway: Served, name: str, content: bytes) -> None:
    """Without from it is mounted from where the client may pull it; what it may not pull looks like what is unknown."""
    mounted = mount(gateway, f"{name}/target", f"mount={sha256(content)}")
    place = make_place(gateway)
    writer = make_member(gateway, "writer", place)

    known, unknown = (
        gateway.request("POST", f"/v2/{place.name}/app/blobs/uploads/?mount={sha256(each)}", auth=writer)
        for each in (content, b"no")
    )

    assert (mounted.status, mounted.headers["docker-content-digest"]) == (201, sha256(content))
    assert gateway.admin("GET", f"/v2/{name}/target/blobs/{sha256(content)}").body == content
    assert (known.status, unknown.status) == (202, 202)
    assert set(known.headers) == set(unknown.headers)


@pytest.mark.parametrize("digest", ["", "sha256:zz", "x", "sha256"])
def test_mt_05_malformed_digest(gateway: Served, name: str, digest: str) -> None:
    """A malformed digest is 400 or 202, never 500."""
    assert mount(gateway, f"{name}/target", f"mount={digest}&from={name}/source").status in {400, 202}


@pytest.mark.parametrize("form", ["from={f}&mount={m}", "mount={m}&from={e}", "origin=example.com&mount={m}&from={f}"])
def test_mt_06_order_and_encoding(gateway: Served, name: str, content: bytes, form: str) -> None:
    """Parameters come in any order, from raw or percent-encoded, with others beside them."""
    source = f"{name}/source"
    query = form.format(m=quote(sha256(content), safe=""), f=source, e=quote(source, safe=""))

    assert mount(gateway, f"{name}/target", query).status == 201


def test_mt_07_deleting_in_the_target(gateway: Served, name: str, content: bytes) -> None:
    """A mounted blob is deleted in the target without touching the source, and the reverse."""
    digest = sha256(content)
    assert mount(gateway, f"{name}/target", f"mount={digest}&from={name}/source").status == 201

    assert gateway.admin("DELETE", f"/v2/{name}/target/blobs/{digest}").status == 202

    assert gateway.admin("GET", f"/v2/{name}/target/blobs/{digest}").status == 404
    assert gateway.admin("GET", f"/v2/{name}/source/blobs/{digest}").body == content
    assert mount(gateway, f"{name}/target", f"mount={digest}&from={name}/source").status == 201
    assert gateway.admin("DELETE", f"/v2/{name}/source/blobs/{digest}").status == 202
    assert gateway.admin("GET", f"/v2/{name}/target/blobs/{digest}").body == content


def test_mt_08_manifest_over_mounted_layers(gateway: Served, name: str, content: bytes) -> None:
    """A manifest is accepted over a mounted layer, which is stored in the very storage of its source."""
    assert mount(gateway, f"{name}/target", f"mount={sha256(content)}&from={name}/source").status == 201

    digest, _ = gateway.push_image(f"{name}/target", "v1", content)

    assert gateway.admin("HEAD", f"/v2/{name}/target/manifests/{digest}").status == 200
