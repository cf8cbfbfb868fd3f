"""Protocol section 1.8: upload sessions, row by row."""

import hashlib
import http.client  # noqa: TC003  # also the value of an annotation that pytest reads
import os
import socket
import threading
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.served import ADMIN, Reply, Served, authorization, send, sha256

ZERO = sha256(b"")


def begin(gateway: Served, name: str, query: str = "") -> Reply:
    """Open a session."""
    reply = gateway.admin("POST", f"/v2/{name}/blobs/uploads/{query}", b"")
    assert reply.status == 202, reply
    return reply


def place(gateway: Served, name: str) -> str:
    """The URL of a fresh session."""
    return begin(gateway, name).headers["location"]


def fetch(gateway: Served, name: str, digest: str) -> bytes:
    """The blob, which must be there."""
    reply = gateway.admin("GET", f"/v2/{name}/blobs/{digest}")
    assert reply.status == 200, reply
    return reply.body


def test_up_01_post_opens_a_session(gateway: Served, name: str) -> None:
    """POST answers 202 with Location, Docker-Upload-UUID, Range 0-0 and no body; the image need not exist."""
    reply = begin(gateway, name)

    assert reply.headers["range"] == "0-0"
    assert reply.headers["content-length"] == "0"
    assert reply.headers["docker-upload-uuid"] in reply.headers["location"]


def test_up_02_location_is_a_path_with_a_unique_id(gateway: Served, name: str) -> None:
    """Location is path-only and holds a UUID that no other session has."""
    first, second = place(gateway, name), place(gateway, name)

    assert first != second
    assert first.startswith(f"/v2/{name}/blobs/uploads/")
    assert str(uuid.UUID(first.rpartition("/")[2])) in first


def test_up_03_location_needs_no_query(gateway: Served, name: str) -> None:
    """All state is in the path, so a client may throw queries away or add its own."""
    location = place(gateway, name)
    assert "?" not in location

    reply = gateway.admin("PUT", f"{location}?digest={sha256(b'x')}&whatever=1", b"x")

    assert reply.status == 201


def test_up_04_put_with_the_whole_body_stores_the_blob(gateway: Served, name: str) -> None:
    """POST and one PUT with the body answer 201 with Location, Docker-Content-Digest and Content-Length 0."""
    content = os.urandom(1000)
    digest = sha256(content)

    reply = gateway.admin("PUT", f"{place(gateway, name)}?digest={digest}", content)

    assert reply.status == 201
    assert reply.headers["location"] == f"/v2/{name}/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert reply.headers["content-length"] == "0"
    assert fetch(gateway, name, digest) == content


def test_up_05_post_with_digest_and_body_stores_the_blob(gateway: Served, name: str) -> None:
    """A single POST with digest= and the body answers 201."""
    content = os.urandom(1000)
    digest = sha256(content)

    reply = gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)

    assert reply.status == 201
    assert reply.headers["location"] == f"/v2/{name}/blobs/{digest}"
    assert fetch(gateway, name, digest) == content


@pytest.mark.parametrize("content_type", [None, "application/octet-stream"])
@pytest.mark.parametrize("chunked", [False, True])
def test_up_06_patch_streams(gateway: Served, name: str, content_type: str | None, *, chunked: bool) -> None:
    """PATCH without Content-Range appends a body of known or unknown length, with or without a type."""
    content = os.urandom(700_000)
    location = place(gateway, name)
    headers = {"Content-Type": content_type} if content_type else {}

    body = iter([content[:5], content[5:400_000], content[400_000:]]) if chunked else content
    reply = gateway.admin("PATCH", location, body, headers, chunked=chunked)

    assert reply.status == 202
    assert reply.headers["location"] == location
    assert reply.headers["range"] == "0-699999"
    assert reply.headers["docker-upload-uuid"] == location.rpartition("/")[2]
    finished = gateway.admin("PUT", f"{location}?digest={sha256(content)}", b"")
    assert finished.status == 201
    assert fetch(gateway, name, sha256(content)) == content


