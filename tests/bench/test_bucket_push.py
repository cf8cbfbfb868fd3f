"""Cases of pushes into a bucket run, and count what they caused."""

import pytest

from bench.cases.bucket_push import BucketPush, cases
from bench.cases.case import Scale
from bench.content import MIB
from tests.bench.conftest import Stand

SIZE = 9 * MIB  # more than a part


def test_names_do_not_change_with_the_scale() -> None:
    """Or a report at another scale would be about other cases."""
    assert [case.name for case in cases(Scale.FULL)] == [case.name for case in cases(Scale.QUICK)]


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize(
    ("case", "has_commit"),
    [
        (BucketPush("streamed", "", 2, SIZE), True),
        (BucketPush("known", "", 1, SIZE, streamed=False), False),
        (BucketPush("chunks", "", 1, SIZE, chunk_bytes=4 * MIB), True),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_each_manner_is_measured(bucket_stand: Stand, case: BucketPush, *, has_commit: bool) -> None:
    """Bytes, requests per blob, and how long the end takes; nothing goes wrong."""
    case.prepare(bucket_stand)

    outcome = case.measure(bucket_stand)

    assert (outcome.errors, outcome.requests) == (0, case.at_once)
    assert outcome.moved_bytes == case.at_once * SIZE
    assert outcome.extra["s3_requests_per_blob"] * case.at_once == sum(
        count for name, count in outcome.extra.items() if name.endswith("_requests")
    )
    assert 2 <= outcome.extra["s3_requests_per_blob"] < 200
    assert outcome.extra["last_byte_to_201_ms"] > 0
    assert ("commit_ms" in outcome.extra) == has_commit
    assert outcome.server_cpu_s is not None
