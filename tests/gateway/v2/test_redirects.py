"""Who is sent to the bucket for a blob, and what they find there; everybody else gets it from here."""

import http.client
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.edge.pulls import Kind, Way
from gateway.wire.recall import Asked
from storage.metadata import repositories
from tests.gateway.edge.visitors import Answer
from tests.gateway.registry import NAME, REPOSITORY, Registry
from tests.gateway.test_installation import in_bucket
from tests.servers.bucket_server import S3Server

pytestmark = pytest.mark.slow

CONTENT = b"0123456789" * 1000
INSIDE, OUTSIDE = "198.51.100.7", "203.0.113.9"


@pytest.fixture
async def registry(data_directory: Path, radosgw: S3Server, bucket: str) -> AsyncIterator[Registry]:
    """A registry in a bucket, behind a proxy, whose repository sends clients of one network away."""
    section = in_bucket(radosgw, bucket, redirect_networks=["198.51.100.0/24", "2001:db8::/32"], redirect_lifetime_s=77)
    server = {"trusted_proxies": ["127.0.0.0/8", "192.0.2.0/24"]}
    async with Registry.open(data_directory, server=server, storage={"storages": {"default": section}}) as opened:
        await allow(opened, allowed=True)
        yield opened


async def allow(registry: Registry, *, allowed: bool) -> None:
    """Let the repository send clients away, or not."""
    record = await registry.services.database.read(repositories.find, *REPOSITORY.split("/"))
    assert record is not None
    await registry.services.database.transaction(repositories.update, record.id, now=1, redirect_pulls=allowed)


async def pull(
    registry: Registry,
    path: str,
    *,
    client: str = INSIDE,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A pull by a client behind the proxy."""
    return await registry.ask(method, path, headers={"X-Forwarded-For": client, **(headers or {})})


def fetch(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """What the bucket answers to somebody without any credentials. Blocks the loop, which is not asked."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def test_a_client_of_the_network_is_sent_to_the_bucket(registry: Registry) -> None:
    """Nobody may keep the answer, its address has nothing of the client's credentials and ends; the blob is there."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"

    sent = await pull(registry, path)
    url = sent.headers["location"]
    found = fetch(url)

    assert (sent.status, sent.body, sent.headers["content-length"]) == (307, b"", "0")
    assert sent.headers["cache-control"] == "no-store"
    assert sent.headers["docker-content-digest"] in path
    assert registry.admin.partition(" ")[2] not in url
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["77"]
    assert found == (200, CONTENT)
    assert registry.services.pulls.statistics() == {(Kind.BLOB, Way.REDIRECT): 1}


async def test_a_range_is_repeated_by_the_client(registry: Registry) -> None:
    """The bucket gives it; several at once it does not give, so they are assembled here."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"
    one, several = {"Range": "bytes=5-14"}, {"Range": "bytes=0-1,5-9"}

    sent = await pull(registry, path, headers=one)
    found = fetch(sent.headers["location"], one)
    assembled = await pull(registry, path, headers=several)

    assert sent.status == 307
    assert found == (206, CONTENT[5:15])
    assert assembled.status == 206
    assert b"multipart/byteranges" in assembled.headers["content-type"].encode()


async def test_nobody_is_sent_from_https_to_http(registry: Registry) -> None:
    """The address is the right to read the blob: who asked over TLS gets the bytes over TLS."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"

    plain = await pull(registry, path, headers={"X-Forwarded-Proto": "http"})
    encrypted = await pull(registry, path, headers={"X-Forwarded-Proto": "https"})

    assert plain.status == 307
    assert (encrypted.status, encrypted.body) == (200, CONTENT)


async def test_whoever_is_not_to_be_sent_gets_the_bytes(registry: Registry) -> None:
    """HEAD, manifests, conditions, empty blobs, clients elsewhere or of no known address."""
    digest = await registry.push_blob(CONTENT)
    empty = await registry.push_blob(b"")
    await registry.push_image("v1")
    path = f"/v2/{NAME}/blobs/{digest}"

    answers = [
        await pull(registry, path, method="HEAD"),
        await pull(registry, f"/v2/{NAME}/manifests/v1"),
        await pull(registry, path, headers={"If-None-Match": "*"}),
        await pull(registry, f"/v2/{NAME}/blobs/{empty}"),
        await pull(registry, path, client=OUTSIDE),
        await pull(registry, path, client="2001:db9::1"),
        await pull(registry, path, client="nonsense"),
        await pull(registry, path, headers={"Range": "bytes=999999-"}),
    ]

    assert [answer.status for answer in answers] == [200, 200, 304, 200, 200, 200, 200, 416]
    assert (await pull(registry, path, client="2001:db8::1")).status == 307


async def test_the_repository_decides_at_once(registry: Registry) -> None:
    """Taken back, the next pull is answered here."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"
    before = await pull(registry, path)
    await allow(registry, allowed=False)
    after = await pull(registry, path)

    assert (before.status, after.status, after.body) == (307, 200, CONTENT)


async def test_an_address_is_never_replayed(registry: Registry) -> None:
    """The lane learns nothing of it: each is made anew, for whoever may have it."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"
    fields = [
        (b"host", b"registry.test:8080"),
        (b"authorization", registry.admin.encode()),
        (b"x-forwarded-for", INSIDE.encode()),
    ]

    for _ in range(2):
        assert (await pull(registry, path)).status == 307
    asked = Asked(b"GET", path.encode(), fields, ("192.0.2.7", 1), "http")

    assert registry.services.lane.recall(asked) is None
    assert registry.services.lane.statistics().entries == 0
    assert registry.services.pulls.statistics() == {(Kind.BLOB, Way.REDIRECT): 2}


async def test_what_depends_on_the_client_is_not_remembered(registry: Registry) -> None:
    """Two clients with one login, in two networks: each gets the answer of its own network, whoever came first."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"

    for method in ("HEAD", "GET"):
        assert (await pull(registry, path, client=OUTSIDE, method=method)).status == 200

    assert registry.services.lane.statistics().entries == 0
    assert registry.services.pulls.statistics() == {(Kind.BLOB, Way.APPLICATION): 2}
    await allow(registry, allowed=False)
    await pull(registry, path, client=OUTSIDE)
    assert registry.services.lane.statistics().entries == 1


async def test_who_may_not_read_is_not_sent(registry: Registry) -> None:
    """The right is checked before; nobody learns an address without it."""
    path = f"/v2/{NAME}/blobs/{await registry.push_blob(CONTENT)}"

    refused = await registry.ask("GET", path, headers={"X-Forwarded-For": INSIDE}, auth=None)

    assert refused.status == 401
    assert "location" not in refused.headers