def test_up_07_range_is_always_there_and_never_negative(gateway: Served, name: str) -> None:
    """Zero bytes are reported as 0-0 by POST, by an empty PATCH and by GET."""
    location = place(gateway, name)

    patched = gateway.admin("PATCH", location, b"")
    status = gateway.admin("GET", location)

    assert patched.status == 202
    assert patched.headers["range"] == "0-0"
    assert status.headers["range"] == "0-0"


def test_up_08_chunk_at_the_wrong_place_keeps_the_session(gateway: Served, name: str) -> None:
    """A chunk that does not start where the session ends is answered 416, nothing is appended, the session goes on."""
    location = place(gateway, name)

    gap = gateway.admin("PATCH", location, b"56789", {"Content-Range": "5-9"})
    assert gap.status == 416
    assert gap.headers["range"] == "0-0"
    assert gap.headers["location"] == location

    assert gateway.admin("PATCH", location, b"01234", {"Content-Range": "0-4"}).status == 202
    assert gateway.admin("PATCH", location, b"56789", {"Content-Range": "5-9"}).status == 202
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'0123456789')}", b"").status == 201


@pytest.mark.parametrize("content_range", ["0-3", "0-9"])
def test_up_09_length_and_range_must_agree(gateway: Served, name: str, content_range: str) -> None:
    """A Content-Range that says another length than the body is 400 SIZE_INVALID and leaves nothing behind."""
    location = place(gateway, name)

    reply = gateway.admin("PATCH", location, b"01234", {"Content-Range": content_range})

    assert (reply.status, reply.codes()) == (400, ["SIZE_INVALID"])
    assert gateway.admin("GET", location).headers["range"] == "0-0"


@pytest.mark.parametrize("content_range", ["0-3", "0-9"])
def test_up_09_chunked_body_must_have_the_promised_length(gateway: Served, name: str, content_range: str) -> None:
    """The same holds when the length is only known at the end: what came is forgotten."""
    location = place(gateway, name)

    reply = gateway.admin("PATCH", location, iter([b"01234"]), {"Content-Range": content_range}, chunked=True)

    assert (reply.status, reply.codes()) == (400, ["SIZE_INVALID"])
    assert gateway.admin("GET", location).headers["range"] == "0-0"
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'new')}", b"new").status == 201


@pytest.mark.parametrize("content_range", ["abc", "-5", "5-", "9-5", "0-4-6", "0x0-4", "9" * 400 + "-5"])
def test_up_09_unreadable_range_is_no_server_error(gateway: Served, name: str, content_range: str) -> None:
    """An unparsable Content-Range is 400 or 416, and the session lives."""
    location = place(gateway, name)

    reply = gateway.admin("PATCH", location, b"01234", {"Content-Range": content_range})

    assert reply.status in {400, 416}
    assert gateway.admin("GET", location).status == 204


@pytest.mark.parametrize("content_range", ["bytes 0-4/*", "bytes 0-4/5", "bytes=0-4"])
def test_up_10_the_http_form_of_a_range_is_understood(gateway: Served, name: str, content_range: str) -> None:
    """`bytes a-b/total` means the same as `a-b`."""
    reply = gateway.admin("PATCH", place(gateway, name), b"01234", {"Content-Range": content_range})

    assert reply.status == 202
    assert reply.headers["range"] == "0-4"


def test_up_11_a_chunk_sent_twice_is_refused(gateway: Served, name: str) -> None:
    """Repeating a stored chunk is 416."""
    location = place(gateway, name)
    assert gateway.admin("PATCH", location, b"01234", {"Content-Range": "0-4"}).status == 202

    assert gateway.admin("PATCH", location, b"01234", {"Content-Range": "0-4"}).status == 416


def test_up_12_range_tells_the_whole_blob_so_far(gateway: Served, name: str) -> None:
    """Range in answers counts from 0, not from the chunk's start."""
    location = place(gateway, name)
    gateway.admin("PATCH", location, b"01234", {"Content-Range": "0-4"})

    reply = gateway.admin("PATCH", location, b"567", {"Content-Range": "5-7"})

    assert reply.headers["range"] == "0-7"


