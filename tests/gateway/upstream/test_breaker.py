"""Tests of when an address in trouble is left alone."""

import pytest
import trio

from gateway.upstream.answers import BreakerState
from gateway.upstream.breaker import REST_S, TROUBLES, WITHIN_S, Breaker
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnknown,
)

URL = "https://up.example"


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def time() -> Time:
    """The clock of the breaker."""
    return Time()


@pytest.fixture
def breaker(time: Time) -> Breaker:
    """A closed one."""
    return Breaker(URL, clock=time, wall_clock=lambda: time.now + 1_000_000)


def fail(breaker: Breaker, error: UpstreamError | None = None) -> None:
    """Ask in vain."""
    error = error or UpstreamFailed("no answer")
    with pytest.raises(type(error)) as caught, breaker.question():
        raise error
    assert caught.value is error


def state(breaker: Breaker) -> BreakerState:
    """What it is now; not a property, which type checkers believe to stay as it is."""
    return breaker.state


def ask(breaker: Breaker) -> None:
    """Ask, and be answered if that gets through."""
    with breaker.question():
        pass


def is_asked(breaker: Breaker) -> bool:
    """Whether a question gets through; it is answered."""
    try:
        ask(breaker)
    except UpstreamFailed:
        return False
    return True


def test_after_five_troubles_in_a_row_nothing_is_asked_and_everybody_is_told_at_once(breaker: Breaker) -> None:
    """The error says how long to wait and what the last trouble was."""
    for _ in range(TROUBLES):
        assert state(breaker) is BreakerState.CLOSED
        fail(breaker, UpstreamSlow("no answer within 5 s"))
    assert state(breaker) is BreakerState.OPEN
    with pytest.raises(UpstreamFailed, match="no answer within 5 s") as caught:
        ask(breaker)
    assert caught.value.retry_after_s == REST_S


def test_an_answer_ends_the_row_of_troubles(breaker: Breaker) -> None:
    """Four troubles, an answer and four more open nothing."""
    for _ in range(TROUBLES - 1):
        fail(breaker)
    was_troubled = breaker.is_troubled
    assert is_asked(breaker)
    assert (was_troubled, breaker.is_troubled) == (True, False)
    for _ in range(TROUBLES - 1):
        fail(breaker)
    assert state(breaker) is BreakerState.CLOSED


@pytest.mark.parametrize("kind", [UpstreamUnknown, UpstreamDenied, UpstreamBusy, UpstreamRefused])
def test_what_the_upstream_says_plainly_is_no_trouble(breaker: Breaker, kind: type[UpstreamError]) -> None:
    """404, 403 and 429 come from a registry that is well."""
    for _ in range(2 * TROUBLES):
        fail(breaker, kind("said so"))
    assert state(breaker) is BreakerState.CLOSED


def test_troubles_far_apart_open_nothing(breaker: Breaker, time: Time) -> None:
    """Five in a row count if they are within half a minute."""
    for _ in range(2 * TROUBLES):
        fail(breaker)
        time.now += WITHIN_S / (TROUBLES - 2)
    assert state(breaker) is BreakerState.CLOSED


def test_after_a_rest_one_question_probes_and_its_answer_closes_it(breaker: Breaker, time: Time) -> None:
    """While the probe is under way, all others still fail at once."""
    for _ in range(TROUBLES):
        fail(breaker)
    time.now += REST_S
    assert state(breaker) is BreakerState.HALF_OPEN
    with breaker.question():
        assert not is_asked(breaker)
    assert state(breaker) is BreakerState.CLOSED
    assert is_asked(breaker)


def test_a_probe_in_vain_opens_it_for_another_rest(breaker: Breaker, time: Time) -> None:
    """One trouble is enough then."""
    for _ in range(TROUBLES):
        fail(breaker)
    time.now += REST_S
    fail(breaker)
    assert state(breaker) is BreakerState.OPEN
    time.now += REST_S / 2
    assert not is_asked(breaker)


async def test_a_cancelled_probe_says_nothing_and_lets_the_next_one_probe(breaker: Breaker, time: Time) -> None:
    """Who leaves while probing leaves it half open, not for ever closed to all."""
    for _ in range(TROUBLES):
        fail(breaker)
    time.now += REST_S
    with trio.CancelScope() as scope:
        scope.cancel()
        with breaker.question():
            await trio.sleep_forever()
    assert state(breaker) is BreakerState.HALF_OPEN
    assert is_asked(breaker)


@pytest.mark.parametrize("error", [CredentialsRejected("no such user"), UpstreamRefused("a private address")])
def test_what_people_have_to_mend_is_told_and_opens_nothing(breaker: Breaker, time: Time, error: UpstreamError) -> None:
    """However often it is met: the upstream did answer, or was not even asked."""
    for _ in range(TROUBLES + 1):
        fail(breaker, error)
    status = breaker.status()
    assert (status.state, status.troubles) == (BreakerState.CLOSED, 0)
    assert (status.last_trouble, status.last_trouble_at) == (str(error), time.now + 1_000_000)


def test_the_status_tells_people_what_is_wrong(breaker: Breaker, time: Time) -> None:
    """The last trouble stays visible with its time, after it is over too."""
    fail(breaker, UpstreamFailed("refused"))
    assert is_asked(breaker)
    status = breaker.status()
    assert (status.url, status.state, status.troubles) == (URL, BreakerState.CLOSED, 0)
    assert (status.last_trouble, status.last_trouble_at) == ("refused", time.now + 1_000_000)
