"""The composition root: settings reach what they are for, processes share a directory, and an end loses nothing."""

import json
import stat
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from gateway.access.principal import ANONYMOUS
from gateway.app import Services, build, open_services, running, worker_jobs
from gateway.config import Settings
from gateway.edge.call import Caller
from gateway.oci.errors import RegistryError
from gateway.repositories.hosted import HostedRepository
from storage import Digest, Transaction, Unavailable
from storage.metadata import blobs, credentials, projects, repositories
from tests.gateway.access.house import Clock
from tests.gateway.edge.visitors import ask, basic
from tests.gateway.registry import NAME, REPOSITORY, Registry
from tests.served import image_manifest


def settings_of(data: Path, **sections: Any) -> Settings:
    """Settings with this data directory."""
    return Settings.model_validate({**sections, "storage": {"data": data, **sections.get("storage", {})}})


async def header_of_token(registry: Registry, *, scope: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a registry token, read without verifying."""
    query = f"?scope={scope}" if scope else ""
    reply = json.loads((await registry.ask("GET", f"/v2/token{query}")).body)
    return jwt.get_unverified_header(reply["token"]), {
        **jwt.decode(reply["token"], options={"verify_signature": False}),
        "expires_in": reply["expires_in"],
    }


# --- opening and closing -------------------------------------------------------------------------------------------


@pytest.mark.slow  # a database is made from nothing
async def test_a_fresh_directory_becomes_an_installation(tmp_path: Path) -> None:
    """Database, tables, the default storage and a key that nobody else can read; and it can be used at once."""
    async with open_services(settings_of(tmp_path)) as services:
        await services.database.check()
        assert list(services.content.storage_names().values()) == ["default"]
        assert (await services.tokens.grant(ANONYMOUS, (), offline=False)).token

    assert (tmp_path / "sluice.db").is_file()
    assert (tmp_path / "storages" / "default").is_dir()
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


async def test_a_volume_that_is_not_mounted_is_no_empty_store(data_directory: Path) -> None:
    """When the storage's directory is empty while the database knows blobs there, nothing starts, and it says why."""
    async with Registry.open(data_directory) as registry:
        await registry.push_image("v1")
    place = data_directory / "storages" / "default"
    place.rename(data_directory / "elsewhere")
    place.mkdir()
    with pytest.raises(Unavailable, match=r"storage default at .* knows \d+ blobs in it: is the volume mounted\?"):
        async with open_services(settings_of(data_directory)):
            pass
    assert list(place.iterdir()) == []
    place.rmdir()
    (data_directory / "elsewhere").rename(place)
    async with open_services(settings_of(data_directory)):
        pass


async def test_an_existing_directory_is_taken_as_it_is(data_directory: Path) -> None:
    """A second start finds rows, bytes, keys and settings of the first: a token and an image outlive a restart."""
    async with Registry.open(data_directory) as registry:
        manifest = await registry.push_image("v1")
        token = json.loads((await registry.ask("GET", f"/v2/token?scope=repository:{NAME}:pull")).body)["token"]
        before = await registry.ask("GET", f"/v2/{NAME}/manifests/v1", auth=f"Bearer {token}")

    async with Registry.open(data_directory) as registry:
        after = await registry.ask("GET", f"/v2/{NAME}/manifests/v1", auth=f"Bearer {token}")

    assert (before.status, before.body) == (after.status, after.body) == (200, manifest)


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    """It is an error of storage, which names the place; nothing is made on the way."""
    with pytest.raises(Unavailable, match="missing"):
        async with open_services(settings_of(tmp_path / "missing")):
            pass
    assert list(tmp_path.iterdir()) == []


async def test_processes_share_a_directory(data_directory: Path) -> None:
    """Two that open it at once, as workers do, make one set of keys and see each other's writes at once."""
    opened: list[Services] = []
    both, over = trio.Event(), trio.Event()

    async def worker() -> None:
        async with open_services(settings_of(data_directory)) as services:
            opened.append(services)
            if len(opened) == 2:
                both.set()
            await over.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker)
        nursery.start_soon(worker)
        await both.wait()
        first, second = opened
        token = (await first.tokens.grant(ANONYMOUS, (), offline=False)).token
        assert (await second.authenticator.bearer(token)).is_anonymous
        user = await first.accounts.create_user("alice", None)
        secret = (await first.accounts.create_personal_token(user.id, label="")).text
        assert (await second.authenticator.basic("", secret)).account == user
        over.set()