def test_up_13_status_of_a_session(gateway: Served, name: str) -> None:
    """GET answers 204 with Location and Range, also with a digest in the query."""
    location = place(gateway, name)
    gateway.admin("PATCH", location, b"01234")

    reply = gateway.admin("GET", f"{location}?digest={ZERO}")

    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["location"] == location
    assert reply.headers["range"] == "0-4"


def test_up_14_last_chunk_out_of_order(gateway: Served, name: str) -> None:
    """A closing PUT whose chunk is out of order is 416; the session lives and the right one succeeds."""
    location, content = place(gateway, name), b"0123456789"
    gateway.admin("PATCH", location, content[:5])

    wrong = gateway.admin("PUT", f"{location}?digest={sha256(content)}", content[5:], {"Content-Range": "7-11"})
    right = gateway.admin("PUT", f"{location}?digest={sha256(content)}", content[5:], {"Content-Range": "5-9"})

    assert (wrong.status, right.status) == (416, 201)
    assert fetch(gateway, name, sha256(content)) == content


def test_up_15_put_without_body_after_patches(gateway: Served, name: str) -> None:
    """The closing PUT needs no body."""
    location = place(gateway, name)
    for part in (b"a", b"b", b"c"):
        assert gateway.admin("PATCH", location, part).status == 202

    assert gateway.admin("PUT", f"{location}?digest={sha256(b'abc')}", b"").status == 201


def test_up_16_other_bytes_than_the_digest_says(gateway: Served, name: str) -> None:
    """A digest mismatch is 400 DIGEST_INVALID; nothing is stored and the session has ended."""
    location, claimed, content = place(gateway, name), sha256(b"something else"), os.urandom(50)

    reply = gateway.admin("PUT", f"{location}?digest={claimed}", content)

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])
    assert gateway.admin("HEAD", f"/v2/{name}/blobs/{claimed}").status == 404
    assert gateway.admin("HEAD", f"/v2/{name}/blobs/{sha256(content)}").status == 404
    assert gateway.admin("GET", location).status == 404


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?digest=",
        "?digest=sha256:zz",
        "?digest=md5:d41d8cd98f00b204e9800998ecf8427e",
        f"?digest={ZERO}&digest={ZERO}",
    ],
)
def test_up_17_missing_or_malformed_digest_keeps_the_session(gateway: Served, name: str, query: str) -> None:
    """Without exactly one good digest the answer is 400 DIGEST_INVALID and the session goes on."""
    location = place(gateway, name)

    reply = gateway.admin("PUT", f"{location}{query}", b"content")

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'content')}", b"content").status == 201


def test_up_18_body_cut_short_commits_nothing(gateway: Served, name: str) -> None:
    """A connection cut within the body stores nothing; what came is reported, and the upload can go on from there."""
    content = os.urandom(600_000)
    location = place(gateway, name)
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        _announce(gateway, client, f"PUT {location}?digest={sha256(content)}", len(content))
        client.sendall(content[:500_000])

    kept = _settled_offset(gateway, location)

    assert 0 <= kept <= 500_000
    assert gateway.admin("HEAD", f"/v2/{name}/blobs/{sha256(content)}").status == 404
    finished = gateway.admin("PUT", f"{location}?digest={sha256(content)}", content[kept:])
    assert finished.status == 201
    assert fetch(gateway, name, sha256(content)) == content


def _settled_offset(gateway: Served, location: str) -> int:
    """How far the session came, once nobody holds it any more: a PATCH of nothing succeeds then."""
    for _ in range(500):
        reply = gateway.admin("PATCH", location, b"")
        if reply.status == 202:
            last = int(reply.headers["range"].partition("-")[2])
            return last + 1 if last else 0
    raise AssertionError("the session stays busy")


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize("end", ["never begun", "finished", "cancelled", "no uuid"])
def test_up_19_a_session_that_is_not_there(gateway: Served, name: str, method: str, end: str) -> None:
    """Unknown, finished and cancelled sessions are 404 BLOB_UPLOAD_UNKNOWN to every method."""
    location = place(gateway, name)
    if end == "never begun":
        location = f"/v2/{name}/blobs/uploads/{uuid.uuid4()}"
    elif end == "finished":
        assert gateway.admin("PUT", f"{location}?digest={ZERO}", b"").status == 201
    elif end == "cancelled":
        assert gateway.admin("DELETE", location).status == 204
    else:
        location = f"/v2/{name}/blobs/uploads/nonsense"

    reply = gateway.admin(method, f"{location}?digest={ZERO}", b"")

    assert (reply.status, reply.codes()) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_up_20_cancelling_frees_the_bytes(gateway: Served, name: str) -> None:
    """DELETE answers 204 and nothing of the session is left on disk."""
    location = place(gateway, name)
    gateway.admin("PATCH", location, os.urandom(100_000))

    reply = gateway.admin("DELETE", location)

    assert (reply.status, reply.body) == (204, b"")
    assert list(_files_of(gateway, location)) == []


