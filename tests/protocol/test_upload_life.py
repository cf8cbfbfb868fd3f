"""Protocol rows about what outlives a request: expiry, collection beside a push, restarts, a storage that is away."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.people import Place, make_member
from tests.served import ADMIN, OCI_MANIFEST, Served, image_manifest, sha256

pytestmark = pytest.mark.slow  # each needs servers of its own

NAME = "common/docker-hosted/life"
TYPE = {"Content-Type": OCI_MANIFEST}
KEEPING_NOTHING = {
    "SLUICE_GARBAGE__GRACE_S": "0",
    "SLUICE_GARBAGE__UNDELETE_S": "0",
    "SLUICE_GARBAGE__UPLOAD_EXPIRY_S": "0",
}


def collect(gateway: Served, environment: dict[str, str]) -> str:
    """Run `sluice gc` on the directory of a running server; what it printed."""
    command = [sys.executable, "-m", "gateway", "gc", "--data", str(gateway.data)]
    found = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def collect_until_gone(gateway: Served, name: str) -> None:
    """Collect without any grace until no file has `name` in its name, which takes more than one run."""
    deadline = time.monotonic() + 60
    while list(gateway.data.rglob(f"*{name}*")):
        assert time.monotonic() < deadline, name
        collect(gateway, KEEPING_NOTHING)


def make_garbage(gateway: Served) -> str:
    """A stored blob that nothing needs any more; what its file is called after."""
    digest = gateway.push_blob(NAME, os.urandom(1000))
    assert gateway.admin("DELETE", f"/v2/{NAME}/blobs/{digest}").status == 202
    return digest.removeprefix("sha256:")


def begin(gateway: Served) -> str:
    """The URL of a fresh session."""
    return gateway.admin("POST", f"/v2/{NAME}/blobs/uploads/", b"").headers["location"]


def test_up_27_abandoned_sessions_expire(tmp_path: Path) -> None:
    """A session that nobody feeds is gone after its time, with its bytes; one that is younger stays."""
    with Served(tmp_path) as gateway:
        old = begin(gateway)
        assert gateway.admin("PATCH", old, os.urandom(100_000)).status == 202

        collect(gateway, {"SLUICE_GARBAGE__UPLOAD_EXPIRY_S": "3600"})
        assert gateway.admin("GET", old).headers["range"] == "0-99999"
        collect_until_gone(gateway, old.rpartition("/")[2])

        reply = gateway.admin("GET", old)
        assert (reply.status, reply.codes()) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_up_27_collection_between_blob_and_manifest(tmp_path: Path) -> None:
    """With the grace that is the default, blobs whose manifest is still to come survive a collection."""
    with Served(tmp_path) as gateway:
        layer = os.urandom(50_000)
        for content in (b"{}", layer):
            gateway.push_blob(NAME, content)

        collect(gateway, {})

        manifest = image_manifest(b"{}", layer)
        assert gateway.admin("PUT", f"/v2/{NAME}/manifests/v1", manifest, TYPE).status == 201
        collect_until_gone(gateway, make_garbage(gateway))
        assert gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(layer)}").body == layer


def test_up_28_uploads_survive_restarts_and_workers(tmp_path: Path) -> None:
    """A session goes on after a stop and after kill -9, on whichever of two workers, and no acknowledged byte is lost.

    Between POST, three PATCHes and the PUT the server is stopped, killed and started again; a session lost with its
    state would be 404, a lost byte a wrong digest.
    """
    parts = [os.urandom(300_000) for _ in range(3)]
    whole = b"".join(parts)
    gateway = Served(tmp_path, arguments=("--workers", "2"))
    with gateway:
        location = begin(gateway)
        assert gateway.admin("PATCH", location, parts[0]).status == 202
        gateway.stop()
        gateway.start()
        assert gateway.admin("GET", location).headers["range"] == "0-299999"
        assert gateway.admin("PATCH", location, parts[1], {"Content-Range": "300000-599999"}).status == 202
        gateway.kill()
        gateway.start()
        assert gateway.admin("PATCH", location, parts[2], {"Content-Range": "600000-899999"}).status == 202
        gateway.kill()
        gateway.start()

        finished = gateway.admin("PUT", f"{location}?digest={sha256(whole)}", b"")

        assert finished.status == 201
        assert gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(whole)}").body == whole
        assert gateway.admin("GET", location).status == 404


def test_up_28_tokens_survive_a_restart(tmp_path: Path) -> None:
    """A token from before a restart pushes on, so a client notices nothing but a broken connection."""
    with Served(tmp_path) as gateway:
        token = gateway.token(f"repository:{NAME}:pull,push")
        location = gateway.request("POST", f"/v2/{NAME}/blobs/uploads/", b"", auth=token).headers["location"]
        gateway.stop()
        gateway.start()

        reply = gateway.request("PUT", f"{location}?digest={sha256(b'x')}", b"x", auth=token)

        assert reply.status == 201


def test_rf_18_referrers_of_a_living_subject_are_kept(tmp_path: Path) -> None:
    """Collection without any grace leaves an untagged referrer with its config and layer until somebody deletes it."""
    with Served(tmp_path) as gateway:
        subject, manifest = gateway.push_image(NAME, "v1", b"of the subject")
        layer = os.urandom(1000)
        gateway.push_blob(NAME, layer)
        told = {"mediaType": OCI_MANIFEST, "digest": subject, "size": len(manifest)}
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        referrer = image_manifest(config, layer, subject=told, artifactType="application/vnd.example.sbom")
        path = f"/v2/{NAME}/manifests/{sha256(referrer)}"
        assert gateway.admin("PUT", path, referrer, TYPE).status == 201

        collect_until_gone(gateway, make_garbage(gateway))

        listed = gateway.admin("GET", f"/v2/{NAME}/referrers/{subject}").json()["manifests"]
        assert [each["digest"] for each in listed] == [sha256(referrer)]
        assert gateway.admin("GET", path).body == referrer
        assert gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(layer)}").body == layer


def test_er_06_a_storage_that_is_away_is_503(tmp_path: Path) -> None:
    """Without its directory the storage is 503 with Retry-After, never 404 and never a 201; afterwards all is there."""
    with Served(tmp_path) as gateway:
        layer = os.urandom(1000)
        gateway.push_image(NAME, "v1", layer)
        location = begin(gateway)
        directory = gateway.data / "storages"
        directory.rename(directory.with_name("away"))

        replies = [
            gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(layer)}"),
            gateway.admin("PUT", f"{location}?digest={sha256(b'lost')}", b"lost"),
        ]

        for reply in replies:
            assert (reply.status, reply.codes()) == (503, ["UNAVAILABLE"])
            assert int(reply.headers["retry-after"]) > 0
        directory.with_name("away").rename(directory)
        assert gateway.admin("GET", f"/v2/{NAME}/blobs/{sha256(layer)}").body == layer
        assert gateway.admin("HEAD", f"/v2/{NAME}/blobs/{sha256(b'lost')}").status == 404


def test_acc_06_sessions_end_with_their_account(tmp_path: Path) -> None:
    """An upload in progress is refused as soon as its account is disabled, on every worker (row A17)."""
    with Served(tmp_path, arguments=("--workers", "2")) as gateway:
        user = make_member(gateway, "writer", Place("common", "docker-hosted"))
        token = gateway.token(f"repository:{NAME}:pull,push", auth=user)
        location = gateway.request("POST", f"/v2/{NAME}/blobs/uploads/", b"", auth=token).headers["location"]
        assert gateway.request("PATCH", location, b"before", auth=token).status == 202

        assert gateway.api("PATCH", f"/api/v1/users/{user[0]}", {"is_enabled": False}, auth=ADMIN).status == 200

        for auth in (token, user) * 4:
            assert gateway.request("PATCH", location, b"after", auth=auth).status == 401
