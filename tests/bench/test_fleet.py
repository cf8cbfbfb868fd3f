"""A CI fleet: the plan is deterministic and takes account of what runners have; real servers answer all of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.cases.case import Case, Scale
from bench.cases.fleet import CiFleet, cases
from bench.contenders.docker_registry import DockerRegistry
from bench.contenders.sluice import Sluice
from bench.content import KIB
from bench.fleet import Fleet, catalog, pulls
from bench.run import Plan, run

SMALL = Fleet(images=4, pool=5, median_layer_bytes=2 * KIB, runners=3, pulls_per_s=30.0, seconds=1.0)


def test_the_plan_repeats_and_rounds_differ() -> None:
    """The same round is the same pulls at the same times, another round is not."""
    assert pulls(SMALL, 1) == pulls(SMALL, 1)
    assert pulls(SMALL, 1) != pulls(SMALL, 2)
    times = [pull.at_s for pull in pulls(SMALL, 1)]
    assert times == sorted(times)
    assert 10 < len(times) < 60
    assert 0 <= times[0] < times[-1] <= SMALL.seconds


def test_images_share_layers() -> None:
    """Layers of the pool occur in several images, others in one, and each image has its own index."""
    images = catalog(SMALL)
    assert len({wanted.index.digest for wanted in images}) == SMALL.images
    layers = [layer for wanted in images for each in wanted.images for layer in each.layers]
    shared = {layer for layer in layers if layers.count(layer) > 1}
    assert 0 < len(shared) <= SMALL.pool
    assert len(set(layers)) > SMALL.pool


def test_runners_fetch_nothing_twice() -> None:
    """With one runner, every blob and every document is fetched exactly once, however often its image is pulled."""
    planned = pulls(replace(SMALL, runners=1), 1)
    blobs = [digest for pull in planned for digest, _ in pull.blobs]
    documents = [digest for pull in planned for digest, _ in pull.documents]
    assert len(set(blobs)) == len(blobs)
    assert len(set(documents)) == len(documents)
    pulled = [wanted for wanted in catalog(SMALL) if any(pull.image == wanted.name for pull in planned)]
    assert set(blobs) == {blob.digest for wanted in pulled for blob in wanted.images[0].blobs}
    assert any(not pull.documents and not pull.blobs for pull in planned)


def test_something_is_always_pulled() -> None:
    """However short it is, there is a pull within the time."""
    (only,) = pulls(replace(SMALL, seconds=0.0), 1)
    assert only.at_s == 0.0
    assert only.blobs


@pytest.mark.slow
def test_registries_serve_a_fleet(tmp_path: Path) -> None:
    """Ours and docker-registry answer every request of the plan, and all latencies are there."""
    contenders = [each for each in (Sluice(), DockerRegistry()) if each.missing() is None]
    case: Case = CiFleet(SMALL)
    report = run(Plan([case], contenders, 1, tmp_path), lambda _: None)
    assert not report.notes
    planned = pulls(SMALL, 1)
    assert [each.contender for each in report.measurements] == [each.name for each in contenders]
    for each in report.measurements:
        assert each.errors == 0
        assert each.requests == sum(1 + len(pull.documents) + len(pull.blobs) for pull in planned)
        assert each.moved_bytes == sum(size for pull in planned for _, size in (*pull.documents, *pull.blobs))
        assert each.first_byte is not None
        assert each.whole is not None
        assert each.extra["pulls"] == each.whole.count == each.first_byte.count == len(planned)
        assert 0 < each.extra["token_p50_ms"] <= each.first_byte.p50_ms <= each.whole.p50_ms


def test_there_is_one_case() -> None:
    """Both scales have the same case."""
    assert [case.name for case in cases(Scale.FULL)] == [case.name for case in cases(Scale.QUICK)] == ["ci-fleet"]
