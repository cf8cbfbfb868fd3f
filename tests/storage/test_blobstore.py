"""The contract as a machine: whatever is called in whatever order, a store does what three dictionaries would do."""

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import hypothesis.strategies as st
import pytest
import trio
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from storage.blobstore import BlobStore, Span, Staging, StoredObject, check_span, check_staging_id
from storage.digest import Digest, Hasher
from storage.errors import BlobUnknown, UploadUnknown
from tests.storage.directory import Directory
from tests.storage.place import Place, areas_of, content_of, drop, objects_of
from tests.storage.test_memory import MemoryPlace

T = TypeVar("T")
IDS = st.sampled_from(["a", "b", "0-9"])
CHUNKS = st.one_of(st.binary(min_size=1, max_size=100), st.integers(1, 255).map(lambda byte: bytes([byte]) * 70_000))


class Machine(RuleBasedStateMachine):
    """The store beside a model of it: staged bytes by id, objects by key, and what was ever published."""

    keys = Bundle("keys")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.store: BlobStore = trio.run(place.open)
        self.staged: dict[str, bytes] = {}
        self.objects: dict[str, bytes] = {}
        self.known: dict[str, StoredObject] = {}

    def hold(self, staging_id: str, use: Callable[[Staging], Awaitable[T]]) -> T | None:
        """Use a staging area; None if there is none, which the store has to know."""

        async def run() -> T:
            async with self.store.stage(staging_id, create=False) as staging:
                assert staging.offset == len(self.staged[staging_id])
                return await use(staging)

        if staging_id in self.staged:
            return trio.run(run)
        with pytest.raises(UploadUnknown):
            trio.run(run)
        return None

    @rule(staging_id=IDS, chunk=CHUNKS)
    def write(self, staging_id: str, chunk: bytes) -> None:
        """Append to an area, which is made if needed."""

        async def run() -> None:
            async with self.store.stage(staging_id, create=True) as staging:
                hasher = Hasher()
                await staging.write(chunk, hasher)
                assert hasher.digest() == Digest.of(chunk)

        trio.run(run)
        self.staged[staging_id] = self.staged.get(staging_id, b"") + chunk

    @rule(staging_id=IDS, share=st.floats(0, 1))
    def truncate(self, staging_id: str, share: float) -> None:
        """Cut an area."""
        size_bytes = int(len(self.staged.get(staging_id, b"")) * share)
        self.hold(staging_id, lambda staging: staging.truncate(size_bytes))
        if staging_id in self.staged:
            self.staged[staging_id] = self.staged[staging_id][:size_bytes]

    @rule(staging_id=IDS, algorithm=st.sampled_from(["sha256", "sha512"]))
    def rehash(self, staging_id: str, algorithm: str) -> None:
        """Hash what is staged."""
        hasher = Hasher(algorithm)
        self.hold(staging_id, lambda staging: staging.rehash(hasher))
        assert hasher.digest() == Digest.of(self.staged.get(staging_id, b""), algorithm)

    @rule(target=keys, staging_id=IDS)
    def publish(self, staging_id: str) -> object:
        """Make an object of what is staged."""
        content = self.staged.get(staging_id, b"")
        stored = self.hold(staging_id, lambda staging: staging.publish(Digest.of(content)))
        if stored is None:
            return multiple()
        assert (stored.digest, stored.size_bytes) == (Digest.of(content), len(content))
        self.objects[stored.key] = content
        self.known[stored.key] = stored
        return stored.key

    @rule(staging_id=IDS)
    def published(self, staging_id: str) -> None:
        """Ask an area what was published from it."""
        stored = self.hold(staging_id, lambda staging: staging.published())
        assert stored is None or (stored == self.known[stored.key] and stored.key in self.objects)

    @rule(staging_id=IDS)
    def discard(self, staging_id: str) -> None:
        """Drop an area as its holder."""
        self.hold(staging_id, lambda staging: staging.discard())
        self.staged.pop(staging_id, None)

    @rule(staging_id=IDS)
    def drop(self, staging_id: str) -> None:
        """Drop an area as somebody else."""
        if staging_id in self.staged:
            published = trio.run(drop, self.store, staging_id)
            assert published is None or published.key in self.objects
        self.staged.pop(staging_id, None)

    @rule(key=keys)
    def remove(self, key: str) -> None:
        """Remove an object, or what was one."""
        trio.run(self.store.remove, key)
        self.objects.pop(key, None)

    @rule(key=keys, ends=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
    def read(self, key: str, ends: list[float]) -> None:
        """Read a span of an object, or of what was one."""
        stored = self.known[key]
        start, stop = (int(stored.size_bytes * end) for end in ends)
        if key in self.objects:
            assert trio.run(content_of, self.store, stored, Span(start, stop)) == self.objects[key][start:stop]
        else:
            with pytest.raises(BlobUnknown):
                trio.run(content_of, self.store, stored, Span(start, stop))

    @rule()
    def restart(self) -> None:
        """Go on with a new store over the same place."""
        self.store = trio.run(self.place.open)

    @invariant()
    def lists_are_right(self) -> None:
        """Scans tell exactly what is there."""
        assert {key: stored.size_bytes for key, stored in trio.run(objects_of, self.store).items()} == {
            key: len(content) for key, content in self.objects.items()
        }
        assert set(trio.run(areas_of, self.store)) == set(self.staged)


class MemoryMachine(Machine):
    """Over the memory store."""

    def __init__(self) -> None:
        super().__init__(MemoryPlace())


class DirectoryMachine(Machine):
    """Over a directory, compressing what is worth it."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        super().__init__(Directory(Path(self.folder.name), compression="auto"))

    def teardown(self) -> None:
        """Remove the directory."""
        self.folder.cleanup()


@pytest.mark.slow
@pytest.mark.parametrize("machine", [MemoryMachine, DirectoryMachine])
def test_machine(machine: type[Machine]) -> None:
    """No order of calls makes a store lose, keep or mix up bytes."""
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25))


def test_check_span() -> None:
    """A span counts its bytes and must lie within the blob."""
    assert Span(3, 10).size_bytes == 7
    check_span(Span(0, 0), size_bytes=0)
    check_span(Span(3, 10), size_bytes=10)
    for span in (Span(3, 11), Span(-1, 3), Span(4, 3)):
        with pytest.raises(ValueError, match="lies outside"):
            check_span(span, size_bytes=10)


def test_check_staging_id() -> None:
    """A well-formed id is given back as it is."""
    assert check_staging_id("0b1-x") == "0b1-x"
