"""What is kept in memory: for how long, how much, and what goes first."""

from gateway.repositories.remembered import Remembered
from tests.storage.scene import Clock


def test_what_is_remembered_has_an_age() -> None:
    """It is found however old it is, and the caller decides; putting it again makes it new."""
    clock = Clock()
    known: Remembered[str, int] = Remembered(weight=10, clock=clock)
    known.put("a", 1)
    clock.advance(50)

    found = known.find("a")
    assert found is not None
    assert (found.value, found.age_s) == (1, 50)
    known.put("a", 2)
    found = known.find("a")
    assert found is not None
    assert (found.value, found.age_s) == (2, 0)
    known.forget("a")
    assert (known.find("a"), known.find("b"), len(known)) == (None, None, 0)


def test_a_clock_that_went_back_remembers_nothing() -> None:
    """What seems to come from the future could be believed for ever."""
    clock = Clock()
    known: Remembered[str, int] = Remembered(weight=10, clock=clock)
    known.put("a", 1)
    clock.advance(-1)

    assert known.find("a") is None
    assert len(known) == 0


def test_the_least_used_go_first() -> None:
    """All together weigh no more than allowed, whatever is put; what alone is too heavy is not kept."""
    known: Remembered[str, str] = Remembered(weight=10, clock=Clock())
    for name in "abcd":
        known.put(name, name, weight=3)
        known.find("a")
    assert [name for name in "abcd" if known.find(name)] == ["a", "c", "d"]

    known.put("e", "e", weight=11)
    assert known.find("e") is None
    known.put("c", "c", weight=10)
    assert [name for name in "abcd" if known.find(name)] == ["c"]
