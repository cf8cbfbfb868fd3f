"""What is pushed through two replicas in turn is one registry's content, whichever of them is asked for it."""

import itertools
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.faults.blobs import Pushed, pull, push
from tests.replicas.pair import Replicas
from tests.served import OCI_MANIFEST, Served, image_manifest, sha256
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.replicas, pytest.mark.slow]

KIB, MIB = 1 << 10, 1 << 20


def test_replicas_share_nothing_on_disk(replicas: Replicas) -> None:
    """What the tests call two replicas are two data directories, without a database and without blobs."""
    first, second = (member.data for member in replicas.members)
    assert first != second
    for folder in (first, second):
        assert not (folder / "sluice.db").exists()
        assert not (folder / "blobs").exists()


@pytest.mark.parametrize(
    ("chunk_bytes", "size_bytes"),
    [(KIB, 48 * KIB + 1), (100 * KIB, 3 * MIB), (MIB, 20 * MIB), (5 * MIB + 1, 33 * MIB), (20 * MIB, 45 * MIB)],
)
def test_each_request_of_a_push_goes_elsewhere(replicas: Replicas, chunk_bytes: int, size_bytes: int) -> None:
    """A blob in chunks, each to the other replica, is stored once, byte for byte, and no answer is a failure."""
    name, content = f"team/chunks-{chunk_bytes}", os.urandom(size_bytes)
    mark = len(replicas.front.turns)

    pushed = push(replicas.through, name, content, chunk_bytes=chunk_bytes, tries=1)

    assert pushed.acknowledged, (pushed.statuses, pushed.answers)
    dealt = [turn.replica for turn in replicas.front.turns[mark:]]
    assert len(dealt) == 2 + -(-size_bytes // chunk_bytes)
    assert all(one != another for one, another in itertools.pairwise(dealt))
    for member in replicas.members:
        assert pull(member, name, pushed.digest).body == content
    assert replicas.stored(pushed.digest) == 1
    assert replicas.installation.s3.uploads(replicas.installation.bucket) == []


def test_many_pushes_of_one_blob_are_one_object(replicas: Replicas) -> None:
    """Fifty clients push the same bytes at once into fifty images: one object stays, and each image has its link."""
    content = os.urandom(MIB + 4321)  # a size that no other blob of the run has
    names = [f"team/same-{number}" for number in range(50)]

    def one(name: str) -> Pushed:
        return push(replicas.through, name, content, chunk_bytes=300_000, tries=1)

    with ThreadPoolExecutor(50) as pool:
        pushes = list(pool.map(one, names))

    refused = [(each.statuses, each.answers) for each in pushes if not each.acknowledged]
    assert refused == []
    digest = sha256(content)
    for number, name in enumerate(names):  # by GET, which links nothing: HEAD tells pushers what they need not send
        assert replicas.members[number % 2].admin("GET", f"/v2/{name}/blobs/{digest}").status == 200
    assert replicas.members[0].admin("GET", f"/v2/team/same-none/blobs/{digest}").status == 404
    assert replicas.stored(digest) == 1
    assert Counter(replicas.installation.blobs().values())[len(content)] == 1
    assert pull(replicas.through, names[-1], digest).body == content


def test_a_tag_is_seen_by_the_other_at_once(replicas: Replicas) -> None:
    """Pushed to one replica, a tag is pulled from the other in the next request, however often it moves and is warm."""
    name = "team/tagged"
    config = b"{}"
    replicas.through.push_blob(name, config)
    manifests = [image_manifest(config, annotations={"number": str(number)}) for number in range(40)]
    for number, manifest in enumerate(manifests):
        here, there = replicas.members[number % 2], replicas.members[1 - number % 2]
        put = here.admin("PUT", f"/v2/{name}/manifests/latest", manifest, {"Content-Type": OCI_MANIFEST})
        assert put.status == 201
        assert there.admin("GET", f"/v2/{name}/manifests/latest").body == manifest
        assert here.admin("GET", f"/v2/{name}/manifests/latest").body == manifest

    assert replicas.members[0].admin("DELETE", f"/v2/{name}/manifests/latest").status == 202
    assert replicas.members[1].admin("GET", f"/v2/{name}/manifests/latest").status == 404


def test_what_one_deleted_the_other_does_not_serve(replicas: Replicas) -> None:
    """A manifest that was warm on both replicas is gone from both within a second of its deletion."""
    took_s = []
    for number in range(3):
        name, layer = f"team/deleted-{number}", os.urandom(10_000)
        digest, _ = replicas.through.push_image(name, "v1", layer)
        warm = (f"/v2/{name}/manifests/{digest}", f"/v2/{name}/blobs/{sha256(layer)}")
        for member in replicas.members:
            for path in warm * 3:
                assert member.admin("GET", path).status == 200
        deleted = replicas.members[0].admin("DELETE", f"/v2/{name}/manifests/{digest}")
        began = time.monotonic()

        assert deleted.status == 202
        assert replicas.members[0].admin("GET", warm[0]).status == 404
        assert wait_until(partial(is_gone, replicas.members[1], warm[0]), 30)
        took_s.append(time.monotonic() - began)

    assert min(took_s) < 1  # a machine that stands still for a moment does so for one of them


def is_gone(member: Served, path: str) -> bool:
    """Whether this replica does not serve it any more."""
    return member.admin("GET", path).status == 404


def test_a_session_and_a_mount_are_everybodys(replicas: Replicas) -> None:
    """A session begun on one replica is known, refused out of order, and cancelled by the other; so is a mount."""
    here, there = replicas.members
    location = here.admin("POST", "/v2/team/sessions/blobs/uploads/", b"").headers["location"]
    taken = there.admin("PATCH", location, b"x" * 1000, {"Content-Range": "0-999"})
    assert (taken.status, taken.headers["range"]) == (202, "0-999")
    wrong = here.admin("PATCH", taken.headers["location"], b"x" * 1000, {"Content-Range": "5000-5999"})
    assert wrong.status == 416
    assert here.admin("GET", location).headers["range"] == "0-999"
    assert here.admin("DELETE", location).status == 204
    assert there.admin("GET", location).status == 404

    digest = here.push_blob("team/mounted", os.urandom(1000))
    mounted = there.admin("POST", f"/v2/team/other/blobs/uploads/?mount={digest}&from=team/mounted", b"")
    assert mounted.status == 201
    assert here.admin("HEAD", f"/v2/team/other/blobs/{digest}").status == 200
