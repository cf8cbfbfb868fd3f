"""A bucket of a real service does what `Bucket` promises, on every way to it, and says what to do when it cannot."""

import http.client
import os
import tempfile
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import trio

from storage.blobstore import Span
from storage.blocking import Pool
from storage.errors import BlobUnknown, Conflict, Damaged, DigestMismatch, Unavailable, UploadUnknown
from storage.s3.bucket import Bucket, ObjectInfo
from storage.transfer import FileSpan, Payload, Stream
from tests.servers.bucket_server import S3Server
from tests.storage.s3.buckets import WAYS, opened, settings_for

MIB = 1 << 20
CONTENT = bytes(range(251)) * 3000
ODD_KEY = "odd/a b+c&d=é~%2F:*'(),"


@pytest.fixture(scope="module")
def shared(radosgw: S3Server) -> str:
    """A bucket for all tests of this file, each below its own prefix."""
    return radosgw.new_bucket()


@pytest.fixture(params=WAYS)
async def bucket(request: pytest.FixtureRequest, radosgw: S3Server, shared: str) -> AsyncIterator[Bucket]:
    """A bucket that is ready, on each way."""
    async with opened(settings_for(radosgw, shared, request.param)) as ready:
        yield ready


class in_pieces:  # noqa: N801  # reads as what it does
    """The content as a client sends it. No generator: a server that answers early leaves it where it is."""

    def __init__(self, content: bytes, size_bytes: int = 100_000) -> None:
        self._rest = iter([content[start : start + size_bytes] for start in range(0, len(content), size_bytes)])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        for piece in self._rest:
            return piece
        raise StopAsyncIteration


def file_of(content: bytes) -> FileSpan:
    """The content in the middle of a file that nobody else has."""
    with tempfile.TemporaryFile() as file:
        file.write(b"before" + content + b"behind")
        file.flush()
        return FileSpan(os.dup(file.fileno()), 6, 6 + len(content))


async def read(bucket: Bucket, key: str, span: Span | None = None) -> bytes:
    """All bytes."""
    async with bucket.get(key, span) as download:
        content = b"".join([chunk async for chunk in download.chunks()])
        assert len(content) == download.size_bytes
        return content


async def listed(bucket: Bucket, prefix: str = "", after: str = "") -> list[str]:
    """The keys of a listing."""
    return [found.key async for found in bucket.list(prefix, after)]


