"""Several processes over one hot set: one fetch, followers, and what a killed filler leaves."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import pytest
import trio

from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.filesystem import FilesystemStore
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from tests.storage.hotset_place import MIB, hot_set
from tests.storage.place import content_of

pytestmark = pytest.mark.slow

SIZE = 24 * MIB
CONTENT = bytes(range(251)) * (SIZE // 251) + b"!" * (SIZE % 251)

# Pulls the blob through the hot set. Its origin waits for a line on standard input before it gives bytes beyond
# `stall_at`, and counts what it gives.
WORKER = """
import json, pathlib, sys, trio
from contextlib import asynccontextmanager
from storage.blobstore import Span
from storage.blocking import Pool
from storage.digest import Digest, Hasher
from storage.filesystem import FilesystemStore
from storage.hotset import HotSet
from storage.hotset_store import HotSetStore
from storage.intake import Intakes
from storage.blobstore import StoredObject

root, key, digest, size, stall_at = sys.argv[1:]
stored = StoredObject(key, Digest.parse(digest), int(size), int(size), "identity", 0)
given = 0

class Slow(FilesystemStore):
    @asynccontextmanager
    async def open(self, stored, span):
        async with super().open(stored, span) as reader:
            yield Reader(reader, span)

class Reader:
    file = None
    def __init__(self, reader, span):
        self.reader, self.position = reader, span.start
    async def chunks(self):
        global given
        async for chunk in self.reader.chunks():
            if self.position >= int(stall_at):
                print("stalled", flush=True)
                await trio.to_thread.run_sync(sys.stdin.readline)
            self.position += len(chunk)
            given += len(chunk)
            yield chunk

async def main():
    store = Slow(pathlib.Path(root, "store"), pool=Pool("disk", 2))
    hotset = HotSet(pathlib.Path(root, "hot"), capacity_bytes=1 << 30, reserve_bytes=0, pool=Pool("hot", 2))
    await hotset.prepare()
    print("ready", flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    hasher = Hasher()
    async with Intakes.open() as intakes:
        async with HotSetStore(store, hotset, intakes).open(stored, Span(0, stored.size_bytes)) as reader:
            first = True
            async for chunk in reader.chunks():
                hasher.update(chunk)
                if first:
                    print("first", flush=True)
                    first = False
        await intakes.wait_idle()
        print(json.dumps([str(hasher.digest()), given, intakes.statistics().followed]), flush=True)

trio.run(main)
"""


class Worker:
    """One process that pulls the blob when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def go(self, times: int = 1) -> None:
        """Let it go on, so many times."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n" * times)
        self.process.stdin.flush()

    def wait_for(self, line: str) -> None:
        """Read what it says until it says this."""
        while (said := self._output.readline()) != f"{line}\n":
            assert said, f"it ended before it said {line}"

    def result(self) -> tuple[Digest, int, int]:
        """What it pulled, how many bytes of it from the origin, and whether it followed another process."""
        while not (said := self._output.readline()).startswith("["):
            assert said, "it ended without a result"
        digest, given, followed = json.loads(said)
        return Digest.parse(digest), given, followed


class Scene:
    """A directory with a store that has one blob, and a hot set."""

    def __init__(self, root: Path) -> None:
        self.root = root
        trio.run(self._furnish)

    async def _furnish(self) -> None:
        store = FilesystemStore(self.root / "store", pool=Pool("disk", 2))
        await store.prepare()
        hasher = Hasher()
        async with store.stage("one", create=True) as staging:
            for start in range(0, SIZE, MIB):
                await staging.write(CONTENT[start : start + MIB], hasher)
            self.stored = await staging.publish(hasher.digest())
            await staging.discard()

    @contextmanager
    def workers(self, *, followers: int = 0) -> Iterator[list[Worker]]:
        """Processes that are ready to pull; the origin of the first one stalls in the middle."""
        with ExitStack() as stack:
            found = [
                stack.enter_context(self._process(SIZE // 2 if not each else SIZE)) for each in range(1 + followers)
            ]
            for worker in found:
                worker.wait_for("ready")
            yield found

    @contextmanager
    def _process(self, stall_at: int) -> Iterator[Worker]:
        facts = [self.root, self.stored.key, self.stored.digest, SIZE, stall_at]
        command = [sys.executable, "-c", WORKER, *map(str, facts)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                yield Worker(process)
            finally:
                process.kill()


def test_one_fetch_for_all_processes(tmp_path: Path) -> None:
    """Processes that want the blob while another fetches it follow the growing file; the origin gives it once."""
    scene = Scene(tmp_path)
    with scene.workers(followers=2) as (filler, *followers):
        filler.go()
        filler.wait_for("stalled")
        for follower in followers:
            follower.go()
            follower.wait_for("first")
        filler.go(SIZE // MIB * 4)
        results = [each.result() for each in (filler, *followers)]
    assert {digest for digest, _, _ in results} == {scene.stored.digest}
    assert [given for _, given, _ in results] == [SIZE, 0, 0]
    assert [followed for _, _, followed in results] == [0, 1, 1]


def test_killed_filler_is_replaced(tmp_path: Path) -> None:
    """When the filler is killed, one of the followers takes over where the file ends, and all pulls are right."""
    scene = Scene(tmp_path)
    with scene.workers(followers=3) as (filler, *followers):
        filler.go()
        filler.wait_for("stalled")
        for follower in followers:
            follower.go()
            follower.wait_for("first")
        filler.process.kill()
        results = [follower.result() for follower in followers]
    assert {digest for digest, _, _ in results} == {scene.stored.digest}
    fetched = sorted(given for _, given, _ in results)
    assert fetched[:2] == [0, 0]
    assert SIZE // 2 <= fetched[2] < SIZE // 2 + 2 * MIB


def test_start_after_a_kill(tmp_path: Path) -> None:
    """What a killed process left growing is removed at the next start, and its room is free again."""
    scene = Scene(tmp_path)
    with scene.workers() as (filler,):
        filler.go()
        filler.wait_for("stalled")

        async def look(expected: int) -> None:
            hotset = await hot_set(tmp_path / "hot", capacity_bytes=1 << 30)
            assert len(list(hotset._layout.walk_growing())) == expected
            assert hotset._room.recount(now=0) == expected * SIZE

        trio.run(look, 1)  # it is being filled
        filler.process.kill()
        filler.process.wait()
        trio.run(look, 0)


async def test_pull_after_a_kill_without_restart(tmp_path: Path) -> None:
    """A process that runs on takes over what a killed one left, and fetches only the rest."""
    scene = await trio.to_thread.run_sync(Scene, tmp_path)  # noqa: TID251  # it runs a loop of its own
    store = FilesystemStore(tmp_path / "store", pool=Pool("disk", 2))
    hotset = await hot_set(tmp_path / "hot", capacity_bytes=1 << 30)
    with scene.workers() as (filler,):
        filler.go()
        filler.wait_for("stalled")
        filler.process.kill()
        filler.process.wait()
    async with Intakes.open() as intakes:
        assert await content_of(HotSetStore(store, hotset, intakes), scene.stored) == CONTENT
        assert SIZE // 2 <= intakes.statistics().source_bytes < SIZE // 2 + 2 * MIB
        assert await content_of(HotSetStore(store, hotset, intakes), scene.stored) == CONTENT
        assert intakes.statistics().source_bytes < SIZE
