"""kill -9 in the middle of mixed pushes, again and again: nothing that was acknowledged is lost or changed."""

import contextlib
import http.client
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.journal import Journal, verify, verify_hot
from tests.served import OCI_MANIFEST, Served, image_manifest, sha256

pytestmark = [pytest.mark.crash, pytest.mark.timeout(0)]

ROUNDS = int(os.environ.get("SLUICE_CRASH_ROUNDS", "50"))
SAMPLE = 60
HOT = "/v2/crash/hot/manifests/latest"
CONFIG = b"{}"


def write_blobs(gateway: Served, journal: Journal, seed: int) -> None:
    """Blobs in one PUT, as containerd does."""
    content = random.Random(seed).randbytes(5_000 + seed % 90_000)
    begun = gateway.admin("POST", "/v2/crash/blobs/blobs/uploads/", b"")
    if not journal.note(begun, 202):
        return
    reply = gateway.admin("PUT", f"{begun.headers['location']}?digest={sha256(content)}", content)
    if journal.note(reply, 201):
        journal.acknowledge(f"/v2/crash/blobs/blobs/{sha256(content)}", content)


def write_chunks(gateway: Served, journal: Journal, seed: int) -> None:
    """Blobs in several PATCHes; what is unfinished when the kill comes is finished after it."""
    content = random.Random(seed).randbytes(60_000)
    begun = gateway.admin("POST", "/v2/crash/chunks/blobs/uploads/", b"")
    if not journal.note(begun, 202):
        return
    location = begun.headers["location"]
    journal.open_uploads[location] = content
    for start in range(0, len(content), 20_000):
        if not journal.note(gateway.admin("PATCH", location, content[start : start + 20_000]), 202):
            return
    if journal.note(gateway.admin("PUT", f"{location}?digest={sha256(content)}", b""), 201):
        del journal.open_uploads[location]
        journal.acknowledge(f"/v2/crash/chunks/blobs/{sha256(content)}", content)


def write_images(gateway: Served, journal: Journal, seed: int) -> None:
    """Images, each with a tag of its own; every other one is pushed again at once."""
    layer = random.Random(seed).randbytes(3_000)
    gateway.push_blob("crash/images", CONFIG)
    gateway.push_blob("crash/images", layer)
    manifest = image_manifest(CONFIG, layer)
    path = f"/v2/crash/images/manifests/t{seed}"
    for _ in range(1 + seed % 2):
        if journal.note(gateway.admin("PUT", path, manifest, {"Content-Type": OCI_MANIFEST}), 201):
            journal.acknowledge(path, manifest)
            journal.acknowledge(f"/v2/crash/images/manifests/{sha256(manifest)}", manifest)
            journal.acknowledge(f"/v2/crash/images/blobs/{sha256(layer)}", layer)


def move_tag(gateway: Served, journal: Journal, seed: int) -> None:
    """One tag that moves as fast as it can."""
    gateway.push_blob("crash/hot", CONFIG)
    manifest = image_manifest(CONFIG, annotations={"seed": str(seed)})
    number = journal.send_hot(sha256(manifest))
    if journal.note(gateway.admin("PUT", HOT, manifest, {"Content-Type": OCI_MANIFEST}), 201):
        journal.acknowledge_hot(number)


def finish_open_uploads(gateway: Served, journal: Journal) -> None:
    """Sessions survive the kill: each goes on where GET says it is, or has ended cleanly with its commit."""
    for location, content in list(journal.open_uploads.items()):
        status = gateway.admin("GET", location)
        if not journal.note(status, 204, 404):
            continue
        del journal.open_uploads[location]
        path = f"/v2/crash/chunks/blobs/{sha256(content)}"
        if status.status == 404:  # its PUT was committed, but the answer never left
            assert gateway.admin("GET", path).body == content
            continue
        last = int(status.headers["range"].partition("-")[2])
        rest = content[last + 1 :] if last else content
        if journal.note(gateway.admin("PUT", f"{location}?digest={sha256(content)}", rest), 201):
            journal.acknowledge(path, content)


def run_until_killed(gateway: Served, journal: Journal, generator: random.Random) -> None:
    """Four writers, until the gateway is killed at a random moment."""
    stop = threading.Event()

    def loop(act: Callable[[Served, Journal, int], None], seed: int) -> None:
        while not stop.is_set():
            # The connection breaks when the kill comes: then nothing was acknowledged.
            with contextlib.suppress(OSError, http.client.HTTPException):
                act(gateway, journal, seed)
            seed += 1

    acts = (write_blobs, write_chunks, write_images, move_tag)
    threads = [threading.Thread(target=loop, args=(act, generator.getrandbits(40))) for act in acts]
    for thread in threads:
        thread.start()
    time.sleep(generator.uniform(0.1, 0.9))  # the moment of the kill is the test's random input
    gateway.kill()
    stop.set()
    for thread in threads:
        thread.join()


def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After each kill and restart every acknowledged blob, manifest and tag is byte-exact, and no answer is 5xx."""
    seed = random.SystemRandom().getrandbits(32)
    generator, journal = random.Random(seed), Journal()
    gateway = Served(tmp_path)
    gateway.start()
    try:
        for number in range(ROUNDS):
            journal.fresh.clear()
            run_until_killed(gateway, journal, generator)
            gateway.start()
            finish_open_uploads(gateway, journal)
            older = generator.sample(sorted(journal.content), min(SAMPLE, len(journal.content)))
            wrong = verify(gateway, journal, [*journal.fresh, *older]) + verify_hot(gateway, journal, HOT)
            assert (wrong, journal.failures) == ([], []), f"round {number}, seed {seed}"
        assert verify(gateway, journal, sorted(journal.content)) == []
    finally:
        gateway.kill()
    print(f"{ROUNDS} kills, {len(journal.content)} acknowledged, {len(journal.hot_sent)} moves of one tag, 0 lost")
