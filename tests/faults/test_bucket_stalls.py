"""What stands still between Sluice and S3 is given up after the idle limit of half a minute, on all ways at once."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.blobs import Pulled, Pushed, pull, push
from tests.faults.conftest import Harmed
from tests.faults.exchange import Exchange
from tests.faults.fault import UP, Stall
from tests.faults.s3_requests import asks, operation, operations

pytestmark = [pytest.mark.faults, pytest.mark.slow]

MIB = 1 << 20
NAME = "team/stalled"
is_get = asks("GetObject")


def is_whole_part(exchange: Exchange) -> bool:
    """Whether it is a part that is not the last."""
    return operation(exchange) == "UploadPart" and int(exchange.head.field("content-length")) >= 8 * MIB


def test_nothing_moves(harmed: Harmed) -> None:
    """Parts that stall or get no answer are sent again; reads that stall break or are read again; then all is whole."""
    pushed = [os.urandom(10 * MIB) for _ in range(2)]
    pulled = [os.urandom(3 * MIB) for _ in range(3)]
    ways = [("hot", harmed.hot, 0), ("cold", harmed.cold, 0), ("hot", harmed.hot, 1)]
    digests = [push(harmed.sound, NAME, content).digest for content in pulled]
    parts = harmed.proxies["pusher"]
    rules = [
        parts.harm(Stall(2 * MIB, UP), is_whole_part, times=1),
        parts.harm(Stall(), is_whole_part, times=1, skip=1),
    ]
    for (name, _, skip), fault in zip(ways, (Stall(1 * MIB), Stall(1 * MIB), Stall()), strict=True):
        rules.append(harmed.proxies[name].harm(fault, is_get, times=1, skip=skip))

    with ThreadPoolExecutor(5) as pool:
        pushing = [pool.submit(push, harmed.pusher, NAME, content, tries=1) for content in pushed]
        pulling = [pool.submit(pull, way[1], NAME, digest) for way, digest in zip(ways, digests, strict=True)]
    pushes: list[Pushed] = [each.result() for each in pushing]
    pulls: list[Pulled] = [each.result() for each in pulling]

    assert [rule.hits for rule in rules] == [1] * 5
    assert operations(parts.exchanges)["UploadPart"] <= 8
    for content, done in zip(pushed, pushes, strict=True):
        assert done.acknowledged, (done.statuses, done.answers)
        assert pull(harmed.sound, NAME, done.digest).body == content
    for content, arrived, digest, way in zip(pulled, pulls, digests, ways, strict=True):
        assert arrived.body == content if arrived.is_complete else arrived.status != 404
        assert pull(way[1], NAME, digest).body == content
    assert harmed.new_uploads() == set()
