"""Passwords: hashed with bounds, verified exactly, remembered for a minute."""

import unicodedata

import pytest
import trio
import trio.testing
from argon2 import PasswordHasher

from gateway.access.errors import Overloaded
from gateway.access.passwords import MAX_PASSWORD_BYTES, Passwords


@pytest.fixture
def passwords() -> Passwords:
    """Two threads and room for many."""
    return Passwords(threads=2, queue=64)


async def test_a_password_verifies_and_others_do_not(passwords: Passwords) -> None:
    """The stored hash is argon2id with the documented parameters and fits its password only."""
    stored = await passwords.hash("correct horse")

    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "correct horsf")


async def test_nothing_of_a_password_is_cut_off(passwords: Passwords) -> None:
    """T8: the first 72 bytes of a password of 100 do not open it, nor does what stands before a NUL."""
    long, with_nul = await passwords.hash("x" * 100), await passwords.hash("a\0bcdefgh")

    assert not await passwords.verify(long, "x" * 72)
    assert not await passwords.verify(with_nul, "a")
    assert await passwords.verify(with_nul, "a\0bcdefgh")


async def test_text_is_compared_as_it_was_sent(passwords: Passwords) -> None:
    """T8: composed and decomposed forms are different passwords; the bytes count."""
    stored = await passwords.hash("Zürich")

    assert not await passwords.verify(stored, unicodedata.normalize("NFD", "Zürich"))


async def test_what_is_too_long_is_refused_without_work(passwords: Passwords) -> None:
    """T8: 1,024 bytes of UTF-8 are a password, one more is none, to set or to try."""
    longest = "é" * (MAX_PASSWORD_BYTES // 2)
    stored = await passwords.hash(longest)

    assert await passwords.verify(stored, longest)
    checks = passwords.slow_checks
    assert not await passwords.verify(stored, longest + "x")
    assert not await passwords.verify(None, "x" * 1_000_000)
    assert not await passwords.verify(stored, "\ud800")
    assert passwords.slow_checks == checks
    with pytest.raises(ValueError, match="1024 bytes"):
        await passwords.hash(longest + "x")


async def test_an_absent_password_costs_the_same_check(passwords: Passwords) -> None:
    """T7: where there is no hash, one of the same parameters is checked, and never fits."""
    assert not await passwords.verify(None, "anything")

    assert passwords.slow_checks == 1
    assert not passwords.needs_rehash(passwords._dummy)


async def test_a_success_is_remembered_for_a_minute_and_a_failure_never(passwords: Passwords) -> None:
    """A crowd with one password hashes it once; guesses are always paid for."""
    now = 0.0
    passwords = Passwords(threads=1, queue=8, clock=lambda: now)
    stored = await passwords.hash("right")

    assert [await passwords.verify(stored, text) for text in ("right", "right", "wrong", "wrong")] == [True] * 2 + [
        False
    ] * 2
    assert passwords.slow_checks == 3
    now = 60.0
    assert await passwords.verify(stored, "right")
    assert passwords.slow_checks == 4


async def test_a_changed_password_forgets_the_old_one(passwords: Passwords) -> None:
    """A17: the memory is of a password and its hash together; with another hash it says nothing."""
    old, new = await passwords.hash("old one"), await passwords.hash("new one")
    assert await passwords.verify(old, "old one")

    assert not await passwords.verify(new, "old one")


async def test_a_full_queue_refuses_at_once() -> None:
    """A27: with one thread and room for one more, the third login is told to come back; the others are answered."""
    passwords = Passwords(threads=1, queue=1)
    stored = await passwords.hash("right")
    outcomes: list[bool | str] = []

    async def attempt() -> None:
        try:
            outcomes.append(await passwords.verify(stored, "right"))
        except Overloaded:
            outcomes.append("overloaded")

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(attempt)

    assert outcomes == ["overloaded", True, True]  # refused before any hash was done
    assert passwords.slow_checks == 1  # and the same password in the queue was not hashed again


async def test_what_is_remembered_needs_no_place_in_the_queue() -> None:
    """T10: while junk fills the queue, who logged in within the last minute still gets in."""
    passwords = Passwords(threads=1, queue=2)
    stored = await passwords.hash("right")
    assert await passwords.verify(stored, "right")

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(passwords.verify, stored, f"junk {number}")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Overloaded):
            await passwords.verify(stored, "junk")
        assert await passwords.verify(stored, "right")


async def test_a_login_that_is_given_up_leaves_the_queue() -> None:
    """A client that leaves while waiting frees its place."""
    passwords = Passwords(threads=1, queue=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(passwords.verify, None, "first")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await passwords.verify(None, "second")
        nursery.start_soon(passwords.verify, None, "third")


async def test_weaker_hashes_are_recognised(passwords: Passwords) -> None:
    """A hash with other parameters asks to be renewed, today's does not."""
    weaker = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")

    assert passwords.needs_rehash(weaker)
    assert not passwords.needs_rehash(await passwords.hash("x"))


async def test_a_damaged_hash_fits_nothing(passwords: Passwords) -> None:
    """What is no hash is no open door."""
    assert not await passwords.verify("$argon2id$nonsense", "")
    assert not await passwords.verify("", "")
