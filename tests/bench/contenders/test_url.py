"""A registry that is only known by its URL: used like any other, never looked into, never stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contenders.contender import ContenderFailed, Setting, Start
from bench.contenders.ports import free_port
from bench.contenders.setup import ask
from bench.contenders.sluice import Sluice, SluiceServer
from bench.contenders.url import Url
from bench.content import KIB, Layer, image
from bench.processes import Cores

pytestmark = pytest.mark.slow

FREE = Cores(frozenset(), frozenset())


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SluiceServer]:
    """A registry that runs already."""
    server = Sluice().start(Start(tmp_path, FREE, Setting(tls=request.param)))
    assert isinstance(server, SluiceServer)
    yield server
    server.stop()


def test_it_takes_content_and_outlives_the_suite(registry: SluiceServer, tmp_path: Path) -> None:
    """With a user who may push it takes images through its own token realm, and `stop` leaves it running."""
    user, password = registry.login
    contender = Url(registry.endpoint.url, user, password, certificate=registry.endpoint.certificate)
    assert password not in repr(contender)
    server = contender.start(Start(tmp_path, FREE))
    made = image("url", Layer("url", 10 * KIB))
    name = server.name("app")
    for blob in made.blobs:
        server.put_blob(name, blob)
    server.put_manifest(name, made.manifest, "latest")
    headers = {"Authorization": server.authorization(name) or "", "Accept": made.manifest.media_type}
    assert ask(server.endpoint, "GET", f"/v2/{name}/manifests/latest", headers=headers).body == made.manifest.body
    assert server.processes is None
    assert not server.files_of(made.layers[0])
    server.stop()
    assert ask(registry.endpoint, "GET", "/health").status == 200


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:5000", "is not http"),
        ("ftp://127.0.0.1", "is not http"),
        ("http://127.0.0.1:{free_port}", "does not answer"),
    ],
)
def test_what_is_no_registry_is_refused(url: str, why: str, tmp_path: Path) -> None:
    """A URL that cannot be used says why."""
    with pytest.raises(ContenderFailed, match=why):
        Url(url.format(free_port=free_port())).start(Start(tmp_path, FREE))


def test_a_plain_url_has_no_tls_case(tmp_path: Path) -> None:
    """A case about TLS is nothing for a registry without it."""
    with pytest.raises(ContenderFailed, match="TLS"):
        Url("http://127.0.0.1:1").start(Start(tmp_path, FREE, Setting(tls=True)))


def test_a_wrong_password_is_told(registry: SluiceServer, tmp_path: Path) -> None:
    """A refused login is a failure of the contender, with the status."""
    contender = Url(registry.endpoint.url, "admin", "wrong-wrong-wrong", certificate=registry.endpoint.certificate)
    with pytest.raises(ContenderFailed, match="401"):
        contender.start(Start(tmp_path, FREE)).authorization("bench/load/app")