def _files_of(gateway: Served, location: str) -> list[Path]:
    """Files below the data directory that carry the session's id."""
    return list(gateway.data.rglob(f"*{location.rpartition('/')[2]}*"))


def test_up_21_sha512_without_a_hint(gateway: Served, name: str) -> None:
    """A session that never heard of sha512 may close with a sha512 digest, and answers with it."""
    content = os.urandom(300_000)
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    location = place(gateway, name)
    gateway.admin("PATCH", location, content)

    reply = gateway.admin("PUT", f"{location}?digest={quote(digest)}", b"")

    assert reply.status == 201
    assert reply.headers["docker-content-digest"] == digest
    got = gateway.admin("GET", f"/v2/{name}/blobs/{digest}")
    assert (got.body, got.headers["docker-content-digest"]) == (content, digest)


def test_up_22_digest_algorithm_may_be_announced(gateway: Served, name: str) -> None:
    """digest-algorithm=sha512 is accepted; an algorithm that we cannot verify is 400."""
    content = b"announced"
    digest = f"sha512:{hashlib.sha512(content).hexdigest()}"
    location = begin(gateway, name, "?digest-algorithm=sha512").headers["location"]
    assert gateway.admin("PUT", f"{location}?digest={digest}", content).status == 201

    refused = gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest-algorithm=md5", b"")

    assert (refused.status, refused.codes()) == (400, ["DIGEST_INVALID"])


def test_up_23_both_digests_share_one_stored_object(gateway: Served, name: str) -> None:
    """The same bytes under sha256 and sha512 are stored once and linked separately."""
    content = os.urandom(200_000)
    strong = f"sha512:{hashlib.sha512(content).hexdigest()}"
    gateway.push_blob(name, content)
    assert gateway.admin("HEAD", f"/v2/{name}/blobs/{strong}").status == 404

    reply = gateway.admin("PUT", f"{place(gateway, name)}?digest={strong}", content)

    assert reply.status == 201
    assert fetch(gateway, name, strong) == content
    stored = [path for path in gateway.data.rglob(f"*{hashlib.sha256(content).hexdigest()}*") if path.is_file()]
    assert len(stored) == 1


def test_up_24_chunks_of_any_size(gateway: Served, name: str) -> None:
    """No least chunk size is announced and chunks of one byte and of 1024 bytes are taken."""
    content = os.urandom(1 + 1024 + 3)
    opened = begin(gateway, name)
    location = opened.headers["location"]
    assert "oci-chunk-min-length" not in opened.headers

    for first, last in ((0, 0), (1, 1024), (1025, 1027)):
        headers = {"Content-Range": f"{first}-{last}"}
        assert gateway.admin("PATCH", location, content[first : last + 1], headers).status == 202

    assert gateway.admin("PUT", f"{location}?digest={sha256(content)}", b"").status == 201


