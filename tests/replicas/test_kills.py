"""kill -9 of one replica after the other amid mixed pushes; what was under way ends on the one that lives."""

import functools
import os
import random
from pathlib import Path

import pytest

from tests.crash.journal import Journal, verify, verify_hot
from tests.crash.test_kill import HOT, finish_open_uploads, run_until_killed
from tests.replicas.pair import serve
from tests.served import Served
from tests.servers.installation import Installation
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.replicas, pytest.mark.slow, pytest.mark.timeout(0)]

ROUNDS = max(3, int(os.environ.get("SLUICE_CRASH_ROUNDS", "0")) // 10)
LAPSED_S = 20.0


def test_kills_lose_nothing_acknowledged(installation: Installation, tmp_path: Path) -> None:
    """After each kill the other replica has every acknowledged byte and ends the pushes that the dead one had begun."""
    seed = random.SystemRandom().getrandbits(32)
    generator, journal = random.Random(seed), Journal()
    with serve(installation, tmp_path) as replicas:
        for number in range(ROUNDS):
            dies, lives = replicas.members[number % 2], replicas.members[1 - number % 2]
            journal.fresh.clear()
            run_until_killed(dies, journal, generator)
            assert wait_until(functools.partial(are_free, lives, journal), LAPSED_S), f"round {number}, seed {seed}"
            finish_open_uploads(lives, journal)
            wrong = verify(lives, journal, journal.fresh) + verify_hot(lives, journal, HOT)
            assert (wrong, journal.failures) == ([], []), f"round {number}, seed {seed}"
            dies.start()
        assert journal.open_uploads == {}
        assert verify(replicas.through, journal, sorted(journal.content)) == []
    print(f"\n{ROUNDS} kills, {len(journal.content)} acknowledged, {len(journal.hot_sent)} moves of one tag, 0 lost")


def are_free(gateway: Served, journal: Journal) -> bool:
    """Whether the dead one's holds on sessions have lapsed: until then somebody uses them, as far as one can know.

    Asked by taking each for a moment: the status of a session is told without taking it.
    """
    return all(gateway.admin("PATCH", location, b"").status in {202, 404} for location in journal.open_uploads)
