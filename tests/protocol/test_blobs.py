"""Protocol section 1.7: GET and HEAD of blobs, row by row."""

import contextlib
import email
import email.policy
import hashlib
import os
import socket
from pathlib import Path

import pytest

from tests.people import make_member, make_place
from tests.served import ADMIN, Served, authorization, sha256

CONTENT = bytes(range(256)) * 40  # 10,240 bytes, each place recognisable


@pytest.fixture
def blob(gateway: Served, name: str) -> str:
    """The path of a pushed blob with CONTENT."""
    return f"/v2/{name}/blobs/{gateway.push_blob(name, CONTENT)}"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bg_01_whole_blob(gateway: Served, blob: str, method: str) -> None:
    """GET and HEAD carry length, digest, octet-stream, Accept-Ranges and an ETag; HEAD has no body."""
    digest = sha256(CONTENT)

    reply = gateway.admin(method, blob)

    assert (reply.status, reply.body) == (200, CONTENT if method == "GET" else b"")
    assert reply.headers["content-length"] == str(len(CONTENT))
    assert reply.headers["docker-content-digest"] == digest
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["etag"] == f'"{digest}"'
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_bg_02_unknown_blob(gateway: Served, name: str, blob: str, method: str) -> None:
    """A blob that this image does not have is 404 BLOB_UNKNOWN to readers, also when another image has it."""
    assert blob
    reader = make_member(gateway, "reader", "common")

    for path in (f"/v2/{name}/blobs/{sha256(b'no')}", f"/v2/{name}/elsewhere/blobs/{sha256(CONTENT)}"):
        reply = gateway.request(method, path, auth=reader)
        assert reply.status == 404
        if method == "GET":
            assert reply.codes() == ["BLOB_UNKNOWN"]