def test_up_25_simultaneous_uploads_of_one_digest(gateway: Served, name: str) -> None:
    """Several uploads of the same bytes at once all end 201, and one copy serves them."""
    content = os.urandom(400_000)
    replies: list[Reply] = []

    def push() -> None:
        replies.append(gateway.admin("PUT", f"{place(gateway, name)}?digest={sha256(content)}", content))

    threads = [threading.Thread(target=push) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [reply.status for reply in replies] == [201] * 6
    assert fetch(gateway, name, sha256(content)) == content


def test_up_26_two_patches_at_once_do_not_interleave(gateway: Served, name: str) -> None:
    """While one request feeds a session, another is refused with 409, and the first one's bytes are intact."""
    location = place(gateway, name)
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        _announce(gateway, client, f"PATCH {location}", 300_000)
        client.sendall(b"a" * 299_000)
        refused = gateway.admin("PATCH", location, b"b")
        client.sendall(b"a" * 1000)
        answer = client.recv(65536)

    assert (refused.status, refused.codes()) == (409, ["BLOB_UPLOAD_INVALID"])
    assert answer.startswith(b"HTTP/1.1 202")
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'a' * 300_000)}", b"").status == 201


def _announce(gateway: Served, client: socket.socket, line: str, length: int) -> None:
    """Send the head of a request and wait until the server asks for its body: it holds the session from then on."""
    head = (
        f"{line} HTTP/1.1\r\nHost: {gateway.address}\r\nExpect: 100-continue\r\n"
        f"Authorization: {authorization(ADMIN)['Authorization']}\r\nContent-Length: {length}\r\n\r\n"
    )
    client.sendall(head.encode())
    assert client.recv(1024).startswith(b"HTTP/1.1 100")


def test_up_29_zero_bytes_by_every_way(gateway: Served, name: str) -> None:
    """The empty blob can be pushed by POST+PUT, by POST alone, streamed, and chunked."""
    ways = [
        gateway.admin("PUT", f"{place(gateway, name)}?digest={ZERO}", b""),
        gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest={ZERO}", b""),
        gateway.admin("PUT", f"{place(gateway, name)}?digest={ZERO}", iter([b""][:0]), chunked=True),
    ]
    streamed = place(gateway, name)
    gateway.admin("PATCH", streamed, b"")
    ways.append(gateway.admin("PUT", f"{streamed}?digest={ZERO}", b""))

    assert [way.status for way in ways] == [201] * 4
    assert fetch(gateway, name, ZERO) == b""


def test_up_30_a_blob_is_there_at_once(gateway: Served, name: str) -> None:
    """HEAD right after the 201, on the same connection and on another, finds the blob."""
    content = os.urandom(50_000)
    digest = sha256(content)
    connection = gateway.connection()
    location = send(connection, "POST", f"/v2/{name}/blobs/uploads/", b"", auth=ADMIN).headers["location"]
    assert send(connection, "PUT", f"{location}?digest={digest}", content, auth=ADMIN).status == 201

    same = send(connection, "HEAD", f"/v2/{name}/blobs/{digest}", auth=ADMIN)
    other = gateway.admin("HEAD", f"/v2/{name}/blobs/{digest}")
    connection.close()

    assert [(reply.status, reply.headers["content-length"]) for reply in (same, other)] == [(200, "50000")] * 2


def test_up_31_pushing_again_is_fine(gateway: Served, name: str) -> None:
    """A blob that is there already is accepted again."""
    content = os.urandom(5000)

    assert gateway.push_blob(name, content) == gateway.push_blob(name, content)


def test_up_32_length_over_the_limit_is_413(gateway: Served, name: str) -> None:
    """A body that announces more than the largest blob is refused before it is read."""
    connection = gateway.connection()
    connection.putrequest("PATCH", place(gateway, name), skip_accept_encoding=True)
    connection.putheader("Authorization", authorization(ADMIN)["Authorization"])
    connection.putheader("Content-Length", str(1 << 50))
    connection.endheaders()

    response: http.client.HTTPResponse = connection.getresponse()

    assert response.status == 413
    assert b'"errors"' in response.read()
    connection.close()


def test_up_25_one_copy_whatever_image_it_came_from(gateway: Served, name: str) -> None:
    """The same layer pushed to three images lies once in the storage, right after the last push."""
    content = os.urandom(50_000)
    for image in ("a", "b", "c"):
        gateway.push_blob(f"{name}/{image}", content)

    stored = [path for path in gateway.data.rglob(f"*{hashlib.sha256(content).hexdigest()}*") if path.is_file()]

    assert len(stored) == 1
    assert [fetch(gateway, f"{name}/{image}", sha256(content)) for image in ("a", "b", "c")] == [content] * 3
