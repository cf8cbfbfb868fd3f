"""A full disk: what is there stays readable, what cannot be kept is refused aloud, and room heals everything."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.served import Reply, Served, sha256

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]

SIZE_MIB = 24
HEAL_S = 10.0
# More than the room that is left, and less than the 1 MiB of an unread body that the gateway takes before it closes:
# our client sends all of it before it listens, and would miss an answer that comes while it is still sending.
NEW_BYTES = 900_000


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    """A gateway whose data lies on a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    served = Served(tmp_path)
    served.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", served.data], check=True)
    try:
        with served:
            yield served
    finally:
        subprocess.run(["umount", "--lazy", served.data], check=True)


def fill(gateway: Served, *, leave: int = 0) -> Path:
    """Use up the disk but for `leave` bytes."""
    ballast = gateway.data / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass
        if leave:
            file.truncate(max(0, file.tell() - leave))
    return ballast


def try_to_push(gateway: Served, name: str, tag: str, layer: bytes) -> list[Reply]:
    """Every answer of a whole push, until one says no."""
    replies = [gateway.admin("POST", f"/v2/{name}/blobs/uploads/", b"")]
    if replies[-1].status == 202:
        location = replies[-1].headers["location"]
        replies.append(gateway.admin("PUT", f"{location}?digest={sha256(layer)}", layer))
    if replies[-1].status == 201:
        try:
            gateway.push_image(name, tag, layer)
        except AssertionError as error:
            (reply,) = error.args
            replies.append(reply)
    return replies


@pytest.mark.parametrize("leave", [0, 200_000], ids=["no room at all", "room for rows but not for bytes"])
def test_full_disk_loses_nothing_and_heals(gateway: Served, leave: int) -> None:
    """Old tags stay byte-exact, pushes get 507 or 503 with the reason, and within 10 s of room all works again."""
    old_layer, new_layer = os.urandom(1_000_000), os.urandom(NEW_BYTES)
    _, old = gateway.push_image("full/app", "v1", old_layer)
    staged = len(list((gateway.data / "storages/default/staging").iterdir()))
    ballast = fill(gateway, leave=leave)

    refused = [reply for _ in range(5) for reply in try_to_push(gateway, "full/app", "v1", new_layer)]

    assert {reply.status for reply in refused} <= {202, 507, 503}
    assert any(reply.status in {507, 503} for reply in refused)
    assert all(reply.headers["retry-after"] for reply in refused if reply.status >= 500)
    assert gateway.admin("GET", "/v2/full/app/manifests/v1").body == old
    assert gateway.admin("GET", f"/v2/full/app/blobs/{sha256(old_layer)}").body == old_layer
    ballast.unlink()
    _until_healed(gateway, new_layer)
    assert gateway.admin("GET", f"/v2/full/app/blobs/{sha256(new_layer)}").body == new_layer
    assert gateway.admin("GET", "/v2/full/app/manifests/v1").body == old
    assert len(list((gateway.data / "storages/default/staging").iterdir())) <= staged + 5 * 2


def _until_healed(gateway: Served, layer: bytes) -> None:
    deadline = time.monotonic() + HEAL_S
    while time.monotonic() < deadline:
        if [reply.status for reply in try_to_push(gateway, "full/app", "v2", layer)] == [202, 201]:
            return
    raise AssertionError(f"pushes do not work {HEAL_S} s after there was room again")


def test_restart_on_a_full_disk(gateway: Served) -> None:
    """A gateway that is killed on a full disk starts there again and serves what it has."""
    layer = os.urandom(500_000)
    _, manifest = gateway.push_image("full/app", "v1", layer)
    fill(gateway)
    try_to_push(gateway, "full/app", "v2", os.urandom(NEW_BYTES))
    gateway.kill()

    gateway.start()

    assert gateway.admin("GET", "/v2/full/app/manifests/v1").body == manifest
    assert gateway.admin("GET", f"/v2/full/app/blobs/{sha256(layer)}").body == layer
