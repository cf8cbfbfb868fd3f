"""Requests go where the bucket is, and are signed with the credentials of now."""

import pytest
import trio

from storage.blocking import Pool
from storage.s3.requests import Address, KeptCredentials, Requests
from storage.s3.settings import S3Settings
from storage.transfer import Credentials, Origin

PATH = S3Settings("pail")
VIRTUAL = S3Settings("pail", addressing="virtual")


@pytest.mark.parametrize(
    ("endpoint", "settings", "origin", "path"),
    [
        ("https://s3.example:9000", PATH, Origin("https", "s3.example", 9000), "/pail/a b"),
        ("https://s3.example/", PATH, Origin("https", "s3.example", 443), "/pail/a b"),
        ("http://s3.example/gate", PATH, Origin("http", "s3.example", 80), "/gate/pail/a b"),
        ("http://[::1]:80", PATH, Origin("http", "::1", 80), "/pail/a b"),
        ("https://s3.example", VIRTUAL, Origin("https", "pail.s3.example", 443), "/a b"),
        ("https://s3.example/gate", VIRTUAL, Origin("https", "pail.s3.example", 443), "/gate/a b"),
    ],
)
def test_address(endpoint: str, settings: S3Settings, origin: Origin, path: str) -> None:
    """A bucket is a folder of the endpoint, or a host below its host."""
    address = Address.of(endpoint, settings)
    assert (address.origin, address.path_of("a b")) == (origin, path)


@pytest.mark.parametrize("endpoint", ["s3.example", "ftp://s3.example", "http://", "http://u:p@s3", "http://s3/?a=b"])
def test_no_address(endpoint: str) -> None:
    """What is no address is refused."""
    with pytest.raises(ValueError, match="http"):
        Address.of(endpoint, PATH)


class Source:
    """Credentials that change each time they are asked for; the first `fails` times there are none."""

    def __init__(self, *, fails: int = 0) -> None:
        self.asked = 0
        self.fails = fails

    def __call__(self) -> Credentials:
        """The next ones."""
        self.asked += 1
        if self.asked <= self.fails:
            raise OSError("down")
        return Credentials(f"key-{self.asked}", "secret", None)


async def test_credentials_are_kept(autojump_clock: trio.testing.MockClock) -> None:
    """A hundred requests at once ask the source once, and it is asked again after a minute or a refusal."""
    source = Source()
    kept = KeptCredentials(source, pool=Pool("s3", 2))
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(kept.now)
    assert source.asked == 1
    await trio.sleep(61)
    assert (await kept.now()).access_key_id == "key-2"
    kept.forget()
    assert (await kept.now()).access_key_id == "key-3"


async def test_failed_source_is_asked_again() -> None:
    """A source that failed is not remembered as having failed."""
    source = Source(fails=1)
    kept = KeptCredentials(source, pool=Pool("s3", 2))
    with pytest.raises(OSError, match="down"):
        await kept.now()
    assert (await kept.now()).access_key_id == "key-2"


async def test_request() -> None:
    """The target is encoded as it is signed, and the digest is the one that the signature carries."""
    kept = KeptCredentials(Source(), pool=Pool("s3", 2))
    requests = Requests(PATH, endpoint_url="http://s3.example", credentials=kept)
    query = [("partNumber", "1"), ("uploadId", "2~a/b")]
    request = await requests.signed("PUT", "a b/c+d", query, sha256="0" * 64, extra=[("if-none-match", "*")])
    assert request.target == "/pail/a%20b/c%2Bd?partNumber=1&uploadId=2~a%2Fb"
    fields = dict(request.headers)
    assert (fields["x-amz-content-sha256"], fields["if-none-match"]) == ("0" * 64, "*")
    assert "Credential=key-1/" in fields["authorization"]
    unsigned = dict((await requests.signed("GET", "a")).headers)
    assert unsigned["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


async def test_presigned_at_public_endpoint() -> None:
    """A presigned address leads to the endpoint that clients can reach, and is signed for it."""
    kept = KeptCredentials(Source(), pool=Pool("s3", 2))
    requests = Requests(PATH, endpoint_url="http://inside.example", credentials=kept)
    url = await requests.presigned("a b", expires_s=60, endpoint_url="https://outside.example")
    assert url.startswith("https://outside.example/pail/a%20b?")
    inside = await requests.presigned("a b", expires_s=60)
    assert inside.startswith("http://inside.example/pail/a%20b?")
    assert url.rpartition("X-Amz-Signature=")[2] != inside.rpartition("X-Amz-Signature=")[2]