def test_bg_02_head_of_a_pusher_finds_what_it_may_read(gateway: Served) -> None:
    """Who may push and asks by HEAD need not send what they may read elsewhere; to other pushers it is 404.

    A GET never links anything, whoever asks.
    """
    content, here, there = os.urandom(99), make_place(gateway), make_place(gateway)
    digest = gateway.push_blob(f"{there.name}/source", content)
    both, one = make_member(gateway, "writer", here, there), make_member(gateway, "writer", here)
    path = f"/v2/{here.name}/target/blobs/{digest}"

    assert gateway.request("GET", path, auth=both).status == 404
    assert gateway.request("HEAD", path, auth=one).status == 404
    found = gateway.request("HEAD", path, auth=both)

    assert (found.status, found.headers["content-length"]) == (200, "99")
    assert gateway.request("GET", path, auth=one).body == content


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e", f"sha256:{'A' * 64}", "x"])
def test_bg_03_malformed_digest(gateway: Served, name: str, digest: str) -> None:
    """A malformed or unsupported digest is 400 DIGEST_INVALID."""
    reply = gateway.admin("GET", f"/v2/{name}/blobs/{digest}")

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=10000-", 10000, 10239),
        ("bytes=-7", 10233, 10239),
        ("bytes=-99999", 0, 10239),
        ("bytes=10230-99999", 10230, 10239),
        ("bytes=0-", 0, 10239),
    ],
)
def test_bg_04_one_range(gateway: Served, blob: str, asked: str, first: int, last: int) -> None:
    """A range is 206 with Content-Range, the exact length and those bytes."""
    reply = gateway.admin("GET", blob, headers={"Range": asked})

    assert reply.status == 206
    assert reply.headers["content-range"] == f"bytes {first}-{last}/10240"
    assert reply.headers["content-length"] == str(last - first + 1)
    assert reply.body == CONTENT[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=500-0", "bytes=-0"])
def test_bg_05_unsatisfiable_range(gateway: Served, blob: str, asked: str) -> None:
    """A range outside the blob is 416 with the blob's size and the length of its own body."""
    reply = gateway.admin("GET", blob, headers={"Range": asked})

    assert reply.status == 416
    assert reply.headers["content-range"] == "bytes */10240"
    assert reply.headers["content-length"] == str(len(reply.body))
    assert reply.codes()


def test_bg_06_several_ranges(gateway: Served, blob: str) -> None:
    """Sixteen ranges in one header are one multipart answer with an exact length (podman's partial pulls)."""
    spans = [(start * 600, start * 600 + 99) for start in range(16)]
    asked = "bytes=" + ",".join(f"{first}-{last}" for first, last in spans)

    reply = gateway.admin("GET", blob, headers={"Range": asked})

    assert reply.status == 206
    assert reply.headers["content-length"] == str(len(reply.body))
    parts = _parts(reply.headers["content-type"], reply.body)
    assert [part for _, part in parts] == [CONTENT[first : last + 1] for first, last in spans]
    assert [place for place, _ in parts] == [f"bytes {first}-{last}/10240" for first, last in spans]


def _parts(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Content-Range and bytes of each part, as the standard library's MIME parser reads them."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    return [
        (str(part["Content-Range"]), part.get_payload(decode=True))  # type: ignore[misc]  # bytes, for leaves
        for part in message.iter_parts()
    ]


def test_bg_06_ranges_that_overlap_are_merged(gateway: Served, blob: str) -> None:
    """Ranges that overlap become one, so no byte is sent twice; a single one is an ordinary 206."""
    reply = gateway.admin("GET", blob, headers={"Range": "bytes=0-9,5-19,15-29"})

    assert (reply.status, reply.headers["content-range"]) == (206, "bytes 0-29/10240")
    assert reply.body == CONTENT[:30]


def test_bg_06_neighbours_stay_apart(gateway: Served, blob: str) -> None:
    """Ranges that merely touch are a part each: podman asks for neighbours and reads one part for each of them."""
    reply = gateway.admin("GET", blob, headers={"Range": "bytes=0-9,10-19"})

    assert [part for _, part in _parts(reply.headers["content-type"], reply.body)] == [CONTENT[:10], CONTENT[10:20]]


def test_bg_06_too_many_ranges(gateway: Served, blob: str) -> None:
    """More than 64 ranges are refused with 400, the cheapest refusal for the clients that do this."""
    asked = "bytes=" + ",".join(f"{10 * place}-{10 * place + 1}" for place in range(65))

    assert gateway.admin("GET", blob, headers={"Range": asked}).status == 400


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes", "bytes=a-b", "bytes=--5", "", "bytes=1-2-3"])
def test_bg_06_unknown_unit_or_malformed_is_ignored(gateway: Served, blob: str, asked: str) -> None:
    """What is no byte range is ignored: 200 with the whole blob."""
    reply = gateway.admin("GET", blob, headers={"Range": asked})

    assert (reply.status, reply.body) == (200, CONTENT)


def test_bg_07_empty_blob(gateway: Served, name: str) -> None:
    """The empty blob has length 0, and a range of it is 416."""
    path = f"/v2/{name}/blobs/{gateway.push_blob(name, b'')}"

    for method in ("GET", "HEAD"):
        reply = gateway.admin(method, path)
        assert (reply.status, reply.headers["content-length"], reply.body) == (200, "0", b"")
    assert gateway.admin("GET", path, headers={"Range": "bytes=0-0"}).status == 416


def test_bg_08_if_none_match_and_if_range(gateway: Served, blob: str) -> None:
    """304 for who has the blob; If-Range with another tag turns a range into the whole."""
    digest = sha256(CONTENT)

    assert gateway.admin("GET", blob, headers={"If-None-Match": f'"{digest}"'}).status == 304
    same = gateway.admin("GET", blob, headers={"Range": "bytes=0-4", "If-Range": f'"{digest}"'})
    other = gateway.admin("GET", blob, headers={"Range": "bytes=0-4", "If-Range": '"else"'})
    assert (same.status, other.status, len(other.body)) == (206, 200, len(CONTENT))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_bg_09_empty_descriptor(gateway: Served, name: str, algorithm: str) -> None:
    """The empty descriptor's blob `{}` can be pushed, pulled and deleted like any other, by both algorithms."""
    digest = f"{algorithm}:{hashlib.new(algorithm, b'{}').hexdigest()}"
    path = f"/v2/{name}/blobs/{digest}"

    assert gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", b"{}").status == 201
    assert gateway.admin("GET", path).body == b"{}"
    assert gateway.admin("DELETE", path).status == 202
    assert gateway.admin("GET", path).status == 404


@pytest.mark.slow
def test_bg_10_client_that_leaves_frees_what_it_held(gateway: Served, name: str) -> None:
    """Clients that leave in the middle of a blob leave no open file behind, but for the one that the lane keeps."""
    path = f"/v2/{name}/blobs/{gateway.push_blob(name, os.urandom(8 << 20))}"
    before = _open_blobs(gateway)
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization(ADMIN)['Authorization']}\r\n\r\n"

    for _ in range(20):
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            client.sendall(head.encode())
            assert client.recv(1000)

    for _ in range(200):
        if _open_blobs(gateway) <= before + 1:
            return
        assert gateway.admin("GET", "/v2/").status == 200
    raise AssertionError("files stay open after their readers left")


def _open_blobs(gateway: Served) -> int:
    """Open descriptors of the process below the blobs of its storage."""
    assert gateway.process is not None
    count = 0
    for entry in Path(f"/proc/{gateway.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed between the two looks
            count += "/blobs/" in str(entry.readlink())
    return count


@pytest.mark.parametrize("damage", ["truncated", "grown"])
def test_bg_11_damaged_object_is_not_served_as_complete(gateway: Served, name: str, damage: str) -> None:
    """A stored object of another size than its row says is never served: 503, not 404 and not a clean short answer."""
    content = os.urandom(30_000)
    digest = gateway.push_blob(name, content)
    (stored,) = gateway.data.rglob(f"{digest.removeprefix('sha256:')}*")
    stored.chmod(0o600)
    stored.write_bytes(content[:20_000] if damage == "truncated" else content + b"more")

    reply = gateway.admin("GET", f"/v2/{name}/blobs/{digest}")

    assert reply.status == 503
    assert reply.headers["retry-after"]
    assert content[:100] not in reply.body


def test_bg_12_open_range_cut_by_the_client(gateway: Served, name: str) -> None:
    """A client that takes 2 MiB of an open-ended range and leaves (containerd) costs nobody else anything."""
    path = f"/v2/{name}/blobs/{gateway.push_blob(name, os.urandom(16 << 20))}"
    head = (
        f"GET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=1000-\r\n"
        f"Authorization: {authorization(ADMIN)['Authorization']}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.sendall(head.encode())
        taken = 0
        while taken < 2 << 20:
            taken += len(client.recv(65536))

    assert gateway.admin("GET", path, headers={"Range": "bytes=0-9"}).status == 206
