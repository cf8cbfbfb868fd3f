"""Several processes, and several machines over one database, that want one blob: one fetch, whoever is killed."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from storage import Digest, FilesystemStore, Pool, RepositoryRecord, Transaction
from storage.metadata import repositories
from tests.storage.arrivals_process import Server, Worker, worker
from tests.storage.database_process import database_at
from tests.storage.scene import Clock, Scene

pytestmark = pytest.mark.slow

MIB = 1 << 20
SIZE = 24 * MIB + 5
CONTENT = random.Random(5).randbytes(SIZE)
DIGEST = Digest.of(CONTENT)
UNFLUSHED = 2 * MIB
"""What a filler holds at most that is in no file yet, and a stream's buffers."""


@dataclass
class Fleet:
    """Processes over one database and one store, and the upstream."""

    root: Path
    database: str
    server: Server

    @contextmanager
    def workers(self, *machines: str, lifetime_s: int = 0) -> Iterator[list[Worker]]:
        """A process for each name of a machine, ready to pull for an image of its own."""
        with ExitStack() as stack:
            made = [
                stack.enter_context(
                    worker(
                        self.database,
                        self.root / "store",
                        self.root / machine,
                        self.server.port,
                        f"image-{number}",
                        DIGEST,
                        SIZE,
                        lifetime_s,
                    )
                )
                for number, machine in enumerate(machines)
            ]
            for each in made:
                each.wait_for("ready")
            yield made

    def wait_for_bytes(self, machine: str, size_bytes: int) -> None:
        """Wait until so much has come out of the sockets' buffers and into the file."""
        deadline = time.monotonic() + 30
        (growing,) = (self.root / machine / "main").iterdir()
        while growing.stat().st_size < size_bytes:
            assert time.monotonic() < deadline, growing.stat().st_size
            time.sleep(0.01)

    def stored(self, image: str) -> bytes:
        """What the image has, without an upstream."""

        async def look() -> bytes:
            async with database_at(self.database) as database:
                store = FilesystemStore(self.root / "store", pool=Pool("disk", 2))
                scene = Scene(database, store, Clock())
                scene.content = await scene.worker()
                found = await database.read(_repository)
                scene.repository = found
                return await scene.pull(DIGEST, image)

        return trio.run(look)


def _repository(tx: Transaction) -> RepositoryRecord:
    found = repositories.find(tx, "common", "hosted")
    assert found is not None
    return found


@pytest.fixture
def fleet(tmp_path: Path, database_place: str) -> Iterator[Fleet]:
    """Nothing has arrived yet; the upstream stalls in the middle."""

    async def furnish() -> None:
        async with database_at(database_place) as database:
            store = FilesystemStore(tmp_path / "store", pool=Pool("disk", 2))
            await store.prepare()
            await Scene(database, store, Clock()).prepare()

    trio.run(furnish)
    with Server(CONTENT, stall_at=SIZE // 2) as server:
        yield Fleet(tmp_path, database_place, server)


def expect(result: dict[str, object]) -> None:
    """It got the bytes, and its image has them."""
    assert (result["got"], result["stored"]) == (str(DIGEST), True)


@pytest.mark.parametrize("database_place", ["sqlite"], indirect=True)
def test_one_fetch_for_all_processes(fleet: Fleet) -> None:
    """Processes of one machine that want the blob while another fetches it follow its file, and all get their links."""
    with fleet.workers("here", "here", "here") as (filler, *followers):
        filler.go()
        assert fleet.server.stalled.wait(30)
        for each in followers:
            each.go()
            each.wait_for("first")
        fleet.server.go_on.set()
        for each in (filler, *followers):
            expect(each.result())
    assert (fleet.server.asked, fleet.server.sent_bytes) == ([(0, SIZE)], SIZE)
    assert [path.name for path in (fleet.root / "here" / "main").iterdir()] == []


@pytest.mark.parametrize("database_place", ["sqlite"], indirect=True)
def test_killed_filler_is_replaced(fleet: Fleet) -> None:
    """When the filler is killed, a follower goes on by range: the upstream sends hardly more than the blob."""
    with fleet.workers("here", "here", "here") as (filler, *followers):
        filler.go()
        assert fleet.server.stalled.wait(30)
        for each in followers:
            each.go()
            each.wait_for("first")
        fleet.wait_for_bytes("here", SIZE // 2 - MIB - MIB // 2)
        filler.kill()
        for each in followers:
            expect(each.result())
    (first, second) = fleet.server.asked
    assert (first, second[1]) == ((0, SIZE), SIZE)
    assert SIZE <= fleet.server.sent_bytes <= SIZE + UNFLUSHED
    assert fleet.stored("image-1") == fleet.stored("image-2") == CONTENT


def test_second_machine_waits(fleet: Fleet) -> None:
    """Of two machines one fetches; the other waits for the published blob, and reads it from the store."""
    with fleet.workers("one", "two", lifetime_s=60) as (first, second):
        first.go()
        assert fleet.server.stalled.wait(30)
        second.go()
        fleet.server.go_on.set()
        for each in (first, second):
            expect(each.result())
    assert (fleet.server.asked, fleet.server.sent_bytes) == ([(0, SIZE)], SIZE)


def test_machine_that_is_killed(fleet: Fleet) -> None:
    """When the machine that fetches dies, another takes its lease over after its lifetime, and fetches the blob."""
    with fleet.workers("one", "two", "two", lifetime_s=2) as (first, *others):
        first.go()
        assert fleet.server.stalled.wait(30)
        for each in others:
            each.go()
        first.kill()
        for each in others:
            expect(each.result())
    assert fleet.server.asked == [(0, SIZE), (0, SIZE)]
    assert fleet.stored("image-2") == CONTENT
