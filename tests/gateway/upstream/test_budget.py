"""Tests of what is left of an upstream's pulls. Times are Unix seconds of a clock that the tests move."""

import math
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.answers import BudgetState
from gateway.upstream.budget import LONGEST_RETRY_S, RETRY_S, Budget, RateLimit, read_rate_limit, read_retry_after

NOW = 1_700_000_000.0
URL = "https://up.example"


class Kept:
    """A budget, the clock it goes by, and how often it wanted to be kept."""

    def __init__(self, **state: int) -> None:
        self.now = NOW
        self.changes = 0
        self.budget = Budget(BudgetState(URL, "user", **state), clock=lambda: self.now, changed=self._changed)

    def _changed(self, budget: Budget) -> None:
        self.changes += 1


@pytest.mark.parametrize(
    ("limit", "remaining", "read"),
    [
        ("100;w=21600", "76;w=21600", RateLimit(100, 76, 21600)),
        ("100 ; w=21600", " 0;w=21600 ", RateLimit(100, 0, 21600)),
        ("100, 100;w=60", "5", RateLimit(100, 5, 60)),
        ("100;w=3600", "5", RateLimit(100, 5, 3600)),
        (None, "5;w=10", RateLimit(None, 5, 10)),
        ("100;w=21600", None, None),
        ("100;w=21600", "many", None),
        ("100;w=21600", "-3", None),
        ("100;w=21600", "9" * 40, None),
    ],
)
def test_what_an_answer_says_of_the_budget(limit: str | None, remaining: str | None, read: RateLimit | None) -> None:
    """The forms that registries use; what is not understood says nothing."""
    headers = [("ratelimit-limit", limit), ("content-type", "x"), ("ratelimit-remaining", remaining)]
    assert read_rate_limit([(name, value) for name, value in headers if value is not None]) == read


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        ("0", 1),
        ("999999", LONGEST_RETRY_S),
        ("9" * 400, LONGEST_RETRY_S),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 1),
        (formatdate(NOW + 10**7, usegmt=True), LONGEST_RETRY_S),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: int | None) -> None:
    """Between a second and an hour, whatever it says."""
    assert read_retry_after([("retry-after", value)], now=NOW) == seconds


@given(st.text(max_size=60))
def test_no_text_of_an_upstream_breaks_the_readers(text: str) -> None:
    """Fields are written by strangers."""
    headers = [("ratelimit-limit", text), ("ratelimit-remaining", text), ("retry-after", text)]
    assert read_retry_after(headers, now=NOW) in {None, *range(1, LONGEST_RETRY_S + 1)}
    limit = read_rate_limit(headers)
    assert limit is None or limit.remaining >= 0


def test_nothing_limits_an_upstream_that_says_nothing() -> None:
    """Most registries have no such fields."""
    kept = Kept()
    kept.budget.heard([("content-type", "application/json")])
    assert kept.budget.left() == math.inf
    assert kept.budget.renews_s() == 0
    assert not kept.budget.is_old()
    assert kept.changes == 0


def test_what_was_heard_is_left_until_its_window_ends() -> None:
    """Afterwards all of it is there again."""
    kept = Kept()
    kept.budget.heard([("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "3;w=21600")])
    assert (kept.budget.left(), kept.changes) == (3, 1)
    kept.now += 21_599
    assert (kept.budget.left(), kept.budget.renews_s()) == (3, 1)
    kept.now += 1
    assert (kept.budget.left(), kept.budget.renews_s()) == (100, 0)


def test_pulls_under_way_count_as_spent() -> None:
    """Many at once cannot each take the last one."""
    kept = Kept(allowed=100, remaining=2, window_s=60, observed_at=int(NOW))
    with kept.budget.spending():
        assert kept.budget.left() == 1
        with kept.budget.spending():
            assert kept.budget.left() == 0
    assert kept.budget.left() == 2


def test_a_count_is_old_after_a_minute() -> None:
    """Then a free question tells whether it still holds, for windows slide."""
    kept = Kept(allowed=100, remaining=0, window_s=21_600, observed_at=int(NOW))
    assert not kept.budget.is_old()
    kept.now += 60
    assert kept.budget.is_old()


def test_a_429_is_heeded_for_as_long_as_it_says() -> None:
    """And is kept, so that a restart does not forget it."""
    kept = Kept()
    assert kept.budget.refused([("retry-after", "30")]) == 30
    assert (kept.budget.wait_s(), kept.changes) == (30, 1)
    kept.now += 30
    assert kept.budget.wait_s() == 0


def test_a_429_that_names_no_time_is_heeded_for_some_seconds() -> None:
    """Asking again at once is what 429 is about."""
    kept = Kept()
    assert kept.budget.refused([]) == RETRY_S
    assert kept.budget.wait_s() == RETRY_S


def test_what_is_said_to_a_manifest_does_not_hold_for_blobs() -> None:
    """What is said to a blob holds for both, for as long as it names; a guess of ours does not."""
    kept = Kept()
    kept.budget.refused([("retry-after", "30")])
    kept.budget.refused([], is_of_blob=True)
    assert kept.budget.blobs_wait_s() == 0
    kept.budget.refused([("retry-after", "40")], is_of_blob=True)
    assert (kept.budget.wait_s(), kept.budget.blobs_wait_s()) == (40, 40)
    kept.now += 40
    assert (kept.budget.wait_s(), kept.budget.blobs_wait_s()) == (0, 0)


def test_a_clock_that_was_set_back_stops_nobody_for_long() -> None:
    """What seems to lie far in the future was written by a wrong clock."""
    kept = Kept(allowed=100, remaining=0, window_s=600, observed_at=int(NOW), retry_at=int(NOW) + 30)
    kept.now -= 10 * LONGEST_RETRY_S
    assert kept.budget.wait_s() == 0
    assert kept.budget.left() == 100