@pytest.mark.slow
class TestObjects:
    """Whole objects."""

    @pytest.mark.parametrize("kind", ["bytes", "file", "stream"])
    async def test_put_and_get(self, bucket: Bucket, kind: str) -> None:
        """Each kind of payload arrives, under any key, and any span of it comes back."""
        made: dict[str, Payload] = {
            "bytes": CONTENT,
            "file": file_of(CONTENT),
            "stream": Stream(len(CONTENT), in_pieces(CONTENT)),
        }
        etag = await bucket.put(ODD_KEY, made[kind])
        found = await bucket.head(ODD_KEY)
        assert found == ObjectInfo(ODD_KEY, len(CONTENT), etag, found.modified_at)
        assert await read(bucket, ODD_KEY) == CONTENT
        assert await read(bucket, ODD_KEY, Span(17, 300_001)) == CONTENT[17:300_001]
        assert await listed(bucket) == [ODD_KEY]

    async def test_download_tells_sizes(self, bucket: Bucket) -> None:
        """A span that reaches beyond the end is shorter, one behind it is damage, and the whole size is always told."""
        await bucket.put("a", b"0123456789")
        async with bucket.get("a", Span(8, 99)) as download:
            assert (download.size_bytes, download.total_bytes) == (2, 10)
        with pytest.raises(Damaged):
            async with bucket.get("a", Span(10, 99)):
                pass

    async def test_empty_object(self, bucket: Bucket) -> None:
        """No bytes are an object too."""
        await bucket.put("empty", b"")
        assert (await bucket.head("empty")).size_bytes == 0
        assert await read(bucket, "empty") == b""

    async def test_absent_object(self, bucket: Bucket) -> None:
        """What is not there is unknown, and removing it is fine."""
        with pytest.raises(BlobUnknown):
            await bucket.head("absent")
        with pytest.raises(BlobUnknown):
            await read(bucket, "absent")
        with pytest.raises(BlobUnknown):
            await bucket.copy("absent", "elsewhere")
        await bucket.delete("absent")
        await bucket.delete("absent", "absent too")

    async def test_delete(self, bucket: Bucket) -> None:
        """One or many go at once, and nothing else goes."""
        for key in "abcd":
            await bucket.put(key, b"")
        await bucket.delete("a")
        await bucket.delete("b", "d")
        assert await listed(bucket) == ["c"]

    async def test_if_absent(self, bucket: Bucket) -> None:
        """An object that is there is not replaced."""
        await bucket.put("once", b"first", if_absent=True)
        with pytest.raises(Conflict):
            await bucket.put("once", b"second!", if_absent=True)
        with pytest.raises(Conflict):
            await bucket.put("once", Stream(5, in_pieces(b"third")), if_absent=True)
        assert await read(bucket, "once") == b"first"

    async def test_verified(self, bucket: Bucket) -> None:
        """Where the store verifies digests, other bytes are refused and what was there stays."""
        digest = sha256(CONTENT).hexdigest()
        await bucket.put("verified", Stream(len(CONTENT), in_pieces(CONTENT)), sha256=digest)
        if not bucket.abilities.verifies_sha256:
            assert bucket.settings.data_plane == "boto3"
            return
        with pytest.raises(DigestMismatch, match=digest):
            await bucket.put("verified", Stream(len(CONTENT), in_pieces(CONTENT[::-1])), sha256=digest)
        assert await read(bucket, "verified") == CONTENT

    async def test_copy(self, bucket: Bucket) -> None:
        """A copy has the same bytes, and the source stays."""
        await bucket.put(ODD_KEY, CONTENT)
        await bucket.copy(ODD_KEY, "copy")
        assert await read(bucket, "copy") == await read(bucket, ODD_KEY) == CONTENT

    async def test_copy_in_parts(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is too large to be copied at once is copied in parts."""
        content = os.urandom(11 * MIB)
        await bucket.put("large", content)
        monkeypatch.setattr("storage.s3.bucket._COPY_AT_ONCE_BYTES", 5 * MIB)
        monkeypatch.setattr("storage.s3.bucket._COPY_PART_BYTES", 5 * MIB)
        await bucket.copy("large", "copy")
        assert (await bucket.head("copy")).etag.endswith("-3")
        assert await read(bucket, "copy") == content

    async def test_list_by_pages(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        """A listing goes on over its pages, in order, from where it was told to and not beyond its prefix."""
        monkeypatch.setattr("storage.s3.control.BATCH", 2)
        keys = [f"x/{number}" for number in range(5)]
        for key in [*keys, "y/0", ODD_KEY]:
            await bucket.put(key, b"")
        assert await listed(bucket, "x/") == keys
        assert await listed(bucket, "x/", after="x/1") == keys[2:]
        assert await listed(bucket, "z") == []
        assert await listed(bucket) == sorted([*keys, "y/0", ODD_KEY])

    async def test_presigned(self, radosgw: S3Server, shared: str) -> None:
        """Whoever has the address reads the object, and no other one."""
        async with opened(settings_for(radosgw, shared)) as bucket:
            await bucket.put(ODD_KEY, b"for you")
            await bucket.put("other", b"not for you")
            url = await bucket.presign(ODD_KEY, expires_s=60)
        client = Pool("client", 1)
        assert await client.run(fetch, url) == (200, b"for you")
        quoted = url.partition("?")[0].rpartition("/")[2]
        assert (await client.run(fetch, url.replace(quoted, "other")))[0] == 403


def fetch(url: str) -> tuple[int, bytes]:
    """Status and body of a GET, as a client makes it that follows a redirect."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.slow
class TestUploads:
    """Objects in parts."""

    async def test_parts_in_any_order(self, bucket: Bucket) -> None:
        """Parts of each kind, out of order, with gaps, one written twice, make the object."""
        first, second, last = os.urandom(5 * MIB), os.urandom(6 * MIB), b"the end"
        upload = await bucket.create(ODD_KEY)
        etags = {9: await bucket.put_part(ODD_KEY, upload, 9, last)}
        await bucket.put_part(ODD_KEY, upload, 2, last)
        etags[2] = await bucket.put_part(ODD_KEY, upload, 2, file_of(first))
        etags[7] = await bucket.put_part(ODD_KEY, upload, 7, Stream(len(second), in_pieces(second)))
        assert await bucket.list_parts(ODD_KEY, upload) == [
            (2, 5 * MIB, etags[2]),
            (7, 6 * MIB, etags[7]),
            (9, 7, etags[9]),
        ]
        with pytest.raises(BlobUnknown):
            await bucket.head(ODD_KEY)
        for _ in range(2):  # repeating it is fine
            await bucket.complete(ODD_KEY, upload, sorted(etags.items()))
        assert await read(bucket, ODD_KEY) == first + second + last
        assert not await bucket.abort(ODD_KEY, upload)

    async def test_copied_part(self, bucket: Bucket) -> None:
        """Bytes of another object become a part without passing here."""
        content = os.urandom(6 * MIB)
        await bucket.put("source", content)
        upload = await bucket.create("target")
        parts = [
            (1, await bucket.copy_part("target", upload, 1, source="source", span=Span(MIB, 6 * MIB))),
            (2, await bucket.put_part("target", upload, 2, b"!")),
        ]
        await bucket.complete("target", upload, parts)
        assert await read(bucket, "target") == content[MIB:] + b"!"
        with pytest.raises(BlobUnknown):
            await bucket.copy_part("target", await bucket.create("target"), 1, source="absent", span=Span(0, 1))

    async def test_unknown_upload(self, bucket: Bucket) -> None:
        """An upload that was aborted, or never was, is unknown."""
        upload = await bucket.create("never")
        etag = await bucket.put_part("never", upload, 1, b"part")
        assert await bucket.abort("never", upload)
        assert not await bucket.abort("never", upload)
        for each in (upload, "2~of-nobody"):
            with pytest.raises(UploadUnknown):
                await bucket.put_part("never", each, 1, b"part")
            with pytest.raises(UploadUnknown):
                await bucket.complete("never", each, [(1, etag)])
            with pytest.raises(UploadUnknown):
                await bucket.list_parts("never", each)

    async def test_missing_part(self, bucket: Bucket) -> None:
        """Completing with a part that is not there, or other than said, makes nothing."""
        upload = await bucket.create("gap")
        etag = await bucket.put_part("gap", upload, 1, b"part")
        with pytest.raises(UploadUnknown):
            await bucket.complete("gap", upload, [(1, "0" * 32)])
        with pytest.raises(UploadUnknown):
            await bucket.complete("gap", upload, [(1, etag), (2, etag)])
        with pytest.raises(BlobUnknown):
            await bucket.head("gap")

    async def test_unfinished_uploads_are_listed(self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each upload that is under way is told of, by pages."""
        monkeypatch.setattr("storage.s3.control.BATCH", 2)
        begun = {("u/" + key, await bucket.create("u/" + key)) for key in "aabcd"}
        await bucket.create("other")
        found = [each async for each in bucket.list_uploads("u/")]
        assert {(key, upload) for key, upload, _ in found} == begun
        assert len(found) == 5
        assert all(begun_at > 1_700_000_000 for _, _, begun_at in found)


@pytest.mark.slow
class TestOpening:
    """What is said when a bucket cannot be used."""

    async def _refusal(self, server: S3Server, bucket: str, **changes: Any) -> str:
        with pytest.raises(Unavailable) as caught:
            async with opened(settings_for(server, bucket, **changes)):
                pass
        return str(caught.value)

    async def test_no_such_bucket(self, radosgw: S3Server) -> None:
        """A bucket that is not there is trouble, never an absent object."""
        assert "no bucket nowhere at this endpoint" in await self._refusal(radosgw, "nowhere")

    async def test_wrong_secret(self, radosgw: S3Server, shared: str) -> None:
        """The message says where the credentials came from, and not what they are."""
        said = await self._refusal(radosgw, shared, secret_access_key="not-the-secret")
        assert "credentials from the configuration (SignatureDoesNotMatch)" in said
        assert "not-the-secret" not in said

    async def test_nobody_there(self, radosgw: S3Server, shared: str) -> None:
        """An endpoint that nobody listens at is trouble that may pass."""
        assert "refused" in (await self._refusal(radosgw, shared, endpoint_url="http://127.0.0.1:9")).lower()

    async def test_unknown_authority(self, radosgw: S3Server, shared: str) -> None:
        """A certificate that nobody vouches for is not believed, on either plane."""
        for plane in ("own", "boto3"):
            said = await self._refusal(
                radosgw, shared, endpoint_url=radosgw.tls_endpoint, ca_file=None, data_plane=plane
            )
            assert "certificate" in said.lower()

    async def test_unreadable_authority(self, radosgw: S3Server, shared: str) -> None:
        """A file of certificates that is not there is named."""
        said = await self._refusal(radosgw, shared, ca_file="no/such/file.pem", endpoint_url=radosgw.tls_endpoint)
        assert "certificates" in said

    async def test_opens_after_all(self, radosgw: S3Server, shared: str) -> None:
        """A bucket that could not be opened can be opened later by the same object."""
        settings = settings_for(radosgw, shared)
        gone = Bucket(settings, pool=Pool("s3", 2))
        with pytest.raises(Unavailable, match="not open"):
            await gone.head("early")
        await gone.open()
        await gone.put("late", b"")
        await gone.aclose()
        await gone.aclose()
        with pytest.raises(Unavailable, match="not open"):
            await gone.head("late")


@pytest.mark.slow
async def test_lifecycle_keeps_what_others_set(radosgw: S3Server) -> None:
    """Our rules come beside those that are there, and once."""
    name = radosgw.new_bucket()
    client = radosgw.client()
    theirs = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [theirs]})
    for _ in range(2):
        async with opened(settings_for(radosgw, name, prefix="here")) as bucket:
            await bucket.put_lifecycle()
            assert bucket.abilities.lifecycle
    rules = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    assert sorted(rule["ID"] for rule in rules) == [
        "here-sluice-probe",
        "here-sluice-staging",
        "here-sluice-uploads",
        "theirs",
    ]
    assert theirs in rules
