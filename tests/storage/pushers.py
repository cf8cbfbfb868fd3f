"""Clients that push, delete and read the same few blobs without pause, beside a sweep that never rests.

As a process of its own, which prints what it was acknowledged as one line of JSON when its time is over:

    pushers.py DATABASE DIRECTORY SEED SECONDS
"""

import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from storage import (
    BlobUnknown,
    Busy,
    Content,
    Database,
    Digest,
    FilesystemStore,
    Pool,
    Span,
    SqliteDatabase,
    Sweep,
    SweepSettings,
    UploadUnknown,
)
from storage.metadata import images, repositories
from storage.records import RepositoryRecord
from tests.storage.place import read
from tests.storage.scene import BlobMissing, delete_manifest, put_manifest

ACCOUNT = 1
POOL = [random.Random(seed).randbytes(size) for seed, size in enumerate((0, 1, 100, 5_000, 70_000, 300_000) * 2)]


@dataclass(frozen=True)
class Acknowledged:
    """A manifest that was acknowledged and not deleted since."""

    image: str
    digest: str
    needs: tuple[int, ...]


@dataclass
class Pusher:
    """One client. Whatever it was acknowledged has to be there until it deletes it itself."""

    database: Database
    content: Content
    repository: RepositoryRecord
    clock: Callable[[], float]
    seed: int
    acknowledged: list[Acknowledged] = field(default_factory=list)
    refused: int = 0
    done: int = 0

    async def run(self) -> None:
        """Push until cancelled. Raises AssertionError as soon as something acknowledged is not there."""
        chance = random.Random(self.seed)
        while True:
            # Each act is finished before the pusher ends, so that it knows what it was told.
            with trio.CancelScope(shield=True):
                await self._act(chance)
            self.done += 1
            await trio.lowlevel.checkpoint()

    async def _act(self, chance: random.Random) -> None:
        act = chance.random()
        if act < 0.1:
            await self._abandon(chance)
        elif act < 0.3 and self.acknowledged:
            await self._delete(chance)
        elif act < 0.5 and self.acknowledged:
            await self._pull(chance)
        else:
            await self._push(chance)

    async def _push(self, chance: random.Random) -> None:
        image = f"image-{chance.randrange(4)}"
        needs = tuple(chance.sample(range(len(POOL)), chance.randint(1, 4)))
        salt = f"{self.seed}-{self.done}"
        for _ in range(100):
            for number in needs:
                await self._bring(image, number)
            try:
                digest = await self.database.transaction(
                    put_manifest,
                    self.repository,
                    image,
                    [Digest.of(POOL[number]) for number in needs],
                    tag=chance.choice([None, "latest"]),
                    salt=salt,
                    now=int(self.clock()),
                )
            except BlobMissing:  # with so little grace a blob can go between two requests: the client sends it again
                self.refused += 1
            else:
                self.acknowledged.append(Acknowledged(image, str(digest), needs))
                return
        raise AssertionError("a hundred attempts at one image were refused")

    async def _bring(self, image: str, number: int) -> None:
        """Ask for the blob, and send it if it is not there."""
        data = POOL[number]
        while not await self._has(image, Digest.of(data)):
            try:
                await self._send(image, data)
            except (UploadUnknown, Busy):  # the session expired between two requests, or does just now
                self.refused += 1

    async def _send(self, image: str, data: bytes) -> None:
        record = await self.content.begin(self.repository, image, account_id=ACCOUNT)
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            async with self.content.resume(record) as upload:
                if part:
                    await upload.append(part)
                await self.content.save(upload)
        async with self.content.resume(record) as upload:
            await self.content.commit(upload, Digest.of(data), repository=self.repository)

    async def _has(self, image: str, digest: Digest) -> bool:
        place = await self.database.read(images.find, self.repository.id, image)
        if place is None:
            return False
        try:
            await self.content.find(place.id, digest)
        except BlobUnknown:
            return False
        return True

    async def _abandon(self, chance: random.Random) -> None:
        record = await self.content.begin(self.repository, "image-0", account_id=ACCOUNT)
        data = chance.choice(POOL)
        try:
            async with self.content.resume(record) as upload:
                if data:
                    await upload.append(data)
                if chance.random() < 0.5:
                    await upload.staging.publish(Digest.of(data))
        except (UploadUnknown, Busy):
            self.refused += 1

    async def _delete(self, chance: random.Random) -> None:
        chosen = self.acknowledged.pop(chance.randrange(len(self.acknowledged)))
        await self.database.transaction(
            delete_manifest, self.repository, chosen.image, Digest.parse(chosen.digest), now=int(self.clock())
        )

    async def _pull(self, chance: random.Random) -> None:
        chosen = chance.choice(self.acknowledged)
        await pull(self.database, self.content, self.repository, chosen)


async def pull(database: Database, content: Content, repository: RepositoryRecord, wanted: Acknowledged) -> None:
    """Read everything that a manifest needs, byte for byte."""
    place = await database.read(images.find, repository.id, wanted.image)
    assert place is not None
    for number in wanted.needs:
        found = await content.find(place.id, Digest.of(POOL[number]))
        async with content.open(found, Span(0, found.size_bytes)) as reader:
            assert await read(reader) == POOL[number]


async def sweep_for_ever(sweep: Sweep, *, between: Callable[[], object] = bool) -> None:
    """One run after the other until cancelled; a run that had trouble ends everything."""
    while True:
        report = await sweep.run()
        assert report.trouble == []
        between()
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def installation(database_file: Path, directory: Path) -> AsyncIterator[tuple[Database, Content]]:
    """A worker over a database and a directory, with a second of grace."""
    async with SqliteDatabase(database_file) as database:
        store = FilesystemStore(directory, pool=Pool("disk", 4))
        await store.prepare()
        content = Content(database, {"main": store}, grace_s=1, uploads_per_account=1 << 30)
        await content.prepare()
        yield database, content


async def _main(database_file: Path, directory: Path, seed: int, seconds: float) -> None:
    async with installation(database_file, directory) as (database, content):
        repository = await database.read(repositories.find, "common", "hosted")
        assert repository is not None
        pushers = [Pusher(database, content, repository, time.time, seed * 10 + number) for number in range(2)]
        settings = SweepSettings(grace_s=1, undelete_s=0, upload_expiry_s=1)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for pusher in pushers:
                    nursery.start_soon(pusher.run)
                nursery.start_soon(sweep_for_ever, Sweep(database, content, settings))
        acknowledged = [[each.image, each.digest, each.needs] for pusher in pushers for each in pusher.acknowledged]
        print(json.dumps({"done": sum(pusher.done for pusher in pushers), "acknowledged": acknowledged}))


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
