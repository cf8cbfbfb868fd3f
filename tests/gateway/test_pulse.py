"""Whether the database is away is known before it matters, and it is asked only when nothing is heard of it."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from gateway.pulse import EVERY_S, Pulse
from storage import SqliteDatabase, Unavailable

FRESH, SILENT = 1.2, 1.4


class Silent(SqliteDatabase):
    """A database of whose changes nothing was heard for `silent_s`, and that answers as it is told to."""

    silent_s: float | None = SILENT
    answers_after_s = 0.0
    fails = False
    asked = 0

    def changes(self) -> "Silent":  # type: ignore[override]  # it stands for them as well
        """See `Database.changes`."""
        return self

    def last_certain(self) -> tuple[int, float] | None:
        """See `storage.changes.Changes`."""
        return None if self.silent_s is None else (1, self.silent_s)

    async def check(self) -> None:
        """See `Database.check`."""
        self.asked += 1
        await trio.sleep(self.answers_after_s)
        if self.fails:
            raise Unavailable("gone")


@pytest.fixture
def database(tmp_path: Path) -> Silent:
    """One that nobody has opened."""
    return Silent(tmp_path / "none.db")


async def test_while_changes_are_heard_of_nothing_is_asked(database: Silent) -> None:
    """Word each second is the usual thing; looking costs nothing."""
    database.silent_s = FRESH
    pulse = Pulse(database)

    for _ in range(10):
        await pulse.beat()

    assert (pulse.is_away, database.asked) == (False, 0)


@pytest.mark.parametrize("silent_s", [SILENT, None])
async def test_a_database_that_answers_is_not_away(database: Silent, silent_s: float | None) -> None:
    """Only word of its changes does not come, or has not come yet."""
    database.silent_s = silent_s
    pulse = Pulse(database)
    pulse.is_away = True

    await pulse.beat()

    assert (pulse.is_away, database.asked) == (False, 1)


async def test_one_that_fails_is_away_until_it_is_heard_of(database: Silent) -> None:
    """Or until it answers."""
    database.fails = True
    pulse = Pulse(database)

    await pulse.beat()
    assert pulse.is_away
    database.silent_s = 0.1
    await pulse.beat()

    assert not pulse.is_away


async def test_one_that_stands_still_is_known_to_be_away_in_time(database: Silent, autojump_clock: MockClock) -> None:
    """Before looks at the changes give None, which is after three seconds; what was asked is not waited for."""
    database.answers_after_s = 3600
    pulse = Pulse(database)
    begun = trio.current_time()

    await pulse.beat()

    assert pulse.is_away
    assert SILENT + EVERY_S + trio.current_time() - begun < 3


async def test_one_that_cannot_be_left_is_known_in_time_as_well(
    database: Silent, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread waits for a connection longer than anybody may be kept in doubt."""
    ends_after_s = 3.0

    async def check() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(ends_after_s)
        raise Unavailable("gone")

    monkeypatch.setattr(database, "check", check)
    pulse = Pulse(database)
    begun = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pulse.beat)
        await trio.sleep(1.1)
        assert pulse.is_away

    assert trio.current_time() - begun == ends_after_s
    assert pulse.is_away
