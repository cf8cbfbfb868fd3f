"""Pushes, manifests, deletions, mounts and single steps of the sweep, in any order and over two workers.

The machine keeps a model of what was promised: a link is good for its grace period after it was made or told of, and
as long as a manifest of its image needs it. Whatever is promised must be readable, byte for byte, after every act; and
once all grace is over, nothing may be left but what live manifests need.
"""

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage import (
    BlobStore,
    BlobUnknown,
    Content,
    Digest,
    FilesystemStore,
    MemoryStore,
    Pool,
    SqliteDatabase,
    SweepReport,
    UploadRecord,
    UploadUnknown,
)
from storage.metadata import garbage, tags
from storage.metadata.garbage import FIRST_REMOVAL
from storage.metadata.tables import links
from tests.storage.failing import commit, publish_only
from tests.storage.place import areas_of, objects_of
from tests.storage.scene import EXPIRY_S, GRACE_S, UNDELETE_S, BlobMissing, Clock, Scene
from tests.trio_thread import TrioThread

T = TypeVar("T")

# Few of everything, so that acts meet each other.
BLOBS = [b"", b"one", b"two" * 100_000]
DIGESTS = [Digest.of(data) for data in BLOBS]
IMAGES = ["a", "b"]
STEPS = 7

an_image = st.sampled_from(IMAGES)
a_blob = st.integers(0, len(BLOBS) - 1)
some_blobs = st.lists(a_blob, min_size=1, max_size=2, unique=True)
a_worker = st.integers(0, 1)
a_number = st.integers(0, 1000)


@dataclass
class Manifest:
    """What the model knows of a manifest."""

    image: str
    digest: Digest
    needs: frozenset[int]
    deleted_at: int | None = None


@dataclass
class Session:
    """An upload session with the first half of its blob."""

    record: UploadRecord
    blob: int
    touched_at: int


@dataclass
class Model:
    """What was promised. A link's time is that of its last renewal; it may be gone when its grace is over."""

    links: dict[tuple[str, int], int] = field(default_factory=dict)
    manifests: list[Manifest] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    def protects(self, manifest: Manifest, now: int) -> bool:
        """Whether a manifest certainly still has its references."""
        return manifest.deleted_at is None or now - manifest.deleted_at < UNDELETE_S

    def is_promised(self, image: str, blob: int, now: int) -> bool:
        """Whether the blob must be readable in the image."""
        linked_at = self.links.get((image, blob))
        if linked_at is None:
            return False
        return linked_at > now - GRACE_S or any(
            each.image == image and blob in each.needs and self.protects(each, now) for each in self.manifests
        )

    def is_kept(self, blob: int, now: int) -> bool:
        """Whether the blob's bytes must be there, readable or not."""
        return any(blob in each.needs and self.protects(each, now) for each in self.manifests)


