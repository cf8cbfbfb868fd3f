"""Rows of open upload sessions."""

from dataclasses import replace

from storage import Database, Transaction, UploadRecord
from storage.metadata import uploads
from tests.storage.metadata.pieces import digest
from tests.storage.metadata.samples import NOW, account, repository


def opened(tx: Transaction, *, name: str = "s1", touched_at: int = NOW) -> UploadRecord:
    """An open session."""
    place = repository(tx, f"team/r-{name}")
    upload = UploadRecord(
        id=name,
        repository_id=place.id,
        image="img",
        storage_id=place.storage_id,
        account_id=account(tx, f"account-{name}").id,
        algorithm="sha512",
        offset_bytes=0,
        digest_so_far=None,
        boot="boot",
        created_at=NOW,
        touched_at=touched_at,
    )
    uploads.insert(tx, upload)
    return upload


async def test_a_session_comes_back_as_it_was(database: Database) -> None:
    """What was opened is found, and what was saved is found again."""

    def act(tx: Transaction) -> None:
        upload = opened(tx)
        assert uploads.find(tx, "s1") == upload
        assert uploads.find(tx, "s2") is None
        assert uploads.save(tx, "s1", offset_bytes=5, digest=digest("a"), boot="next", now=NOW + 1)
        saved = replace(upload, offset_bytes=5, digest_so_far=digest("a"), boot="next", touched_at=NOW + 1)
        assert uploads.find(tx, "s1") == saved
        assert uploads.save(tx, "s1", offset_bytes=6, digest=None, boot="next", now=NOW + 1)
        assert uploads.find(tx, "s1") == replace(saved, offset_bytes=6, digest_so_far=None)
        assert not uploads.save(tx, "s2", offset_bytes=5, digest=None, boot="next", now=NOW)

    await database.transaction(act)


async def test_a_session_ends_once(database: Database) -> None:
    """Closing tells whether there was anything to close."""

    def act(tx: Transaction) -> None:
        opened(tx)
        assert uploads.delete(tx, "s1")
        assert not uploads.delete(tx, "s1")
        assert uploads.find(tx, "s1") is None

    await database.transaction(act)


async def test_expiry(database: Database) -> None:
    """Only a session that was not used after the cutoff expires."""

    def act(tx: Transaction) -> None:
        opened(tx)
        assert not uploads.expire(tx, "s1", cutoff=NOW - 1)
        assert uploads.expire(tx, "s1", cutoff=NOW)
        assert not uploads.expire(tx, "s1", cutoff=NOW)

    await database.transaction(act)


async def test_idle_sessions_in_pages(database: Database) -> None:
    """Idle ones come by id, each once, however the pages fall; younger ones do not."""

    def act(tx: Transaction) -> None:
        for number in range(7):
            opened(tx, name=f"s{number}", touched_at=NOW + number % 2)
        first = uploads.idle_since(tx, cutoff=NOW, after="", limit=3)
        assert [each.id for each in first] == ["s0", "s2", "s4"]
        assert [each.id for each in uploads.idle_since(tx, cutoff=NOW, after="s4", limit=3)] == ["s6"]
        assert uploads.idle_since(tx, cutoff=NOW - 1, after="", limit=3) == []

    await database.transaction(act)


async def test_counting_and_knowing(database: Database) -> None:
    """Sessions are counted per account, and known by id."""

    def act(tx: Transaction) -> None:
        first = opened(tx, name="s1")
        uploads.insert(tx, replace(first, id="s2"))
        opened(tx, name="s3")
        assert uploads.count(tx, first.account_id) == 2
        assert uploads.count(tx, 99) == 0
        assert uploads.known(tx, ["s1", "s3", "s4"]) == {"s1", "s3"}
        assert uploads.known(tx, []) == set()

    await database.transaction(act)
