"""Health: ready only if the database and every storage can be used; asked often, looked at once a second."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.api.checks import Checks
from storage import Database, Unavailable
from tests.gateway.api.installation import Installation
from tests.gateway.registry import Registry
from tests.gateway.test_installation import in_bucket
from tests.servers.bucket_server import S3Server

READY = {"status": "ok", "checks": {"database": {"status": "ok"}, "storage/default": {"status": "ok"}}}


async def test_a_worker_that_can_serve_is_ready(installation: Installation) -> None:
    """Everybody may ask, with whatever parameters a probe adds."""
    for path in ("/health", "/health?probe=1"):
        reply = await installation.call("GET", path, auth=None)
        assert (reply.status, reply.value) == (200, READY)


async def test_a_missing_disk_is_not_ready_but_alive(installation: Installation) -> None:
    """The storage whose directory is gone is named; why stands in the log, not in the answer."""
    directory = installation.services.settings.storage.directory("default")
    shutil.rmtree(directory)

    with capture_logs() as logs:
        ready = await installation.call("GET", "/health", auth=None)
    live = await installation.call("GET", "/health/live", auth=None)

    assert (ready.status, ready.value["status"]) == (503, "failed")
    assert ready.value["checks"] == {"database": {"status": "ok"}, "storage/default": {"status": "failed"}}
    assert str(directory).encode() not in ready.body
    assert [(each["event"], each["part"]) for each in logs] == [("health_check_failed", "storage/default")]
    assert (live.status, live.value) == (200, {"status": "ok", "checks": {}})


async def test_a_dead_database_is_not_ready(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not hide the state of the rest."""

    async def dead(_: Database) -> None:
        raise Unavailable("locked")

    monkeypatch.setattr(type(installation.services.database), "check", dead)
    reply = await installation.call("GET", "/health", auth=None)

    assert (reply.status, reply.value["checks"]["database"]) == (503, {"status": "failed"})
    assert reply.value["checks"]["storage/default"] == {"status": "ok"}


async def test_a_crowd_is_answered_by_one_look(
    installation: Installation, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many strangers ask, the database is asked once a second."""
    looks = 0
    check = type(installation.services.database).check

    async def counted(database: Database) -> None:
        nonlocal looks
        looks += 1
        await check(database)

    monkeypatch.setattr(type(installation.services.database), "check", counted)

    async def ask(*_: Any) -> None:
        assert (await installation.call("GET", "/health", auth=None)).status == 200

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    crowd = looks
    await trio.sleep(1.1)
    await ask()

    assert (crowd, looks) == (1, 2)


async def test_a_service_is_asked_every_ten_seconds(
    installation: Installation, autojump_clock: trio.testing.MockClock
) -> None:
    """It counts requests, and every replica asks; its state is told by the name of the storage all the same."""
    asked: list[float] = []

    async def refuses() -> None:
        asked.append(trio.current_time())
        raise Unavailable("the bucket does not answer")

    services = installation.services
    checks = Checks({"default": refuses})
    begun = trio.current_time()
    while trio.current_time() < begun + 25:
        seen = await checks.look(services.database, services.content)
        assert seen == {"database": True, "storage/default": False}
        await trio.sleep(1)

    assert [moment - begun for moment in asked] == pytest.approx([0, 10, 20])


@pytest.mark.slow
async def test_a_bucket_that_is_gone_is_not_ready(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """The gateway's own eyes: it asks the bucket, not its rows."""
    async with Registry.open(data_directory, storage={"storages": {"default": in_bucket(radosgw, bucket)}}) as registry:
        (store,) = registry.services.stores.buckets.values()
        await store.check()
        radosgw.client().delete_bucket(Bucket=bucket)
        with pytest.raises(Unavailable):
            await store.check()