@pytest.mark.slow  # a database is made from nothing
async def test_first_starts_at_once(tmp_path: Path) -> None:
    """Any number may start on an empty directory: one migrates and makes the keys, and all can be used."""
    tokens: list[str] = []

    async def worker() -> None:
        async with open_services(settings_of(tmp_path)) as services:
            tokens.append((await services.tokens.grant(ANONYMOUS, (), offline=False)).token)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(worker)

    async with open_services(settings_of(tmp_path)) as services:
        for token in tokens:
            assert (await services.authenticator.bearer(token)).is_anonymous
    assert len(tokens) == 4


async def test_leaving_closes_everything(data_directory: Path) -> None:
    """Nothing of the services works afterwards, also when the inside failed; what it raised comes out as it is."""
    with pytest.raises(KeyError, match="inside"):
        async with open_services(settings_of(data_directory)) as services:
            raise KeyError("inside")

    with pytest.raises(Unavailable):
        await services.database.read(projects.find, "common")


# --- settings ------------------------------------------------------------------------------------------------------


async def test_places_are_where_the_settings_say(data_directory: Path, tmp_path: Path) -> None:
    """Database and storages may lie elsewhere; the data directory then holds neither."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data_directory / "sluice.db").rename(elsewhere / "rows.db")
    storage = {
        "database": elsewhere / "rows.db",
        "default": "big",
        "storages": {"big": {"path": elsewhere / "bytes"}, "small": {"compression": "auto"}},
    }
    async with Registry.open(data_directory, storage=storage) as registry:
        assert sorted(registry.services.content.storage_names().values()) == ["big", "small"]
        assert (elsewhere / "bytes").is_dir()

    assert sorted(path.name for path in data_directory.iterdir()) == ["arrivals", "secret.key", "storages"]
    assert [path.name for path in (data_directory / "storages").iterdir()] == ["small"]


async def test_compression_is_per_storage(data_directory: Path) -> None:
    """Only a storage that is set to `auto` keeps what compresses well compressed; both give the bytes back."""
    content = b"the same line over and over\n" * 20000
    storages = {"default": {"compression": "auto"}, "plain": {}}
    async with Registry.open(data_directory, storage={"storages": storages}) as registry:
        digest = await registry.push_blob(content)
        stored = sum(path.stat().st_size for path in (data_directory / "storages").rglob("*") if path.is_file())
        pulled = await registry.ask("GET", f"/v2/{NAME}/blobs/{digest}")

    assert stored < len(content) / 10
    assert pulled.body == content


async def test_access_settings_reach_tokens_and_challenges(data_directory: Path) -> None:
    """Service, lifetime and algorithm are those of the settings."""
    access = {"service": "hub.example", "token_lifetime_s": 77, "token_algorithm": "ES256"}
    async with Registry.open(data_directory, access=access) as registry:
        challenge = (await registry.ask("GET", "/v2/", auth=None)).headers["www-authenticate"]
        header, claims = await header_of_token(registry)

    assert 'service="hub.example"' in challenge
    assert (header["alg"], claims["aud"]) == ("ES256", "hub.example")
    assert claims["exp"] - claims["iat"] == claims["expires_in"] == 77


async def test_a_configured_secret_key_makes_no_file(data_directory: Path) -> None:
    """Replicas share the key by their settings; with another key the signing keys of before cannot be opened."""
    async with open_services(settings_of(data_directory, access={"secret_key": "0f" * 32})) as services:
        token = (await services.tokens.grant(ANONYMOUS, (), offline=False)).token
    assert not (data_directory / "secret.key").exists()

    async with open_services(settings_of(data_directory, access={"secret_key": "0f" * 32})) as services:
        assert (await services.authenticator.bearer(token)).is_anonymous


async def test_limits_reach_the_endpoints(data_directory: Path) -> None:
    """Sizes of manifests and blobs, open uploads of one account, and tags in a page."""
    limits = {"manifest_bytes": 600, "blob_bytes": 50, "uploads_per_account": 2, "tags_page": 3}
    async with Registry.open(data_directory, limits=limits) as registry:
        manifest = await registry.push_image("t0")
        large = image_manifest(b"{}", annotations={"a": "x" * 600})
        uploads = f"/v2/{NAME}/blobs/uploads/"

        assert (await registry.put_manifest(large, "v1")).status == 413
        assert (await registry.ask("POST", f"{uploads}?digest={Digest.of(b'x' * 51)}", b"x" * 51)).status == 413
        for number in range(1, 5):
            await registry.put_manifest(manifest, f"t{number}")
        page = await registry.ask("GET", f"/v2/{NAME}/tags/list?n=100")
        assert json.loads(page.body)["tags"] == ["t0", "t1", "t2"]
        assert "n=3" in page.headers["link"]
        statuses = [(await registry.ask("POST", uploads)).status for _ in range(3)]

    assert statuses == [202, 202, 429]


async def test_server_settings_reach_addresses(data_directory: Path) -> None:
    """The external URL and the names that the gateway goes by."""
    server = {"external_url": "https://hub.example/r", "server_names": ["registry.test"]}
    async with Registry.open(data_directory, server=server) as registry:
        challenge = (await registry.ask("GET", "/v2/", auth=None)).headers["www-authenticate"]
        stranger = await registry.ask("GET", "/v2/", headers={"Host": "other.example"})

    assert 'realm="https://hub.example/r/v2/token"' in challenge
    assert stranger.status == 421


async def test_the_queue_for_passwords_is_as_long_as_set(data_directory: Path) -> None:
    """With one thread and room for one more, three of five logins at once hear that it is too much, none 401 for it."""
    access = {"password_threads": 1, "password_queue": 1}
    async with Registry.open(data_directory, access=access) as registry:
        statuses: list[int] = []

        async def login(number: int) -> None:
            answer = await registry.ask("GET", "/v2/token", auth=basic(f"user-{number}", "wrong-password"))
            statuses.append(answer.status)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(login, number)

    assert sorted(statuses) == [401, 401, 503, 503, 503]


async def test_garbage_settings_reach_the_sweep(data_directory: Path) -> None:
    """With no grace at all, what nothing needs goes with the next run; how often that is, is a setting too."""
    async with Registry.open(data_directory, garbage={"grace_s": 0, "interval_s": 12345}) as registry:
        digest = await registry.push_blob(b"nobody needs me")
        intervals = {job.name: job.every_s for job in worker_jobs(registry.services)}
        for _ in range(2):
            await registry.services.sweep.run()
        gone = await registry.ask("HEAD", f"/v2/{NAME}/blobs/{digest}")

    assert (gone.status, intervals["garbage"]) == (404, 12345)


async def test_what_is_deleted_or_abandoned_waits_as_long_as_set(data_directory: Path) -> None:
    """A deleted manifest can be restored, and an unfinished upload continued, within the times of the settings."""
    clock = Clock()
    garbage = {"undelete_s": 100, "upload_expiry_s": 200}
    async with Registry.open(data_directory, clock=clock, garbage=garbage) as registry:
        digest = Digest.of(await registry.push_image("v1"))
        place = await registry.services.database.read(repositories.find, *REPOSITORY.split("/"))
        assert place is not None
        hosted = registry.services.open_repository(place, Caller(ANONYMOUS))
        assert isinstance(hosted, HostedRepository)
        session = (await registry.ask("POST", f"/v2/{NAME}/blobs/uploads/")).headers["location"]

        async def wait(seconds: int) -> int:
            clock.now += seconds
            await registry.services.sweep.run()
            return (await registry.ask("GET", session)).status

        await registry.ask("DELETE", f"/v2/{NAME}/manifests/{digest}")
        assert await wait(90) == 204
        assert await hosted.restore_manifest("app", digest) == ["v1"]
        await registry.ask("DELETE", f"/v2/{NAME}/manifests/{digest}")
        assert await wait(105) == 204
        with pytest.raises(RegistryError):
            await hosted.restore_manifest("app", digest)
        assert await wait(10) == 404


async def test_logins_and_keys_live_as_long_as_set(data_directory: Path) -> None:
    """A refresh token lives without use, and one key signs, for the times of the settings."""
    clock = Clock()
    access = {"refresh_lifetime_s": 5000, "key_rotation_s": 7200}
    async with Registry.open(data_directory, clock=clock, access=access) as registry:
        refresh_token = json.loads((await registry.ask("GET", "/v2/token?offline_token=true")).body)["refresh_token"]
        form = f"grant_type=refresh_token&service=sluice&refresh_token={refresh_token}".encode()
        first, _ = await header_of_token(registry)

        async def refreshed(seconds: int) -> int:
            clock.now += seconds
            await registry.services.keyring.refresh()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return (await registry.ask("POST", "/v2/token", form, headers, auth=None)).status

        assert await refreshed(4900) == 200
        assert (await header_of_token(registry))[0]["kid"] == first["kid"]
        await registry.services.authenticator.flush_usage()
        assert await refreshed(4900) == 200
        assert (await header_of_token(registry))[0]["kid"] != first["kid"]
        assert await refreshed(10_001) == 401


async def test_a_body_may_pause_as_long_as_set(data_directory: Path) -> None:
    """A client that sends nothing more within its body hears 408 after that time, not after a minute."""
    async with Registry.open(data_directory, server={"body_idle_timeout_s": 0.01}) as registry:
        headers = {"Authorization": registry.admin, "Transfer-Encoding": "chunked"}

        answer = await ask(registry.app, f"/v2/{NAME}/manifests/v1", "PUT", headers, receive=trio.sleep_forever)

    assert (answer.status, answer.codes) == (408, ["BLOB_UPLOAD_INVALID"])


# --- a worker ------------------------------------------------------------------------------------------------------


async def test_jobs_of_a_worker(registry: Registry) -> None:
    """What must not run twice at once runs under a lease, and what is collected in memory is written at the end."""
    jobs = {job.name: job for job in worker_jobs(registry.services)}

    assert len(jobs) == len(worker_jobs(registry.services))
    assert {name for name, job in jobs.items() if job.alone} == {
        "garbage",
        "ended_credentials",
        "scrub",
        "cache_bounds",
    }
    assert {name for name, job in jobs.items() if job.at_end} == {"credential_usage", "link_renewals", "pull_times"}
    assert not jobs["arrivals"].alone


async def test_an_end_writes_down_what_was_collected(data_directory: Path) -> None:
    """Times of last use and renewed links wait in memory for seconds; a worker that stops writes them first."""
    now = 1_800_000_000
    clock = Clock(now)
    async with Registry.open(data_directory, clock=clock, garbage={"grace_s": 1000}) as registry:
        services = registry.services
        digest = await registry.push_blob(b"{}")
        clock.now = now + 600  # more than half of the grace period: from then on a link is renewed
        async with running(services):
            assert (await registry.ask("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 200
            assert await services.database.read(_last_uses) == [None]
            assert await services.database.read(_linked_at, digest) == now

        assert await services.database.read(_last_uses) == [now + 600]
        assert await services.database.read(_linked_at, digest) == now + 600


async def test_a_worker_that_fails_writes_it_down_too(data_directory: Path) -> None:
    """What ends the worker makes no difference."""

    async def crash(registry: Registry) -> None:
        async with running(registry.services):
            await registry.ask("GET", "/v2/")
            raise KeyError("crash")

    async with Registry.open(data_directory) as registry:
        with pytest.RaisesGroup(pytest.RaisesExc(KeyError, match="crash")):
            await crash(registry)

        assert None not in await registry.services.database.read(_last_uses)


def _last_uses(tx: Transaction) -> list[int | None]:
    """When each personal token of the administrator was used last."""
    return [each.last_used_at for each in credentials.of_account(tx, 1, "personal")]


def _linked_at(tx: Transaction, digest: Digest) -> int | None:
    """When an image of the repository was last told that it has that blob."""
    found = blobs.linked(tx, 1, digest)
    return found[1] if found else None


async def test_one_application_answers_everything(registry: Registry) -> None:
    """The registry, the management API and health; what is neither is 404 in JSON, without a file from disk."""
    statuses = {
        path: (await registry.ask("GET", path)).status
        for path in ("/v2/", "/v2", "/health", "/api/v1/repos", "/v3/", "/", "/static/x", "/v2x")
    }

    assert statuses == {
        "/v2/": 200,
        "/v2": 200,
        "/health": 200,
        "/api/v1/repos": 200,
        "/v3/": 404,
        "/": 404,
        "/static/x": 404,
        "/v2x": 404,
    }
    lost = await registry.ask("GET", "/v3/")
    assert (lost.headers["content-type"], len(lost.codes)) == ("application/json", 1)


async def test_applications_of_one_process_share_nothing_but_services(registry: Registry) -> None:
    """Building twice registers nothing twice: each application answers for itself."""
    again = build(registry.services)

    answer = await ask(again, "/v2/", headers={"Authorization": registry.admin})

    assert (answer.status, answer.body) == (200, b"{}")
    assert [name for name, _ in answer.all_headers].count("docker-distribution-api-version") == 1