class Machine(RuleBasedStateMachine):
    """The scene beside the model. Subclasses say where the bytes lie and where an empty database is to be had."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.thread = TrioThread()
        self.model = Model()
        self.clock = Clock()
        self.database = SqliteDatabase(Path(shutil.copy(self.template, self.directory / "sluice.db")))
        self.scene, self.workers = self.thread.run(self.open)

    async def open(self) -> tuple[Scene, list[Content]]:
        """The scene, and two workers in it."""
        await self.database.open()
        scene = await Scene(self.database, await self.make_store(), self.clock, uploads_per_account=1000).prepare()
        return scene, [scene.content, await scene.worker()]

    async def make_store(self) -> BlobStore:
        """A new store."""
        return MemoryStore(clock=self.clock)

    def run(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do something in the Trio run."""
        return self.thread.run(call, *args)

    @property
    def now(self) -> int:
        """The time."""
        return self.clock.now

    # --- pushes -----------------------------------------------------------------------------------------------------

    @rule(blob=a_blob, image=an_image, worker=a_worker)
    def push(self, blob: int, image: str, worker: int) -> None:
        """Push a whole blob."""

        async def act() -> None:
            await self.scene.push(BLOBS[blob], image, content=self.workers[worker])

        self.run(act)
        self.model.links[image, blob] = self.now

    @rule(blob=a_blob)
    def push_and_die(self, blob: int) -> None:
        """Push a blob, and die between publishing it and its row."""
        self.run(publish_only, self.scene, BLOBS[blob])

    @rule(blob=a_blob, image=an_image, worker=a_worker)
    def begin(self, blob: int, image: str, worker: int) -> None:
        """Push the first half of a blob."""
        content = self.workers[worker]

        async def act() -> UploadRecord:
            record = await self.scene.begin(image, content=content)
            async with content.resume(record) as upload:
                if half := BLOBS[blob][: len(BLOBS[blob]) // 2]:
                    await upload.append(half)
                await content.save(upload)
            return record

        if len(self.model.sessions) < 5:
            self.model.sessions.append(Session(self.run(act), blob, self.now))

    @rule(number=a_number, worker=a_worker)
    def finish(self, number: int, worker: int) -> None:
        """Push the second half, perhaps through the other worker; only a session that rested too long may be gone."""
        if not self.model.sessions:
            return
        session = self.model.sessions.pop(number % len(self.model.sessions))
        record = session.record

        async def act() -> None:
            content = self.workers[worker]
            found = await content.session(
                record.id, repository_id=record.repository_id, image=record.image, account_id=record.account_id
            )
            await commit(content, self.scene, found, BLOBS[session.blob])

        try:
            self.run(act)
        except UploadUnknown:
            assert self.now - session.touched_at >= EXPIRY_S
        else:
            self.model.links[record.image, session.blob] = self.now

    @rule(blob=a_blob, source=an_image, image=an_image)
    def mount(self, blob: int, source: str, image: str) -> None:
        """Mount a blob; it works at least where the source was promised."""

        async def act() -> bool:
            return await self.scene.content.mount(
                DIGESTS[blob],
                source_repository_id=self.scene.repository.id,
                source_image=source,
                repository=self.scene.repository,
                image=image,
            )

        promised = self.model.is_promised(source, blob, self.now)
        if self.run(act):
            self.model.links[image, blob] = self.now
        else:
            assert not promised

    @rule(blob=a_blob, image=an_image, worker=a_worker)
    def ask(self, blob: int, image: str, worker: int) -> None:
        """Ask for a blob, as a client does before it sends it; being told renews the promise."""

        async def act() -> None:
            content = self.workers[worker]
            await content.find((await self.scene.image(image)).id, DIGESTS[blob])
            await content.flush_touches()

        promised = self.model.is_promised(image, blob, self.now)
        try:
            self.run(act)
        except BlobUnknown:
            assert not promised
        else:
            linked_at = self.model.links[image, blob]
            self.model.links[image, blob] = max(linked_at, self.now - GRACE_S // 2)

    @rule(blob=a_blob, image=an_image)
    def unlink(self, blob: int, image: str) -> None:
        """Delete a blob from an image."""
        self.run(self.scene.unlink, DIGESTS[blob], image)
        self.model.links.pop((image, blob), None)

    # --- manifests --------------------------------------------------------------------------------------------------

    @rule(needs=some_blobs, image=an_image, tag=st.sampled_from([None, "v1", "v2"]))
    def put_manifest(self, needs: list[int], image: str, tag: str | None) -> None:
        """Put a manifest; it may be refused only if something that it needs was not promised."""

        async def act() -> Digest:
            return await self.scene.put_manifest([DIGESTS[blob] for blob in needs], image, tag=tag)

        try:
            digest = self.run(act)
        except BlobMissing:
            assert not all(self.model.is_promised(image, blob, self.now) for blob in needs)
            return
        kept = [each for each in self.model.manifests if (each.image, each.digest) != (image, digest)]
        self.model.manifests = [*kept, Manifest(image, digest, frozenset(needs))]
        for blob in needs:
            self.model.links.setdefault((image, blob), 0)

    @rule(needs=some_blobs, image=an_image, worker=a_worker)
    def push_image(self, needs: list[int], image: str, worker: int) -> None:
        """Push blobs and the manifest that needs them."""
        for blob in needs:
            self.push(blob, image, worker)
        self.put_manifest(needs, image, "v1")

    @rule(number=a_number)
    def delete_manifest(self, number: int) -> None:
        """Delete a manifest."""
        live = [each for each in self.model.manifests if each.deleted_at is None]
        if live:
            chosen = live[number % len(live)]
            self.run(self.scene.delete_manifest, chosen.digest, chosen.image)
            chosen.deleted_at = self.now

    @rule(number=a_number)
    def restore_manifest(self, number: int) -> None:
        """Undo a deletion, which works at least within the window."""
        deleted = [each for each in self.model.manifests if each.deleted_at is not None]
        if not deleted:
            return
        chosen = deleted[number % len(deleted)]
        if self.run(self.scene.restore_manifest, chosen.digest, chosen.image):
            chosen.deleted_at = None
        else:
            assert not self.model.protects(chosen, self.now)
            self.model.manifests.remove(chosen)

    @rule(image=an_image, tag=st.sampled_from(["v1", "v2"]))
    def delete_tag(self, image: str, tag: str) -> None:
        """Delete a tag, which never takes anything else along."""

        async def act() -> None:
            place = await self.scene.image(image)
            await self.database.transaction(tags.delete, place.id, tag)

        self.run(act)

    # --- time -------------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, UNDELETE_S, EXPIRY_S, GRACE_S // 2, GRACE_S - 1, GRACE_S]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(step=st.integers(0, STEPS - 1), worker=a_worker)
    def sweep_one_step(self, step: int, worker: int) -> None:
        """One step of a run that then dies."""
        report = SweepReport()
        self.run(list(self.scene.sweep(content=self.workers[worker]).steps().values())[step], report)
        assert report.trouble == []

    @rule(worker=a_worker)
    def sweep(self, worker: int) -> None:
        """One whole run."""
        assert self.run(self.scene.sweep(content=self.workers[worker]).run).trouble == []

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def what_was_promised_is_there(self) -> None:
        """Every promised blob is readable, byte for byte; the bytes of every needed one are there."""
        self.run(self._look)

    async def _look(self) -> None:
        for image, blob in self.model.links:
            if self.model.is_promised(image, blob, self.now):
                assert await self.scene.pull(DIGESTS[blob], image) == BLOBS[blob]
        rows = {row.stored.digest: row for row in await self.database.survey(garbage.every_blob, after=0, limit=99)}
        assert len({row.stored.key for row in rows.values()}) == len(rows)
        for row in rows.values():  # also what nobody is promised: a row without bytes would deceive the next push
            assert (await self.scene.store.stat(row.stored.key)).digest == row.stored.digest
        for blob, digest in enumerate(DIGESTS):
            assert digest in rows or not self.model.is_kept(blob, self.now)

    def teardown(self) -> None:
        """Let all grace pass, and look whether anything is left over; then close everything."""
        try:
            self.run(self._end)
        finally:
            self.run(self.database.aclose)
            self.thread.close()
            shutil.rmtree(self.directory)

    async def _end(self) -> None:
        for _ in range(4):
            assert (await self.scene.sweep().run()).trouble == []
            self.clock.advance(max(GRACE_S, UNDELETE_S, EXPIRY_S))
        live = [each for each in self.model.manifests if each.deleted_at is None]
        needed = {DIGESTS[blob] for each in live for blob in each.needs}
        rows = await self.database.survey(garbage.every_blob, after=0, limit=99)
        stored = await objects_of(self.scene.store)
        assert {row.stored.digest for row in rows} == needed
        assert set(stored) == {row.stored.key for row in rows}
        assert await areas_of(self.scene.store) == {}
        assert await self.database.survey(garbage.removals_due, after=FIRST_REMOVAL, limit=9) == []
        await self._look()


class DirectoryMachine(Machine):
    """Over real files, through two stores."""

    async def make_store(self) -> BlobStore:
        """A new directory."""
        store = FilesystemStore(self.directory / "blobs", pool=Pool("disk", 2))
        await store.prepare()
        return store


def check(machine: type[Machine], template: Path, *, examples: int, steps: int, **changes: Any) -> None:
    """Run the machine so many times."""

    class Prepared(machine):  # type: ignore[misc, valid-type]  # a class as a parameter
        pass

    Prepared.template = template
    profile = settings(
        max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck), **changes
    )
    run_state_machine_as_test(Prepared, settings=profile)


def test_short(migrated_file: Path) -> None:
    """A few short lives, over memory."""
    check(Machine, migrated_file, examples=2, steps=8)


@pytest.mark.slow
def test_long(migrated_file: Path) -> None:
    """Many long lives, over memory."""
    check(Machine, migrated_file, examples=40, steps=40)


@pytest.mark.slow
def test_directory(migrated_file: Path) -> None:
    """Some lives over real files."""
    check(DirectoryMachine, migrated_file, examples=8, steps=40)


def forget_manifests(patch: pytest.MonkeyPatch) -> None:
    """Links lapse whether or not a manifest needs them."""
    old = links.c.linked_at <= sa.bindparam("cutoff")
    patch.setattr(garbage, "_LAPSED", sa.select(links.c.image_id, links.c.digest).where(old))
    patch.setattr(
        garbage,
        "_LAPSE",
        sa.delete(links).where(
            old, links.c.image_id == sa.bindparam("of_image"), links.c.digest == sa.bindparam("of_digest")
        ),
    )


def forget_the_window(patch: pytest.MonkeyPatch) -> None:
    """Deleted manifests are purged at once."""
    purge = garbage.purge_deleted
    patch.setattr(garbage, "purge_deleted", lambda tx, *, cutoff, **rest: purge(tx, cutoff=1 << 40, **rest))


def forget_orphans(patch: pytest.MonkeyPatch) -> None:
    """What a crash left between publish and its row stays for ever."""
    patch.setattr(garbage, "remove_orphan", lambda *_, **__: False)


@pytest.mark.slow
@pytest.mark.parametrize("forget", [forget_manifests, forget_the_window, forget_orphans])
def test_the_machine_catches_mistakes(
    migrated_file: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """A sweep that forgets something is found out."""
    forget(monkeypatch)
    changes = {"phases": [Phase.generate], "derandomize": True, "database": None, "report_multiple_bugs": False}
    with pytest.raises((AssertionError, BlobUnknown)):
        check(Machine, migrated_file, examples=100, steps=40, **changes)
