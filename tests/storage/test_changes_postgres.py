"""What is known of a server's changes: certain for a while after each reading, and never lower than before."""

from dataclasses import dataclass

import pytest

from storage.changes_postgres import AT_ONCE, PostgresChanges


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def changes(clock: Clock) -> PostgresChanges:
    """Open, and nothing read yet."""
    made = PostgresChanges(clock)
    made.open()
    return made


def absorb(changes: PostgresChanges, clock: Clock, *rows: tuple[str, int], since: int | None = None) -> bool:
    """A reading that was asked for just now and answered a moment later."""
    clock.now += 0.001
    asked_at = changes.now()
    clock.now += 0.001
    return changes.absorb(rows, since=changes.since() if since is None else since, asked_at=asked_at)


def test_nothing_is_certain_before_the_first_reading(changes: PostgresChanges, clock: Clock) -> None:
    """A look gives None until the table was read, and a number then, be the table empty."""
    assert (changes.look(), changes.last_certain()) == (None, None)
    absorb(changes, clock)
    assert changes.look() == 0
    assert not changes.exact


def test_a_look_is_certain_for_a_while(changes: PostgresChanges, clock: Clock) -> None:
    """Three seconds after the table was last read a look gives None; the last number and its age can still be had."""
    absorb(changes, clock, ("a", 7))
    clock.now += 2.9
    assert changes.look() == 7
    clock.now += 0.2
    assert changes.look() is None
    number, age_s = changes.last_certain() or (0, 0.0)
    assert number == 7
    assert age_s == pytest.approx(3.101)
    absorb(changes, clock, ("a", 7))
    assert changes.look() == 7


def test_the_age_counts_from_the_question(changes: PostgresChanges, clock: Clock) -> None:
    """An answer that took two seconds is as old as its question."""
    asked_at = changes.now()
    clock.now += 2
    changes.absorb([("a", 1)], since=0, asked_at=asked_at)
    clock.now += 1.1
    assert changes.look() is None


def test_scopes_have_the_numbers_of_their_last_changes(changes: PostgresChanges, clock: Clock) -> None:
    """What changed is told apart from what did not."""
    absorb(changes, clock, ("b", 2), ("a", 1))
    absorb(changes, clock, ("a", 3), ("b", 2))
    assert (changes.look(), changes.changed_at("a"), changes.changed_at("b"), changes.changed_at("c")) == (3, 3, 2, 0)


def test_an_older_reading_that_comes_late_takes_nothing_back(changes: PostgresChanges, clock: Clock) -> None:
    """Two threads read; what the quicker one knows stays, also about one and the same scope."""
    absorb(changes, clock, ("a", 1))
    late = changes.now()
    clock.now += 0.001
    absorb(changes, clock, ("a", 5), since=1)
    assert changes.absorb([("a", 4)], since=1, asked_at=late)
    assert (changes.look(), changes.changed_at("a")) == (5, 5)


def test_too_many_at_once_end_all_memories(changes: PostgresChanges, clock: Clock) -> None:
    """More changes than are read at once count as changes of everything."""
    absorb(changes, clock, *((f"s{number}", number) for number in range(AT_ONCE, 0, -1)))
    assert changes.look() == AT_ONCE
    assert changes.changed_at("never heard of") == AT_ONCE


@pytest.mark.parametrize("rows", [[], [("other", 5)]], ids=["fewer", "another"])
def test_another_history_ends_all_memories(changes: PostgresChanges, clock: Clock, rows: list[tuple[str, int]]) -> None:
    """If the newest change known is not there any more, nothing remembered holds, and numbers rise all the same."""
    absorb(changes, clock, ("a", 5))
    remembered = changes.look()
    assert remembered is not None

    assert not absorb(changes, clock, *rows)
    assert changes.look() is None
    assert absorb(changes, clock, *rows, ("b", 4), since=0)

    look = changes.look()
    assert look is not None
    assert look > remembered
    assert all(changes.changed_at(scope) > remembered for scope in ("a", "b", "never heard of"))
    assert all(changes.changed_at(scope) <= look for scope in ("a", "b", "never heard of"))


def test_beginning_anew_ends_all_memories(changes: PostgresChanges, clock: Clock) -> None:
    """As after a reading of another history."""
    absorb(changes, clock, ("a", 5))
    changes.begin_anew()
    assert changes.look() is None
    absorb(changes, clock, ("a", 5))
    assert changes.changed_at("a") > 5
    assert changes.changed_at("b") > 5


def test_closed_it_tells_nothing(changes: PostgresChanges, clock: Clock) -> None:
    """A look gives None from then on."""
    absorb(changes, clock, ("a", 1))
    changes.close()
    assert changes.look() is None
