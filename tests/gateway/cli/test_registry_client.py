"""The client of commands that pull: logins, redirects, and what it does not believe."""

from collections.abc import Iterator

import pytest

from gateway.cli.registry_client import Login, PullFailed, RegistryClient
from gateway.oci.names import Tag
from storage import Digest
from tests.upstream.login import Basic, Bearer
from tests.upstream.script import HTML, Other, Says, on
from tests.upstream.scripted import ScriptedUpstream, send_blobs_to

NAME = "team/app"
SECRET = "c4n4ry-s3cret"


@pytest.fixture
def registry() -> Iterator[ScriptedUpstream]:
    """A registry on a real socket."""
    with ScriptedUpstream() as scripted:
        yield scripted


def _client(registry: ScriptedUpstream) -> RegistryClient:
    return RegistryClient(registry.url, login=Login("ci", SECRET))


def test_a_manifest_and_its_blobs_are_had_with_a_token(registry: ScriptedUpstream) -> None:
    """One login for all that is asked of one image."""
    registry.shelf.image(NAME, "1.0", b"layer" * 1000)
    login = registry.registry.auth = Bearer({"ci": SECRET})
    client = _client(registry)

    found = client.manifest(NAME, Tag("1.0"))
    for blob in found.layers:
        client.ready_blob(NAME, blob.digest, blob.size_bytes)

    assert [blob.size_bytes for blob in found.layers] == [5000]
    assert len(login.logins) == 1


def test_basic_is_understood(registry: ScriptedUpstream) -> None:
    """And a wrong password is said, without it."""
    registry.shelf.image(NAME, "1.0", b"layer")
    registry.registry.auth = Basic({"ci": SECRET})

    assert _client(registry).manifest(NAME, Tag("1.0")).layers
    with pytest.raises(PullFailed, match="401") as caught:
        RegistryClient(registry.url, login=Login("ci", "wr0ng")).manifest(NAME, Tag("1.0"))
    assert "wr0ng" not in str(caught.value)
    with pytest.raises(PullFailed, match="--user"):
        RegistryClient(registry.url).manifest(NAME, Tag("1.0"))


def test_the_password_goes_to_no_other_address(registry: ScriptedUpstream) -> None:
    """P1: neither to a realm on another port, nor along a redirect."""
    with ScriptedUpstream(host="127.0.0.2") as other:
        registry.shelf.image(NAME, "1.0", b"layer" * 100)
        registry.registry.auth = Bearer({"ci": SECRET}, realm=f"{other.url}/token")
        with pytest.raises(PullFailed, match="which is not asked for"):
            _client(registry).manifest(NAME, Tag("1.0"))
        registry.registry.auth = Basic({"ci": SECRET})
        send_blobs_to(registry, other)
        client = _client(registry)
        client.manifest(NAME, Tag("1.0"))
        for blob in client.manifest(NAME, Tag("1.0")).layers:
            client.ready_blob(NAME, blob.digest, blob.size_bytes)

        assert other.requests
        assert all(seen.header("authorization") is None for seen in other.requests)


def test_what_is_no_manifest_is_said(registry: ScriptedUpstream) -> None:
    """Another document under a digest, a page for people, and the registry's own words."""
    image = registry.shelf.image(NAME, "1.0", b"layer")
    registry.script(Other(b"{}"), on("manifests", reference=str(image.digest)), times=1)
    with pytest.raises(PullFailed, match="another digest"):
        _client(registry).manifest(NAME, Digest.parse(image.digest))
    registry.script(HTML, on("manifests"), times=1)
    with pytest.raises(PullFailed, match=NAME):
        _client(registry).manifest(NAME, Tag("1.0"))
    registry.script(Says(404, b'{"errors":[{"code":"X","message":"no\\u001b[31m such"}]}'), on("manifests"), times=1)
    with pytest.raises(PullFailed, match=r"404 no \[31m such"):
        _client(registry).manifest(NAME, Tag("1.0"))


def test_a_blob_that_takes_long_is_asked_for_again(registry: ScriptedUpstream) -> None:
    """What stands between may give up: the registry goes on fetching; other failures are final."""
    registry.shelf.image(NAME, "1.0", b"layer")
    gives_up = registry.script(Says(504, b""), on("blobs"), times=2)
    (layer,) = _client(registry).manifest(NAME, Tag("1.0")).layers

    _client(registry).ready_blob(NAME, layer.digest, layer.size_bytes)
    registry.script(Says(502, b""), on("blobs"), times=1)
    with pytest.raises(PullFailed, match="502 no reason given"):
        _client(registry).ready_blob(NAME, layer.digest, layer.size_bytes)

    assert gives_up.hits == 2


def test_nobody_there_is_said() -> None:
    """With the address."""
    with pytest.raises(PullFailed, match=r"http://127\.0\.0\.1:9"):
        RegistryClient("http://127.0.0.1:9").manifest(NAME, Tag("1.0"))
