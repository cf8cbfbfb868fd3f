"""Protocol section 1.8: what a refused or broken upload may not leave behind (rows UP-05, UP-09)."""

import os
import socket

import pytest

from tests.served import ADMIN, Served, authorization, sha256


@pytest.mark.parametrize("end", ["other bytes", "a gap", "cut"])
def test_up_05_post_that_fails_leaves_nothing(gateway: Served, name: str, end: str) -> None:
    """The session of a single POST is known to nobody else, so when it fails none of its bytes stay on disk."""
    content = os.urandom(100_000)
    path = f"/v2/{name}/blobs/uploads/?digest={sha256(content)}"
    before = _staged(gateway)
    if end == "other bytes":
        assert gateway.admin("POST", path, content[1:]).codes() == ["DIGEST_INVALID"]
    elif end == "a gap":
        reply = gateway.admin("POST", path, content, {"Content-Range": "5-100004"})
        assert (reply.status, "location" in reply.headers) == (416, False)
    else:
        with socket.create_connection(("127.0.0.1", gateway.port)) as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: {gateway.address}\r\nExpect: 100-continue\r\n"
                f"Authorization: {authorization(ADMIN)['Authorization']}\r\nContent-Length: {len(content)}\r\n\r\n"
            )
            client.sendall(head.encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100")
            assert _staged(gateway) > before
            client.sendall(content[:-1])
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass

    assert _staged(gateway) <= before


def _staged(gateway: Served) -> set[str]:
    """Sessions with bytes on the disk."""
    return {path.name for path in (gateway.data / "storages" / "default" / "staging").iterdir()}


def test_up_09_more_than_promised_is_refused_before_it_ends(gateway: Served, name: str) -> None:
    """A body that goes on beyond its Content-Range is refused at once and forgotten, however long it would be."""
    location = gateway.admin("POST", f"/v2/{name}/blobs/uploads/", b"").headers["location"]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: {gateway.address}\r\nTransfer-Encoding: chunked\r\n"
            f"Authorization: {authorization(ADMIN)['Authorization']}\r\nContent-Range: 0-4\r\n\r\n"
        )
        client.sendall(head.encode() + b"6\r\n012345\r\n")
        answer = client.recv(65536)

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"SIZE_INVALID" in answer
    assert gateway.admin("GET", location).headers["range"] == "0-0"
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'new')}", b"new").status == 201
