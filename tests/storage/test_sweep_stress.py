"""Pushers and sweeps at full speed over the same few blobs: nothing dangles, nothing is lost, nothing is left over."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from storage import Database, Digest, FilesystemStore, Pool, Sweep, SweepSettings
from storage.metadata import garbage
from tests.storage import pushers
from tests.storage.place import areas_of, objects_of
from tests.storage.pushers import POOL, Acknowledged, Pusher, pull, sweep_for_ever
from tests.storage.scene import EXPIRY_S, Clock, Scene


async def assert_all_there_and_nothing_else(scene: Scene, acknowledged: list[Acknowledged]) -> None:
    """Everything acknowledged is whole; after all grace the store holds it and nothing else."""
    for wanted in acknowledged:
        await pull(scene.database, scene.content, scene.repository, wanted)
    for _ in range(4):
        scene.clock.advance(EXPIRY_S + scene.grace_s)
        assert (await scene.sweep().run()).trouble == []
    for wanted in acknowledged:
        await pull(scene.database, scene.content, scene.repository, wanted)
    rows = await scene.database.survey(garbage.every_blob, after=0, limit=1000)
    assert {row.stored.digest for row in rows} == {
        Digest.of(POOL[number]) for wanted in acknowledged for number in wanted.needs
    }
    assert set(await objects_of(scene.store)) == {row.stored.key for row in rows}
    assert await areas_of(scene.store) == {}


@pytest.mark.slow
@pytest.mark.parametrize("grace_s", [0, 1])
async def test_four_pushers_and_a_sweep(database: Database, tmp_path: Path, grace_s: int) -> None:
    """Four clients over two workers, while one run of the sweep follows the other and each takes a second of grace."""
    store = FilesystemStore(tmp_path / "blobs", pool=Pool("disk", 4))
    await store.prepare()
    clock = Clock()
    scene = await Scene(database, store, clock, grace_s=grace_s, uploads_per_account=1 << 30).prepare()
    workers = [scene.content, await scene.worker()]
    clients = [Pusher(database, workers[seed % 2], scene.repository, clock, seed) for seed in range(4)]
    settings = SweepSettings(grace_s=grace_s, undelete_s=grace_s, upload_expiry_s=1)

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run)
        sweep = Sweep(database, await scene.worker(), settings, clock=clock)
        runs = 0

        def tick() -> None:
            nonlocal runs
            runs += 1
            clock.advance(1)
            if sum(client.done for client in clients) >= 150 and runs >= 20:
                nursery.cancel_scope.cancel()

        nursery.start_soon(lambda: sweep_for_ever(sweep, between=tick))
    await assert_all_there_and_nothing_else(scene, [each for client in clients for each in client.acknowledged])


@pytest.mark.slow
async def test_two_processes(database: Database, database_file: Path, tmp_path: Path) -> None:
    """Two processes, each with two clients and a sweep of its own, at real time with a second of grace."""
    directory = tmp_path / "blobs"
    store = FilesystemStore(directory, pool=Pool("disk", 4))
    await store.prepare()
    scene = await Scene(database, store, Clock(), grace_s=1).prepare()
    acknowledged = run_processes(database_file, directory)
    await assert_all_there_and_nothing_else(scene, acknowledged)


def run_processes(database_file: Path, directory: Path) -> list[Acknowledged]:
    """Let two processes push for five seconds; what they were acknowledged."""
    command = [sys.executable, pushers.__file__, str(database_file), str(directory)]
    with ExitStack() as stack:
        running = [
            stack.enter_context(subprocess.Popen([*command, seed, "5"], stdout=subprocess.PIPE, text=True))
            for seed in ("1", "2")
        ]
        for process in running:
            stack.callback(process.kill)
        told = [json.loads(process.communicate(timeout=60)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert min(each["done"] for each in told) > 5
    return [Acknowledged(image, digest, tuple(needs)) for each in told for image, digest, needs in each["acknowledged"]]
