"""Any acts of `storage.metadata`, by two writers on one file: after each, a look gives exactly the scopes it concerned.

What an act concerned is not asked of the triggers: the whole database is compared before and after it, and
`counted.py` says by hand what counts.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from storage import Conflict, Transaction
from storage.changes_embedded import SqliteChanges
from storage.database_sqlite import WRITER, Limits, Session, SqliteFile
from storage.metadata import (
    accounts,
    addresses,
    blobs,
    credentials,
    garbage,
    grants,
    manifests,
    members,
    projects,
    pulls,
    repositories,
    signing_keys,
    storages,
    tags,
    upstreams,
)
from storage.metadata.members import NewMember
from storage.records import AddressKind, ReferenceRecord, SigningKeyRecord
from tests.storage.counted import Rows, expected, rows
from tests.storage.metadata.pieces import copy, digest, document, image, manifest
from tests.storage.metadata.samples import account, project, repository

# Few of everything, so that acts meet each other; ids that do not exist are asked for too.
NAMES = ["a", "b"]
an_id = st.integers(1, 4)
a_name = st.sampled_from(NAMES)
a_time = st.integers(1, 5)
a_writer = st.integers(0, 1)
a_bool = st.booleans()
some_names = st.sets(a_name)


class Process:
    """One that writes and looks, with connections of its own."""

    def __init__(self, path: Path) -> None:
        file = SqliteFile(path, Limits())
        self.session = Session(file, WRITER)
        self.changes = SqliteChanges(file)
        self.changes.open()

    def close(self) -> None:
        """Close both connections."""
        self.session.close()
        self.changes.close()


class Machine(RuleBasedStateMachine):
    """Rules are single acts; each is committed, or undone where it is refused."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        path = Path(shutil.copy(self.template, self.folder / "sluice.db"))
        self.oracle = sqlite3.connect(path)
        self.processes = [Process(path), Process(path)]
        self.newest = self.published = 0

    @initialize(by=a_writer)
    def begin(self, by: int) -> None:
        """Something of everything, so that most acts find what they act upon."""
        for name in NAMES:
            self.make_account(by=by, name=name, robot=name == "b")
            self.make_repository(by=by, name=name, public=False, catch_all=False)
            self.push_blob(by=by, place=name, name=name, now=1)
            self.push_manifest(by=by, place=name, name=name, needs=1, tag=name, now=1)
        self.grant(by=by, which=1, place=1, role="a", whole=False)
        self.grant(by=by, which=2, place=2, role="a", whole=True)
        self.make_secret(by=by, which=1, name=1, parent=None, now=1)
        self.make_secret(by=by, which=1, name=2, parent=1, now=1)

    def teardown(self) -> None:
        """Close everything."""
        for each in self.processes:
            each.close()
        self.oracle.close()
        shutil.rmtree(self.folder)

    def act(self, by: int, work: Callable[[Transaction], object]) -> None:
        """Do it, then compare what both processes see with what happened to the rows."""
        before = rows(self.oracle)
        try:
            self.processes[by].session.write(work)
        except Conflict:
            assert rows(self.oracle) == before
        self.compare(before, rows(self.oracle))

    def compare(self, before: Rows, after: Rows) -> None:
        """Everything that should count has a number above the last, and nothing else has."""
        scopes = expected(before, after)
        looks = {each.changes.look() for each in self.processes}
        assert len(looks) == 1
        (newest,) = looks
        assert newest is not None
        assert (newest > self.newest) == bool(scopes)
        every = scopes | {f"{kind}:{number}" for kind in ("image", "blob") for number in range(1, 30)} | {"access"}
        for each in self.processes:
            assert {scope for scope in every if each.changes.changed_at(scope) > self.newest} == scopes
        self.newest = newest

    # --- who and where ---

    @rule(by=a_writer, name=a_name, public=a_bool, catch_all=a_bool)
    def make_repository(self, by: int, name: str, *, public: bool, catch_all: bool) -> None:
        """A repository, in a project that may be new."""
        self.act(by, lambda tx: repository(tx, f"{name}/app", anonymous_read=public, is_catch_all=catch_all))

    @rule(by=a_writer, which=an_id, public=a_bool, now=a_time)
    def change_repository(self, by: int, which: int, *, public: bool, now: int) -> None:
        """A setting, perhaps to what it was."""
        self.act(by, lambda tx: repositories.update(tx, which, now=now, anonymous_read=public))

    @rule(by=a_writer, which=an_id)
    def delete_repository(self, by: int, which: int) -> None:
        """With everything in it."""
        self.act(by, lambda tx: repositories.delete(tx, which))

    @rule(by=a_writer, which=an_id, kind=st.sampled_from(AddressKind), names=some_names)
    def change_addresses(self, by: int, which: int, kind: AddressKind, names: set[str]) -> None:
        """Those that stay are not written again."""
        self.act(by, lambda tx: addresses.put(tx, which, kind, sorted(names)))

    @rule(by=a_writer, which=an_id, inside=st.sets(an_id, max_size=2), whole=a_bool)
    def change_members(self, by: int, which: int, inside: set[int], *, whole: bool) -> None:
        """Any repository may be a member here."""
        patterns = () if whole else ("a",)
        self.act(by, lambda tx: members.put(tx, which, [NewMember(each, include=patterns) for each in sorted(inside)]))

    @rule(by=a_writer, which=an_id, name=a_name, now=a_time)
    def use_cache(self, by: int, which: int, name: str, now: int) -> None:
        """A credential, a check and a pull are noted: nobody's answer ends."""

        def use(tx: Transaction) -> None:
            upstreams.put_credentials(tx, which, [name.encode()])
            upstreams.put_check(tx, which, name, now, None)
            pulls.note(tx, [(which, document(name).digest, now)])

        self.act(by, use)

    @rule(by=a_writer, which=an_id, now=a_time)
    def evict(self, by: int, which: int, now: int) -> None:
        """A manifest of a cache, with its tags and what it alone needs."""
        self.act(by, lambda tx: pulls.evict(tx, which, came_by=now))

    @rule(by=a_writer, which=an_id, text=a_name)
    def change_project(self, by: int, which: int, text: str) -> None:
        """Its description."""
        self.act(by, lambda tx: projects.update(tx, which, description=text))

    @rule(by=a_writer, which=an_id)
    def delete_project(self, by: int, which: int) -> None:
        """With its robots and grants, if it is empty."""
        self.act(by, lambda tx: projects.delete(tx, which))

    @rule(by=a_writer, name=a_name)
    def make_storage(self, by: int, name: str) -> None:
        """A storage that may be there."""
        self.act(by, lambda tx: storages.ensure(tx, name))

    @rule(by=a_writer, name=a_name, robot=a_bool)
    def make_account(self, by: int, name: str, *, robot: bool) -> None:
        """A user, or a robot of a project."""
        self.act(by, lambda tx: account(tx, name, project_id=project(tx, name).id if robot else None))

    @rule(by=a_writer, which=an_id, text=a_name, enabled=a_bool, power=a_bool, now=a_time)
    def change_account(self, by: int, which: int, text: str, *, enabled: bool, power: bool, now: int) -> None:
        """What it may, or only its description."""
        if power:
            self.act(by, lambda tx: accounts.update(tx, which, now=now, is_enabled=enabled))
        else:
            self.act(by, lambda tx: accounts.update(tx, which, now=now, description=text))

    @rule(by=a_writer, which=an_id, text=a_name, now=a_time)
    def set_password(self, by: int, which: int, text: str, now: int) -> None:
        """A password, which ends all tokens."""
        self.act(by, lambda tx: accounts.set_password(tx, which, text, now))

    @rule(by=a_writer, which=an_id, text=a_name)
    def renew_hash(self, by: int, which: int, text: str) -> None:
        """Another hash of the same password."""
        self.act(by, lambda tx: accounts.renew_hash(tx, which, "a", text))

    @rule(by=a_writer, which=an_id)
    def delete_account(self, by: int, which: int) -> None:
        """With its grants and secrets."""
        self.act(by, lambda tx: accounts.delete(tx, which))

    @rule(by=a_writer, which=an_id, place=an_id, role=a_name, whole=a_bool)
    def grant(self, by: int, which: int, place: int, role: str, *, whole: bool) -> None:
        """A role on a project or repository, in place of an older one."""
        where = {"project_id" if whole else "repository_id": place}
        self.act(by, lambda tx: grants.put(tx, account_id=which, role=role, now=1, **where))

    @rule(by=a_writer, which=an_id)
    def revoke(self, by: int, which: int) -> None:
        """Take a role away."""
        self.act(by, lambda tx: grants.remove(tx, which))

    @rule(by=a_writer, which=an_id, name=st.integers(0, 9), parent=st.none() | an_id, now=a_time)
    def make_secret(self, by: int, which: int, name: int, parent: int | None, now: int) -> None:
        """A secret, perhaps made from another."""
        self.act(
            by,
            lambda tx: credentials.create(
                tx,
                account_id=which,
                kind="refresh",
                secret_hash=str(name),
                label="",
                limits=None,
                service=None,
                parent_id=parent,
                created_at=now,
                expires_at=now + 1,
            ),
        )

    @rule(by=a_writer, which=an_id, now=a_time)
    def use_secret(self, by: int, which: int, now: int) -> None:
        """Note when it was used."""
        self.act(by, lambda tx: credentials.touch(tx, {which: now}))

    @rule(by=a_writer, which=an_id)
    def delete_secret(self, by: int, which: int) -> None:
        """With those made from it."""
        self.act(by, lambda tx: credentials.delete(tx, which))

    @rule(by=a_writer, now=a_time, keep=a_bool, which=an_id)
    def clean_secrets(self, by: int, now: int, which: int, *, keep: bool) -> None:
        """The jobs that remove what has ended."""
        if keep:
            self.act(by, lambda tx: credentials.trim(tx, which, "refresh", most=1, keep=1))
        else:
            self.act(by, lambda tx: credentials.delete_expired(tx, now))

    @rule(by=a_writer, name=a_name, until=a_time, now=a_time)
    def turn_keys(self, by: int, name: str, until: int, now: int) -> None:
        """A new signing key, and the end of old ones."""
        self.act(by, lambda tx: signing_keys.insert(tx, SigningKeyRecord(name, "HS256", b"", 0, 0, until, until)))
        self.act(by, lambda tx: signing_keys.delete_expired(tx, now))

    # --- images and bytes ---

    @rule(by=a_writer, place=a_name, name=a_name, now=a_time)
    def push_blob(self, by: int, place: str, name: str, now: int) -> None:
        """Bytes that may be known, and the image's link to them."""
        self.published += 1  # a store never gives a key twice
        stored = copy(name, f"{name}{self.published}")

        def push(tx: Transaction) -> None:
            blob_id = blobs.settle(tx, storages.ensure(tx, "default"), digest(name), stored, now=now)
            assert blob_id is not None
            blobs.link(tx, image(tx, f"a/app/{place}").id, digest(name), blob_id, now=now)

        self.act(by, push)

    @rule(by=a_writer, which=an_id, name=a_name, now=a_time)
    def touch_link(self, by: int, which: int, name: str, now: int) -> None:
        """A client was told of it."""
        self.act(by, lambda tx: blobs.touch(tx, [(which, digest(name))], now=now))

    @rule(by=a_writer, which=an_id, name=a_name, to=an_id)
    def relink(self, by: int, which: int, name: str, to: int) -> None:
        """A link to other bytes, which no client can cause; or to the same."""
        self.act(by, lambda tx: blobs.link(tx, which, digest(name), to, now=1))

    @rule(by=a_writer, which=an_id, name=a_name)
    def unlink(self, by: int, which: int, name: str) -> None:
        """Take the image's right away."""
        self.act(by, lambda tx: blobs.unlink(tx, which, digest(name)))

    @rule(by=a_writer, place=a_name, name=a_name, needs=st.none() | an_id, tag=a_name, now=a_time)
    def push_manifest(self, by: int, place: str, name: str, *, needs: int | None, tag: str, now: int) -> None:
        """A manifest that may be there or deleted lately, and a tag that moves to it or stays."""
        references = [ReferenceRecord("layer", digest(name), 1, needs)]

        def push(tx: Transaction) -> None:
            found = image(tx, f"a/app/{place}")
            tags.put(tx, found.id, tag, manifest(tx, found, name, references), by=None, now=now)

        self.act(by, push)

    @rule(by=a_writer, which=an_id, tag=a_name)
    def delete_tag(self, by: int, which: int, tag: str) -> None:
        """The tag alone."""
        self.act(by, lambda tx: tags.delete(tx, which, tag))

    @rule(by=a_writer, which=an_id, now=a_time)
    def delete_manifest(self, by: int, which: int, now: int) -> None:
        """With its tags, for the undelete window."""

        def delete(tx: Transaction) -> None:
            names = tags.delete_of_manifest(tx, which)
            manifests.mark_deleted(tx, which, tag_names=names, now=now)

        self.act(by, delete)

    @rule(by=a_writer, which=an_id)
    def restore_manifest(self, by: int, which: int) -> None:
        """End the window in its favour."""
        self.act(by, lambda tx: manifests.restore(tx, which))

    @rule(by=a_writer, now=a_time)
    def sweep(self, by: int, now: int) -> None:
        """Every step of the garbage collection, one act each."""
        self.act(by, lambda tx: garbage.purge_deleted(tx, cutoff=now, now=now, limit=9))
        self.act(
            by,
            lambda tx: garbage.lapse(
                tx, garbage.lapsed_links(tx, cutoff=now, after=(0, ""), limit=9).found, cutoff=now
            ),
        )
        self.act(
            by,
            lambda tx: garbage.condemn(tx, garbage.loose_blobs(tx, cutoff=now, after=0, limit=9).found, now=now),
        )
        self.act(
            by,
            lambda tx: garbage.remove(tx, garbage.ripe_blobs(tx, cutoff=now, after=None, limit=9), cutoff=now, now=now),
        )

    @rule(by=a_writer, now=a_time, damaged=a_bool)
    def check_blobs(self, by: int, now: int, *, damaged: bool) -> None:
        """What fsck notes."""

        def check(tx: Transaction) -> None:
            found = garbage.every_blob(tx, after=0, limit=1)
            if damaged and found:
                garbage.mark_damaged(tx, found[0], now=now)
            elif found:
                garbage.mark_verified(tx, found, now=now)

        self.act(by, check)


@pytest.mark.slow
def test_every_commit_counts_in_exactly_the_scopes_it_concerns(migrated_file: Path) -> None:
    """Two processes act on one file in any order; both see each change at once, and nothing that did not happen."""
    Machine.template = migrated_file
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
