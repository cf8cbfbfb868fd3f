"""Cases of pulls from a bucket run, and what is read from there is counted."""

from dataclasses import replace

import pytest

from bench.cases.bucket_pull import BucketPull, RedirectedPull, cases
from bench.cases.case import Scale, suits
from bench.contenders.catalog import all_contenders
from bench.content import MIB
from tests.bench.conftest import Stand


def test_names_do_not_change_with_the_scale() -> None:
    """Or a report at another scale would be about other cases."""
    assert [case.name for case in cases(Scale.FULL)] == [case.name for case in cases(Scale.QUICK)]


def test_who_takes_part() -> None:
    """Large crowds and redirects are ours alone; warm pulls are held against our own directory."""
    contenders = all_contenders()
    taken = {case.name: {each.name for each in contenders if suits(case, each)} for case in cases(Scale.QUICK)}

    both = {"sluice-s3", "docker-registry-s3"}
    assert taken == {
        "s3-pull-cold-1": both,
        "s3-pull-cold-8": both,
        "s3-pull-crowd": {"sluice-s3"},
        "s3-pull-crowd-small": both,
        "s3-pull-warm-8": both | {"sluice"},
        "s3-pull-redirected": {"sluice-s3"},
    }


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("clients", [1, 5])
def test_a_first_pull_reads_the_bucket(bucket_stand: Stand, clients: int) -> None:
    """Every round has layers that nobody has pulled; ours reads each once, however many ask at the same time."""
    case = BucketPull(f"pull-{clients}", "", 2, 3 * MIB, clients)
    for number in (1, 2):
        outcome = case.measure(replace(bucket_stand, round=number))

        assert (outcome.errors, outcome.requests) == (0, 2 * clients)
        assert outcome.moved_bytes == 6 * MIB * clients
        assert outcome.extra["s3_read_bytes"] >= 6 * MIB
        if bucket_stand.contender.name == "sluice-s3":
            assert outcome.extra["s3_read_per_stored_byte"] == 1.0


@pytest.mark.slow
@pytest.mark.s3
def test_a_redirected_pull_ends_at_the_bucket(bucket_stands: dict[str, Stand]) -> None:
    """The bytes come from there: the first layer is read once more, for its digest."""
    stand = bucket_stands["sluice-s3"]
    case = RedirectedPull(3, 2 * MIB)
    case.prepare(stand)

    outcome = case.measure(stand)

    assert (outcome.errors, outcome.requests, outcome.moved_bytes) == (0, 3, 6 * MIB)
    assert outcome.extra["s3_read_bytes"] == 8 * MIB
    assert outcome.first_byte is not None
