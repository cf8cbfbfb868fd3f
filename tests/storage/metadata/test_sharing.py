"""A blob that is stored already is linked for who may read it somewhere, and nobody else learns that it is there."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from storage import Database, Digest, RepositoryRecord, StoredObject, Transaction
from storage.metadata import blobs, images, sharing, storages
from tests.storage.hearing import statements
from tests.storage.metadata import samples

DIGEST = Digest.of(b"layer")
OTHER_NAME = Digest.of(b"layer", "sha512")
NEVER = Digest.of(b"nobody has this")


def furnish(tx: Transaction, holders: int = 1, strangers: int = 20, *, storage: str = "default") -> RepositoryRecord:
    """A blob that so many repositories `p<n>/holder` hold, among strangers; gives a repository that does not."""
    storage_id = storages.ensure(tx, storage)
    key = f"key-of-{storage}"
    blob_id = blobs.settle(tx, storage_id, DIGEST, StoredObject(key, DIGEST, 5, 5, "identity", 0), now=samples.NOW)
    assert blob_id is not None
    blobs.name_also(tx, storage_id, OTHER_NAME, blob_id)
    for number in range(strangers):
        samples.repository(tx, f"s{number}/stranger", storage_id=storage_id)
    for number in range(holders):
        link(tx, samples.repository(tx, f"p{number}/holder", storage_id=storage_id), blob_id)
    return samples.repository(tx, "mine/own", storage_id=storages.ensure(tx, "default"))


def link(tx: Transaction, repository: RepositoryRecord, blob_id: int = 1, image: str = "app") -> None:
    """Let an image of the repository read the blob."""
    blobs.link(tx, images.ensure(tx, repository, image, now=samples.NOW).id, DIGEST, blob_id, now=samples.NOW)


def reader_of(*names: str) -> sharing.MayRead:
    """May read the repositories of these full names."""
    return lambda _tx, repository: repository.full_name in names


@pytest.mark.parametrize("digest", [DIGEST, OTHER_NAME])
async def test_who_may_read_a_holder(database: Database, digest: Digest) -> None:
    """Who may read a repository that holds the blob gets it, under any digest that it was pushed under."""

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders=3)
        found = sharing.shared(tx, digest, own, reader_of("p1/holder"))
        assert found is not None
        assert found.stored.digest == DIGEST

    await database.transaction(work)


async def test_a_digest_is_not_enough(database: Database) -> None:
    """Who may read everything but the holders gets nothing (row A6)."""

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders=3)
        assert sharing.shared(tx, DIGEST, own, lambda _tx, each: not each.name.startswith("holder")) is None

    await database.transaction(work)


async def test_own_repository(database: Database) -> None:
    """What another image of the same repository has needs no further right."""

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders=0)
        assert sharing.shared(tx, DIGEST, own, reader_of()) is None
        link(tx, own, image="another")
        assert sharing.shared(tx, DIGEST, own, reader_of()) is not None

    await database.transaction(work)


@pytest.mark.parametrize("why", ["damaged", "elsewhere", "unlinked"])
async def test_what_is_not_shared(database: Database, why: str) -> None:
    """Damaged blobs are not shared, nor those of another storage, nor those that nobody is linked to."""

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders=0 if why == "unlinked" else 2, storage="else" if why == "elsewhere" else "default")
        if why == "damaged":
            tx.execute(sa.text("UPDATE blobs SET damaged_at = 1"))
        assert sharing.shared(tx, DIGEST, own, lambda *_: True) is None

    await database.transaction(work)


async def test_same_project_first(database: Database) -> None:
    """Of many holders those of the caller's own project are asked about, however late they came."""

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders=sharing.MOST_ASKED + 5)
        link(tx, samples.repository(tx, "mine/neighbour"))
        assert sharing.shared(tx, DIGEST, own, reader_of("mine/neighbour")) is not None

    await database.transaction(work)


@pytest.mark.parametrize("holders", [0, 1, 3, sharing.MOST_ASKED, sharing.MOST_ASKED + 5])
async def test_same_work_whether_others_have_it(database: Database, holders: int) -> None:
    """Who may not read them makes the same statements run whether nobody holds the digest or many do (row A6)."""

    def asking(asked: list[str]) -> Callable[[Transaction, RepositoryRecord], bool]:
        def may_read(tx: Transaction, repository: RepositoryRecord) -> bool:
            asked.append(repository.full_name)
            tx.execute(sa.text("SELECT 1"))
            return not repository.name.startswith("holder")

        return may_read

    def work(tx: Transaction) -> None:
        own = furnish(tx, holders)
        seen = []
        for digest in (NEVER, DIGEST):
            asked: list[str] = []
            with statements(tx) as executed:
                assert sharing.shared(tx, digest, own, asking(asked)) is None
            assert len(set(asked)) == len(asked) == sharing.MOST_ASKED
            seen.append([text.replace(str(digest), "the digest") for text in executed])
        assert len(seen[0]) > sharing.MOST_ASKED // 2
        assert seen[0] == seen[1]

    await database.transaction(work)
