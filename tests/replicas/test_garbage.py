"""Garbage collection every second on two replicas beside pushers that share layers: all garbage goes, nothing else."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.replicas.pair import Replicas, serve
from tests.served import OCI_MANIFEST, Served, image_manifest, sha256
from tests.servers.installation import Installation
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.replicas, pytest.mark.slow, pytest.mark.timeout(300)]

PUSHERS, SECONDS = 8, 15.0
GRACE_S = 12
"""That a client was told of a blob is written down within 5 s, and is noted from half of the grace period on."""
HALF_S = GRACE_S / 2
"""A push that takes longer may find that what it was told of is gone: who is that slow asks again, as clients do."""
CLEAN_S = 120.0
LAYERS = [random.Random(number).randbytes(2_000 + 997 * number) for number in range(40)]
CONFIG = b'{"architecture":"amd64","os":"linux"}'


@dataclass(slots=True)
class Work:
    """What the pushers have done: the images that stand, by their path, with their layers, and what went wrong."""

    standing: dict[str, tuple[bytes, tuple[bytes, ...]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    pushed: int = 0
    deleted: int = 0
    over: threading.Event = field(default_factory=threading.Event)


def push_and_delete(gateway: Served, work: Work, number: int) -> None:
    """Push images of shared layers as clients do, which ask before they send; delete every other one again."""
    chance, name, count = random.Random(number), f"team/garbage-{number % 4}", 0
    while not work.over.is_set():
        count += 1
        layers = tuple(chance.sample(LAYERS, 3))
        manifest = image_manifest(CONFIG, *layers, annotations={"by": f"{number}-{count}"})
        path = f"/v2/{name}/manifests/t{number}-{count}"
        began = time.monotonic()
        for content in (CONFIG, *layers):
            if gateway.admin("HEAD", f"/v2/{name}/blobs/{sha256(content)}").status != 200:
                gateway.push_blob(name, content)
        put = gateway.admin("PUT", path, manifest, {"Content-Type": OCI_MANIFEST})
        took_s = time.monotonic() - began
        if put.status != 201:
            if took_s < HALF_S or put.status >= 500:
                work.failures.append(f"{path}: {put.status} {put.body[:300]!r} after {took_s:.1f} s")
            continue
        work.pushed += 1
        if count % 2:
            gone = gateway.admin("DELETE", f"/v2/{name}/manifests/{sha256(manifest)}")
            work.deleted += gone.status == 202
        else:
            work.standing[path] = (manifest, layers)


def test_garbage_goes_and_nothing_else(installation: Installation, tmp_path: Path) -> None:
    """While 8 pushers work none of them fails; afterwards the bucket holds exactly what the standing images need."""
    installation.further.update(
        SLUICE_GARBAGE__INTERVAL_S="1",
        SLUICE_GARBAGE__GRACE_S=str(GRACE_S),
        SLUICE_GARBAGE__UNDELETE_S="1",
        SLUICE_GARBAGE__UPLOAD_EXPIRY_S="30",
    )
    with serve(installation, tmp_path) as replicas:
        work = Work()
        threads = [threading.Thread(target=push_and_delete, args=(replicas.through, work, n)) for n in range(PUSHERS)]
        for thread in threads:
            thread.start()
        work.over.wait(SECONDS)
        work.over.set()
        for thread in threads:
            thread.join()
        wanted = {sha256(content) for _, layers in work.standing.values() for content in (CONFIG, *layers)}
        garbage = [random.Random(f"garbage {number}").randbytes(3_000) for number in range(5)]
        for content in garbage:
            replicas.through.push_blob("team/garbage-0", content)

        def is_clean() -> bool:
            staged = installation.s3.objects(installation.bucket, "staging/")
            return kept(replicas) <= wanted and len(installation.blobs()) <= len(wanted) and not staged

        assert wait_until(is_clean, CLEAN_S), kept(replicas) - wanted
        print(f"\n{work.pushed} pushed, {work.deleted} deleted, {len(work.standing)} standing, {len(wanted)} blobs")
        assert work.failures == []
        assert work.deleted > PUSHERS
        check(replicas, work)
        assert kept(replicas) == wanted
        assert len(installation.blobs()) == len(wanted)
        assert installation.s3.objects(installation.bucket, "staging/") == {}
        assert installation.s3.uploads(installation.bucket) == []


def kept(replicas: Replicas) -> set[str]:
    """The digests whose bytes are in the bucket, by their markers."""
    return {f"sha256:{key.split('/')[2]}" for key in replicas.installation.markers()}


def check(replicas: Replicas, work: Work) -> None:
    """Every standing image is there on both, byte for byte."""
    for number, (path, (manifest, layers)) in enumerate(work.standing.items()):
        member = replicas.members[number % 2]
        assert member.admin("GET", path).body == manifest
        name = path.split("/manifests/")[0]
        for layer in layers:
            assert member.admin("GET", f"{name}/blobs/{sha256(layer)}").body == layer
