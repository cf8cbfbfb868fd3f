"""Database and stores are opened as the settings say, and what is wrong with one is said with what to do."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from gateway.app import open_services
from gateway.cli.first_start import PASSWORD_FILE, prepare
from gateway.config import Settings
from gateway.installation import database_of
from storage import PostgresDatabase, SqliteDatabase, Unavailable
from storage.metadata import accounts
from tests.gateway.registry import NAME, Registry
from tests.servers.bucket_server import S3Server


def settings_of(data: Path, **storage: Any) -> Settings:
    """Settings with this data directory, which is made."""
    data.mkdir(parents=True, exist_ok=True)
    return Settings.model_validate({"storage": {"data": data, **storage}})


# --- databases -------------------------------------------------------------------------------------------------------


def test_the_settings_choose_the_database(tmp_path: Path) -> None:
    """A URL means a server; without one it is a file."""
    served = settings_of(tmp_path, database_url="postgresql://sluice@127.0.0.1:1/rows")

    assert isinstance(database_of(settings_of(tmp_path)), SqliteDatabase)
    assert isinstance(database_of(served), PostgresDatabase)


def test_the_extra_for_postgresql_is_named_where_it_is_missing() -> None:
    """Whoever installed without it reads what to install; SQLite needs nothing of it."""
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from gateway.config import Settings\n"
        "from gateway.installation import database_of\n"
        "database_of(Settings())\n"
        "database_of(Settings.model_validate({'storage': {'database_url': 'postgresql://u:hush@127.0.0.1/d'}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("PostgreSQL needs psycopg: install sluice-gateway[postgres]")
    assert "hush" not in done.stderr


async def test_a_database_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    """The operator reads where nobody answers; the log may be read by others."""
    settings = settings_of(tmp_path, database_url="postgresql://sluice:hush-hush@127.0.0.1:1/rows")

    with pytest.raises(Unavailable, match=r"rows on 127\.0\.0\.1") as caught:
        async with open_services(settings):
            pass

    assert "hush" not in str(caught.value)


@pytest.mark.slow
async def test_replicas_that_start_at_once_make_one_installation(tmp_path: Path, empty_postgres_url: str) -> None:
    """Each with a data directory of its own: one administrator, whose password lies with whoever made it, and one key.

    A replica without the same secret key does not start at all, and says what to do.
    """
    secret = {"secret_key": "0f" * 32}
    settings = [
        Settings.model_validate(
            {"storage": {"data": tmp_path / str(number), "database_url": empty_postgres_url}, "access": secret}
        )
        for number in range(3)
    ]
    admins = []

    async def start(each: Settings) -> None:
        admins.append(await prepare(each, password=None))

    async with trio.open_nursery() as nursery:
        for each in settings:
            nursery.start_soon(start, each)

    (made,) = [each for each in admins if each is not None]
    kept = [path.read_text().strip() for path in tmp_path.rglob(PASSWORD_FILE)]
    assert kept == [made.password]
    async with open_services(settings[0]) as one, open_services(settings[1]) as other:
        assert len(await one.database.read(accounts.page, after="", limit=10)) == 1
        token = (await one.tokens.grant(await one.authenticator.basic("admin", made.password), (), offline=False)).token
        assert (await other.authenticator.bearer(token)).account is not None
    stranger = settings[2].model_copy(update={"access": Settings().access})
    with pytest.raises(Unavailable, match=r"give every replica the same, in access\.secret_key"):
        await prepare(stranger, password=None)


# --- buckets ---------------------------------------------------------------------------------------------------------


def in_bucket(server: S3Server, bucket: str, **section: Any) -> dict[str, Any]:
    """The section of the settings for a storage in that bucket."""
    return {
        "kind": "s3",
        "bucket": bucket,
        "endpoint_url": server.endpoint,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        **section,
    }


@pytest.mark.slow
async def test_a_bucket_takes_pushes_and_gives_pulls(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """The bytes lie in the bucket, the second pull comes from local disk, and both are what was pushed."""
    storage = {"storages": {"default": in_bucket(radosgw, bucket)}}
    content = b"0123456789" * 10_000
    async with Registry.open(data_directory, storage=storage) as registry:
        digest = await registry.push_blob(content)
        first = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")
        (store,) = registry.services.stores.hot.values()
        with trio.fail_after(10):
            while not store.hotset.statistics().kept:  # noqa: ASYNC110 - a thread or a server tells, no event
                await trio.sleep(
                    0.01
                )  # a real disk and a real service; the intake keeps the file after its last reader
        second = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")
        hits = store.hotset.statistics().hits

    assert (first.status, first.body) == (second.status, second.body) == (200, content)
    assert hits == 1
    assert sum(radosgw.objects(bucket, "blobs/").values()) == len(content)
    assert len(radosgw.objects(bucket, "markers/")) == 1
    assert list((data_directory / "spool" / "default").iterdir()) == []


@pytest.mark.slow
async def test_without_room_on_disk_every_pull_comes_from_the_bucket(
    data_directory: Path, radosgw: S3Server, bucket: str
) -> None:
    """`hot_bytes` 0 makes no directory, and commands that serve nobody go without it, too."""
    async with Registry.open(
        data_directory, storage={"storages": {"default": in_bucket(radosgw, bucket, hot_bytes=0)}}
    ) as registry:
        digest = await registry.push_blob(b"content")
        pulled = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")
        assert registry.services.stores.hot == {}
    assert (pulled.status, pulled.body) == (200, b"content")

    settings = settings_of(data_directory, storages={"default": in_bucket(radosgw, bucket)})
    async with open_services(settings, hot=False) as services:
        assert services.stores.hot == {}
    assert not (data_directory / "hot").exists()


@pytest.mark.slow
async def test_a_hot_set_without_a_disk_costs_no_pull(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """Copies are a comfort: where their directory cannot be made, the log says so and the bucket is read."""
    (data_directory / "hot").write_text("in the way")
    with structlog.testing.capture_logs() as events:
        storage = {"storages": {"default": in_bucket(radosgw, bucket)}}
        async with Registry.open(data_directory, storage=storage) as registry:
            digest = await registry.push_blob(b"content")
            pulled = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")

    assert (pulled.status, pulled.body) == (200, b"content")
    assert [event["storage"] for event in events if event["event"] == "hot_set_unusable"] == ["default"]


@pytest.mark.slow
async def test_the_wrong_bucket_is_no_empty_store(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """When nothing was published in it while the database knows blobs there, nothing starts, and it says why."""
    async with Registry.open(data_directory, storage={"storages": {"default": in_bucket(radosgw, bucket)}}) as registry:
        await registry.push_blob(b"content")
    wrong = {"default": in_bucket(radosgw, bucket, prefix="elsewhere")}

    with pytest.raises(
        Unavailable, match=rf"storage default in bucket {bucket}, prefix elsewhere .* knows 1 blobs in it: are bucket"
    ):
        async with open_services(settings_of(data_directory, storages=wrong)):
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [({"bucket": "no-such-bucket"}, "no-such-bucket"), ({"secret_access_key": "hush-hush"}, "refused the credentials")],
)
async def test_a_bucket_that_cannot_be_used_is_named(
    data_directory: Path, radosgw: S3Server, bucket: str, change: dict[str, str], words: str
) -> None:
    """One line that says what to do, and no secret in it; what was open is closed."""
    storages = {"default": {**in_bucket(radosgw, bucket), **change}}

    with pytest.raises(Unavailable, match=words) as caught:
        async with open_services(settings_of(data_directory, storages=storages)):
            pass

    assert "hush" not in str(caught.value)


@pytest.mark.slow
async def test_what_is_raised_inside_comes_out_as_it_is(data_directory: Path, radosgw: S3Server, bucket: str) -> None:
    """Not in a group because a nursery hosts the intakes: commands tell errors by their class."""
    settings = settings_of(data_directory, storages={"default": in_bucket(radosgw, bucket)})

    with pytest.raises(KeyError, match="inside"):
        async with open_services(settings):
            raise KeyError("inside")
