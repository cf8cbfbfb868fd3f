"""The stampede is what it says: a crowd on a blob that the proxy has to fetch, held against one direct download."""

from pathlib import Path

import pytest

from bench.cases.case import Scale, suits
from bench.cases.stampede import Stampede, cases
from bench.contenders.catalog import all_contenders
from bench.contenders.contender import Start
from bench.contenders.through import sluice_through
from bench.content import MIB
from bench.processes import Cores
from tests.bench.conftest import Stand

FREE = Cores(frozenset(), frozenset())


def test_names_do_not_change_with_the_scale() -> None:
    """Or a report at another scale would be about other cases."""
    assert [case.name for case in cases(Scale.FULL)] == [case.name for case in cases(Scale.QUICK)]


def test_who_takes_part() -> None:
    """The large crowd is ours alone: the peer fetches once per client, which takes minutes."""
    contenders = all_contenders()
    taken = {case.name: {each.name for each in contenders if suits(case, each)} for case in cases(Scale.QUICK)}

    assert taken == {
        "stampede-20": {"sluice-proxy", "docker-registry-proxy"},
        "stampede-200": {"sluice-proxy", "sluice-proxy-2-workers"},
    }


@pytest.mark.slow
def test_a_crowd_costs_one_fetch(tmp_path: Path) -> None:
    """Everybody gets all of it, and the figures that targets are about are there."""
    contender = sluice_through()
    if why := contender.missing():
        pytest.skip(why)
    server = contender.start(Start(tmp_path, FREE))
    try:
        stand = Stand(server, contender)
        case = Stampede("stampede-5", 5, 3 * MIB)
        case.prepare(stand)

        outcome = case.measure(stand)

        assert (outcome.errors, outcome.requests, outcome.moved_bytes) == (0, 5, 15 * MIB), outcome.complaints
        assert (outcome.extra["upstream_gets"], outcome.extra["upstream_bytes_per_byte"]) == (1, 1.0)
        assert outcome.extra["last_byte_of_direct"] > 0
        assert {"first_byte_later_ms", "rss_growth_bytes"} <= outcome.extra.keys()
    finally:
        server.stop()
