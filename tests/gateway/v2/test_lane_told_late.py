"""The lane where word of changes comes late, or not at all: what it remembers then, and when it goes on."""

import time
from pathlib import Path
from typing import Any

from storage.changes_embedded import SqliteChanges
from tests.gateway.registry import NAME
from tests.gateway.v2.lane_gateway import Fields, LaneGateway
from tests.gateway.v2.test_lane import BLOB_PATH, TAG_PATH, admin, furnish, gateway, learned, statistics
from tests.gateway.v2.told_late import ToldLate

__all__ = ["gateway"]


async def told_late(data: Path, **lane: Any) -> tuple[LaneGateway, ToldLate]:
    """A furnished gateway whose lane hears of changes over a network."""
    gateway = LaneGateway()
    told = await gateway.open_told_late(data, lane=lane)
    await furnish(gateway)
    told.hear()
    return gateway, told


def goes_away(gateway: LaneGateway, told: ToldLate, seconds: float) -> None:
    """The database does not answer, and no word of changes has come for so long."""
    told.silent_s = seconds
    gateway.registry.services.pulse.is_away = True


async def test_tags_are_not_remembered_where_changes_come_late(data_directory: Path) -> None:
    """Whoever asks by tag gets what the database says now; digests are remembered."""
    gateway, _ = await told_late(data_directory)

    assert await learned(gateway, TAG_PATH, admin(gateway)) is None
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None
    assert await learned(gateway, f"/v2/{NAME}/manifests/{await digest_of_tag(gateway)}", admin(gateway)) is not None
    await gateway.close()


async def test_an_operator_may_have_tags_remembered_all_the_same(data_directory: Path) -> None:
    """They end when word of their change comes."""
    gateway, told = await told_late(data_directory, notified_tags=True)
    assert await learned(gateway, TAG_PATH, admin(gateway)) is not None
    await gateway.registry.push_image("v1", annotations={"x": "y"})
    before = gateway.recall("GET", TAG_PATH, admin(gateway))
    told.hear()

    assert before is not None
    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None
    await gateway.close()


async def digest_of_tag(gateway: LaneGateway) -> str:
    """What the tag names."""
    seen = await gateway.ask("HEAD", TAG_PATH, admin(gateway))
    return dict(seen.fields)[b"docker-content-digest"].decode()


async def test_digests_go_on_for_a_while_when_the_database_is_away(data_directory: Path) -> None:
    """Until the operator's time is over, and they are counted; tags do not."""
    gateway, told = await told_late(data_directory, outage_s=60, notified_tags=True)
    for path in (TAG_PATH, BLOB_PATH):
        assert await learned(gateway, path, admin(gateway)) is not None
    replayed = {}
    for seconds in (3.0, 60.0, 60.1):
        goes_away(gateway, told, seconds)
        replayed[seconds] = gateway.recall("GET", BLOB_PATH, admin(gateway)) is not None
        assert gateway.recall("GET", TAG_PATH, admin(gateway)) is None
    told.silent_s = None

    assert replayed == {3.0: True, 60.0: True, 60.1: False}
    assert statistics(gateway).outage == 2
    assert gateway.recall("GET", TAG_PATH, admin(gateway)) is not None
    await gateway.close()


async def test_a_database_that_can_be_asked_is_asked(data_directory: Path) -> None:
    """That no word of changes comes is no reason to guess, however short the silence."""
    gateway, told = await told_late(data_directory)
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None
    told.silent_s = 3.0

    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    assert statistics(gateway).unsure == 1
    await gateway.close()


async def test_an_operator_may_have_nothing_replayed_while_the_database_is_away(data_directory: Path) -> None:
    """Every answer is then as certain as the database."""
    gateway, told = await told_late(data_directory, outage_s=0)
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None
    goes_away(gateway, told, 3.0)

    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    await gateway.close()


async def test_what_was_known_before_the_database_went_away_counts(data_directory: Path) -> None:
    """A right that was taken away, and heard of, is not given back by the outage."""
    gateway, told = await told_late(data_directory)
    reader = await gateway.registry.member("rita", "reader")
    fields: Fields = [(b"authorization", reader.encode())]
    told.hear()
    assert await learned(gateway, BLOB_PATH, fields) is not None
    await gateway.perform({"do": "expire", "account": "rita", "at": int(gateway.clock.now) + 1000})
    told.hear()
    goes_away(gateway, told, 10.0)

    assert gateway.recall("GET", BLOB_PATH, fields) is None
    assert statistics(gateway).forgotten == {"changed": 1}
    await gateway.close()


async def test_time_and_keys_end_answers_while_the_database_is_away(data_directory: Path) -> None:
    """An account's end comes at its second, and a key that this process saw go takes its tokens along."""
    gateway, told = await told_late(data_directory)
    end = int(gateway.clock.now) + 10
    await gateway.perform({"do": "expire", "account": "boss", "at": end})
    told.hear()
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None
    goes_away(gateway, told, 10.0)
    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is not None
    gateway.clock.now = end

    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    gateway.clock.now = end - 5
    told.silent_s = None
    assert await learned(gateway, BLOB_PATH, admin(gateway)) is not None
    await gateway.perform({"do": "withdraw_keys"})
    goes_away(gateway, told, 10.0)
    await gateway.perform({"do": "refresh_keys"})
    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    assert statistics(gateway).forgotten["keys"] == 1
    await gateway.close()


async def test_an_embedded_database_that_cannot_be_asked_is_never_guessed_at(gateway: LaneGateway) -> None:
    """It is locked for a moment, not away: whatever was committed meanwhile counts."""
    await gateway.ask("GET", BLOB_PATH, admin(gateway))
    changes = gateway.registry.services.database.changes()
    assert isinstance(changes, SqliteChanges)
    changes.close()
    changes._certain_at = time.monotonic() - 10

    assert gateway.recall("GET", BLOB_PATH, admin(gateway)) is None
    assert statistics(gateway).outage == 0
