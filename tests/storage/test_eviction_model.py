"""Manifests that share layers, layers that come late or never, indexes, pulls and runs of eviction in any order.

The machine keeps a model of what a cache was given. After every act, whatever manifest is left is whole: each of its
layers that came is linked, and no index has lost a child that it had. After every eviction the cache is as small as it
may be, what went was used no later than what stayed, and the report tells the bytes that are gone.
"""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from storage import Bounds, ColdManifest, Eviction, EvictionReport, ReferenceRecord, SqliteDatabase, Transaction
from storage.metadata import blobs, garbage, manifests, pulls
from storage.metadata.garbage import FIRST_LINK
from storage.metadata.tables import links
from storage.metadata.tables import manifests as rows
from tests.storage.metadata.pieces import blob, digest, document, image, layer
from tests.storage.metadata.samples import NOW
from tests.trio_thread import TrioThread

T = TypeVar("T")

REST_S = 3
GRACE_S = 30
REPOSITORY = "hub/cache"
# Few of everything, so that acts meet each other.
an_image = st.sampled_from(["a", "b"])
a_name = st.sampled_from(["one", "two", "three"])
an_index = st.sampled_from(["index", "other index"])
some_layers = st.sets(st.sampled_from(["x", "y", "z"]), max_size=3)
some_names = st.sets(a_name, min_size=1, max_size=2)


@dataclass
class Model:
    """By image and name: what was given to the cache and may be there still."""

    layers: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    children: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    came: set[tuple[str, str]] = field(default_factory=set)
    """Layers by image that came while a manifest needed them."""


