"""A replica dies in the middle of its work: the others go on with pushes and with jobs, and pulls do not notice."""

import contextlib
import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.test_rolling_restart import NAME, Load, wait_for_progress
from tests.faults.blobs import pull
from tests.faults.fault import UP, Stall
from tests.faults.proxy import FaultProxy
from tests.faults.s3_requests import asks
from tests.replicas.pair import serve
from tests.served import ADMIN, Reply, Served, authorization, sha256
from tests.servers.installation import Installation
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.replicas, pytest.mark.slow, pytest.mark.timeout(180)]

MIB = 1 << 20
RESUMED_S = 20.0
PASSED_ON_S = 30.0


def test_a_push_goes_on_at_another(installation: Installation, tmp_path: Path) -> None:
    """Killed in the middle of a PATCH, a replica takes nothing acknowledged with it: the push ends on the other one."""
    content = os.urandom(40 * MIB)
    acknowledged = 22 * MIB
    with serve(installation, tmp_path) as replicas:
        here, there = replicas.members
        location = here.admin("POST", "/v2/team/app/blobs/uploads/", b"").headers["location"]
        taken = here.admin("PATCH", location, content[:acknowledged])
        assert taken.status == 202, taken
        die_in_patch(here, taken.headers["location"], content[acknowledged:])
        began = time.monotonic()

        def stands() -> bool:
            return there.admin("GET", location).status == 204

        assert wait_until(stands, RESUMED_S)
        status = there.admin("GET", location)
        offset = int(status.headers["range"].partition("-")[2]) + 1
        assert offset >= acknowledged
        answers: list[Reply] = []

        def goes_on() -> bool:
            span = {"Content-Range": f"{offset}-{len(content) - 1}"}
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                answers.append(there.admin("PATCH", status.headers["location"], content[offset:], span))
            return bool(answers) and answers[-1].status == 202

        assert wait_until(goes_on, RESUMED_S), answers
        print(f"\nresumed at {offset / MIB:.1f} MiB after {time.monotonic() - began:.1f} s, tries: {len(answers)}")
        assert {each.status for each in answers} <= {202, 409, 503}
        put = there.admin("PUT", f"{answers[-1].headers['location']}?digest={sha256(content)}", b"")
        assert put.status == 201, put
        here.start()
        for member in replicas.members:
            assert pull(member, "team/app", sha256(content)).body == content
        assert replicas.stored(sha256(content)) == 1
        assert installation.s3.uploads(installation.bucket) == []


def die_in_patch(gateway: Served, location: str, rest: bytes) -> None:
    """Kill the gateway while it reads a PATCH of which it has some megabytes."""
    connection = gateway.connection()
    connection.putrequest("PATCH", location)
    for name, value in {**authorization(ADMIN), "Content-Length": str(len(rest))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    connection.send(rest[: 10 * MIB])
    gateway.kill()
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()


@pytest.fixture
def proxies(installation: Installation) -> Iterator[list[FaultProxy]]:
    """A proxy in front of S3 for each replica."""
    with ExitStack() as stack:
        yield [stack.enter_context(FaultProxy(installation.s3_port)) for _ in range(2)]


def test_a_dead_leaders_lease_passes_on(installation: Installation, proxies: list[FaultProxy], tmp_path: Path) -> None:
    """One replica at a time collects garbage; killed in the middle of it, it is followed by the other within 30 s."""
    installation.further.update(SLUICE_GARBAGE__INTERVAL_S="1", SLUICE_GARBAGE__GRACE_S="1")
    environments = [installation.environment(s3_endpoint=proxy.endpoint) for proxy in proxies]
    is_delete = asks("DeleteObject", "DeleteObjects")

    def at_work() -> list[int]:
        return [number for number, proxy in enumerate(proxies) if proxy.seen(is_delete)]

    with serve(installation, tmp_path, environments=environments) as replicas:
        for proxy in proxies:
            proxy.forget()  # what was deleted at the start was a probe
            proxy.harm(Stall(direction=UP), is_delete)
        digest = replicas.through.push_blob("team/app", os.urandom(50_000))  # nothing refers to it
        assert wait_until(lambda: bool(at_work()), 20)
        (leader,) = holders(installation)
        assert {tuple(holders(installation)) for _ in range(50)} == {(leader,)}
        (dead,) = at_work()
        replicas.members[dead].kill()
        killed = time.monotonic()
        proxies[1 - dead].heal()

        assert wait_until(lambda: not replicas.stored(digest), PASSED_ON_S)
        print(f"\nthe other collected {time.monotonic() - killed:.1f} s after the kill")
        assert at_work() == [0, 1]
        assert leader not in holders(installation)


def holders(installation: Installation) -> list[object]:
    """Who holds the lease of the garbage collection just now, by the database's clock."""
    query = "SELECT holder FROM leases WHERE name = 'garbage' AND expires_at > extract(epoch FROM clock_timestamp())"
    return [holder for (holder,) in installation.rows(query)]


def test_rolling_restarts_cost_no_pull(installation: Installation, tmp_path: Path) -> None:
    """Each replica is stopped and started twice under pullers and pushers: no pull fails, nothing is lost."""
    installation.further.update(SLUICE_SERVER__DRAIN_TIMEOUT_S="20")
    with ExitStack() as stack:
        replicas = stack.enter_context(serve(installation, tmp_path))
        layers = [os.urandom(300_000), os.urandom(5_000)]
        _, image = replicas.through.push_image(NAME, "v1", *layers)
        large = os.urandom(12 * MIB)
        digest = replicas.through.push_blob(NAME, large)
        load = Load(replicas.front.port)
        contents = {sha256(layer): layer for layer in layers}
        clients = [threading.Thread(target=load.pull, args=(image, contents)) for _ in range(4)]
        clients += [threading.Thread(target=load.pull_slowly, args=(digest, len(large))) for _ in range(2)]
        clients += [threading.Thread(target=load.push, args=(number,)) for number in range(2)]
        for client in clients:
            client.start()
        stack.callback(load.over.set)
        for number in range(4):
            member = replicas.members[number % 2]
            before = load.pulled, len(load.pushed)
            assert member.stop() == 0
            member.start()
            wait_for_progress(load, *before)
        load.over.set()
        for client in clients:
            client.join()
        print(f"\n{load.pulled} pulls, {len(load.pushed)} pushes with {len(load.retried)} steps tried again")

        assert load.failed == []
        for tag, manifest in load.pushed.items():
            assert replicas.through.admin("GET", f"/v2/{NAME}/manifests/{tag}").body == manifest