class Machine(RuleBasedStateMachine):
    """The cache beside the model."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.thread = TrioThread()
        self.model = Model()
        self.now = NOW
        self.database = SqliteDatabase(Path(shutil.copy(self.template, self.directory / "sluice.db")))
        self.thread.run(self.database.open)
        self.act(lambda tx: [image(tx, f"{REPOSITORY}/{name}") for name in "ab"])

    def act(self, work: Callable[[Transaction], T]) -> T:
        """Do it in one transaction."""
        return self.thread.run(self.database.transaction, work)

    def teardown(self) -> None:
        """Close everything."""
        self.thread.run(self.database.aclose)
        self.thread.close()
        shutil.rmtree(self.directory)

    @initialize()
    def begin(self) -> None:
        """Two that share a layer, and an index of one of them."""
        self.fetch("a", "one", {"x", "y"})
        self.fetch("a", "two", {"y", "z"})
        for name in "xyz":
            self.arrive("a", name)
        self.fetch_index("a", "index", {"one", "three"})
        self.fetch("b", "one", {"x"})
        self.arrive("b", "x")
        self.now += REST_S

    # --- what a cache is given ------------------------------------------------------------------------------------

    @rule(place=an_image, name=a_name, needs=some_layers)
    def fetch(self, place: str, name: str, needs: set[str]) -> None:
        """A manifest comes; of its layers those that the image has are linked, the others come later or never."""
        needs = needs if (place, name) not in self.model.layers else set(self.model.layers[place, name])

        def put(tx: Transaction) -> None:
            target = image(tx, f"{REPOSITORY}/{place}")
            held = blobs.linked_sizes(tx, target.id, [digest(each) for each in sorted(needs)])
            references = [layer(each, held.get(digest(each), (None, 0))[0]) for each in sorted(needs)]
            store(tx, target.id, name, references, now=self.now)

        self.act(put)
        self.model.layers[place, name] = frozenset(needs)
        for each in needs:
            if self.is_linked(place, each):
                self.model.came.add((place, each))

    @rule(place=an_image, name=an_index, names=some_names)
    def fetch_index(self, place: str, name: str, names: set[str]) -> None:
        """An index comes; some of its children may be there."""
        names = names if (place, name) not in self.model.children else set(self.model.children[place, name])
        references = [ReferenceRecord("child", document(each).digest, 1, None) for each in sorted(names)]
        self.act(lambda tx: store(tx, image(tx, f"{REPOSITORY}/{place}").id, name, references, now=self.now))
        self.model.children[place, name] = frozenset(names)

    @rule(place=an_image, name=st.sampled_from(["x", "y", "z"]))
    def arrive(self, place: str, name: str) -> None:
        """A layer comes, for a manifest or by itself."""

        def link(tx: Transaction) -> None:
            target = image(tx, f"{REPOSITORY}/{place}")
            manifests.fill(tx, target.id, digest(name), blob(tx, name, target, now=self.now))

        self.act(link)
        if any(name in needs for (where, _), needs in self.model.layers.items() if where == place):
            self.model.came.add((place, name))

    @rule(number=st.integers(0, 99), ago=st.integers(0, 3))
    def pull(self, number: int, ago: int) -> None:
        """A pull is noted, perhaps late, perhaps of what is gone."""
        known = sorted(self.model.layers.keys() | self.model.children.keys())
        place, name = known[number % len(known)] if known else ("a", "one")
        self.act(
            lambda tx: pulls.note(tx, [(image(tx, f"{REPOSITORY}/{place}").id, document(name).digest, self.now - ago)])
        )

    @rule(seconds=st.integers(1, 10))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def sweep(self) -> None:
        """Links that nothing needs lapse after their grace period."""

        def lapse(tx: Transaction) -> None:
            page = garbage.lapsed_links(tx, cutoff=self.now - GRACE_S, after=FIRST_LINK, limit=100)
            garbage.lapse(tx, page.found, cutoff=self.now - GRACE_S)

        self.act(lapse)

    # --- what it gives up -----------------------------------------------------------------------------------------

    @rule(less=st.integers(0, 15))
    def shrink(self, less: int) -> None:
        """By size: as small as it may be, coldest first, no more than needed."""
        before, listed = self.size(), {each.manifest_id: each.used_at for each in self.listed()}
        most = max(before - less, 0)
        report = self.evict(Bounds(max_bytes=most))
        after, left = self.size(), self.listed()
        assert report.freed_bytes == before - after
        assert report.over_bytes == max(after - most, 0)
        if after > most:
            assert all(each.used_at > self.now - REST_S for each in left)
        gone = listed.keys() - {each.manifest_id for each in left}
        stayed = listed.keys() - gone
        assert max((listed[each] for each in gone), default=0) <= min(
            (listed[each] for each in stayed), default=1 << 40
        )
        if less == 0:
            assert before == after

    @rule(age=st.integers(10, 60), pulled=st.none() | st.integers(1, 40))
    def drop_old(self, age: int, pulled: int | None) -> None:
        """By age: nothing that is old is left, but for what an index names."""
        before = self.size()
        report = self.evict(Bounds(max_age_s=age, pulled_within_s=pulled))
        assert report.freed_bytes == before - self.size()
        for each in self.listed():
            is_old = each.pushed_at <= self.now - max(age, REST_S)
            lately = pulled is not None and each.used_at > self.now - max(pulled, REST_S)
            assert not is_old or lately

    def evict(self, bounds: Bounds) -> EvictionReport:
        """One run, then the model forgets what went."""
        whole = self.whole()
        eviction = Eviction(self.database, rest_s=REST_S, clock=lambda: self.now)
        report: EvictionReport = self.thread.run(eviction.run, 1, bounds)
        self.check_children(whole)
        return report

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def what_is_left_is_whole(self) -> None:
        """Every manifest that is there has all of its layers that ever came, linked and known to it."""
        for key in [key for key in self.model.layers if not self.is_there(*key)]:
            del self.model.layers[key]
        needed = {(place, each) for (place, _), needs in self.model.layers.items() for each in needs}
        self.model.came &= needed
        for place, name in self.model.came:
            assert self.is_linked(place, name), (place, name)

    def whole(self) -> set[tuple[str, str, str]]:
        """Image, index and child for every child that is there of an index that is."""
        return {
            (place, name, each)
            for (place, name), children in self.model.children.items()
            for each in children
            if self.is_there(place, name) and self.is_there(place, each)
        }

    def check_children(self, before: set[tuple[str, str, str]]) -> None:
        """No index that stayed has lost a child."""
        for place, name, each in before:
            assert not self.is_there(place, name) or self.is_there(place, each)

    # --- looking --------------------------------------------------------------------------------------------------

    def is_there(self, place: str, name: str) -> bool:
        """Whether the image has the manifest."""
        return self.act(
            lambda tx: manifests.find(tx, image(tx, f"{REPOSITORY}/{place}").id, document(name).digest) is not None
        )

    def is_linked(self, place: str, name: str) -> bool:
        """Whether the image may read the layer."""
        return self.act(lambda tx: blobs.linked(tx, image(tx, f"{REPOSITORY}/{place}").id, digest(name)) is not None)

    def size(self) -> int:
        """What the cache holds."""
        return self.act(lambda tx: pulls.stored_bytes(tx, 1))

    def listed(self) -> list[ColdManifest]:
        """What may go."""
        return self.act(lambda tx: pulls.coldest(tx, 1, limit=100))


def store(tx: Transaction, image_id: int, name: str, references: list[ReferenceRecord], *, now: int) -> None:
    """Keep a manifest in the cache."""
    manifests.put(
        tx,
        image_id,
        document(name),
        artifact_type=None,
        subject=None,
        annotations=None,
        references=references,
        by=None,
        now=now,
    )


def check(template: Path, *, examples: int, steps: int, **changes: Any) -> None:
    """Run the machine so many times."""

    class Prepared(Machine):
        pass

    Prepared.template = template
    profile = settings(
        max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck), **changes
    )
    run_state_machine_as_test(Prepared, settings=profile)


def test_short(migrated_file: Path) -> None:
    """A few short lives."""
    check(migrated_file, examples=2, steps=8)


@pytest.mark.slow
def test_long(migrated_file: Path) -> None:
    """Many long lives."""
    check(migrated_file, examples=40, steps=40)


def forget_the_others(patch: pytest.MonkeyPatch) -> None:
    """Links go with their manifest, whether or not another needs them."""
    named = links.c.digest.in_(sa.bindparam("digests", expanding=True))
    here = links.c.image_id == sa.bindparam("image_id"), links.c.linked_at <= sa.bindparam("linked_by")
    patch.setattr(pulls, "_UNNEEDED_LINKS", sa.select(links.c.digest, links.c.blob_id).where(named, *here))


def forget_indexes(patch: pytest.MonkeyPatch) -> None:
    """Children of an index that stays go too."""
    named = rows.c.digest.in_(sa.bindparam("digests", expanding=True))
    patch.setattr(
        pulls,
        "_EVICTABLE_CHILDREN",
        sa.select(rows.c.id).where(rows.c.image_id == sa.bindparam("image_id"), named),
    )
    patch.setattr(
        pulls,
        "_EVICTABLE",
        sa.select(rows.c.image_id, rows.c.size_bytes).where(rows.c.id == sa.bindparam("manifest_id")),
    )


def forget_the_order(patch: pytest.MonkeyPatch) -> None:
    """Whatever came first goes first, whenever it was pulled."""
    patch.setattr(pulls, "_COLDEST", pulls._COLDEST.order_by(None).order_by(pulls._TIMES.c.id))


def forget_children(patch: pytest.MonkeyPatch) -> None:
    """What a child frees is not counted."""
    evict = pulls.evict

    def counting(tx: Transaction, manifest_id: int, **times: int) -> int | None:
        before = manifest_size(tx, manifest_id)
        freed = evict(tx, manifest_id, **times)
        return None if freed is None else min(freed, before)

    patch.setattr(pulls, "evict", counting)


def manifest_size(tx: Transaction, manifest_id: int) -> int:
    """The size of one manifest."""
    size = sa.select(rows.c.size_bytes).where(rows.c.id == manifest_id)
    return int(tx.execute(size).scalar_one_or_none() or 0)


@pytest.mark.slow
@pytest.mark.parametrize("forget", [forget_the_others, forget_indexes, forget_the_order, forget_children])
def test_the_machine_catches_mistakes(
    migrated_file: Path, monkeypatch: pytest.MonkeyPatch, forget: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """An eviction that forgets something is found out."""
    forget(monkeypatch)
    changes = {"phases": [Phase.generate], "derandomize": True, "database": None, "report_multiple_bugs": False}
    with pytest.raises(AssertionError):
        check(migrated_file, examples=100, steps=40, **changes)
