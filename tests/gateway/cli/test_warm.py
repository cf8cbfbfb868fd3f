"""`sluice warm`: a list of images is pulled through a real gateway, and what cannot be had is said."""

import io
from collections.abc import Iterator

import click
import pytest

from gateway.cli.warm import Image, read_list
from gateway.oci.names import Tag
from storage import Digest
from tests.gateway.cli.command import Outcome, run
from tests.people import make_place, unique
from tests.served import ADMIN, Served
from tests.upstream.proxied import make_proxy
from tests.upstream.scripted import ScriptedUpstream

DIGEST = "sha256:" + "0" * 64


def _read(text: str, host: str = "registry.example:5000") -> list[Image]:
    return read_list(io.StringIO(text), host=host)


def test_a_list_has_one_image_per_line() -> None:
    """With or without the gateway's host, by tag or digest; comments, empty lines and repetitions are left out."""
    found = _read(f"# ours\n\nteam/app:1.0  # the old one\nregistry.example:5000/team/app:1.0\nteam/app\nb@{DIGEST}\n")

    assert [(each.name, each.reference) for each in found] == [
        ("team/app", Tag("1.0")),
        ("team/app", Tag("1.0")),
        ("team/app", Tag("latest")),
        ("b", Digest.parse(DIGEST)),
    ]


def test_every_line_that_is_no_image_is_named() -> None:
    """All at once, with their numbers."""
    with pytest.raises(click.UsageError) as caught:
        _read("fine:1\nUpper:1\nother.example:5000/app:1\napp@sha256:00\napp:-\n")

    text = caught.value.message
    assert [f"line {number}:" in text for number in (1, 2, 3, 4, 5)] == [False, True, True, True, True]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway of one worker."""
    with Served(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream without content."""
    with ScriptedUpstream() as scripted:
        yield scripted


def _warm(gateway: Served, text: str, *words: str) -> Outcome:
    user, password = ADMIN
    return run(
        "warm", "-", "--url", gateway.url, "--user", user, *words, stdin=text, environ={"SLUICE_PASSWORD": password}
    )


@pytest.mark.slow
def test_a_list_is_brought_to_the_gateway(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Whole, with blobs of megabytes; afterwards the upstream is not needed, and once more costs it no bytes."""
    image = upstream.shelf.image("team/app", "1.0", b"a" * (3 << 20), b"b" * 1000)
    place = make_proxy(gateway, upstream)
    size = sum(map(len, image.blobs.values()))

    first = _warm(gateway, f"{place.name}/team/app:1.0\n")
    gets = upstream.all_gets()
    again = _warm(gateway, f"{place.name}/team/app@{image.digest}\n")
    upstream.refuse()
    served = [gateway.admin("GET", f"/v2/{place.name}/team/app/blobs/{digest}") for digest in image.blobs]

    assert first.code == 0, first
    assert first.out.startswith("1 of 1 images are there: 3 blobs")
    assert (again.code, upstream.all_gets()) == (0, gets)
    assert sum(len(each.body) for each in served) == size
    assert {each.status for each in served} == {200}


@pytest.mark.slow
def test_only_the_named_platform_is_brought(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The others stay where they are."""
    index = upstream.shelf.index("team/app", "multi", {"linux/amd64": (b"a" * 9,), "linux/arm64": (b"b" * 9,)})
    place = make_proxy(gateway, upstream)

    outcome = _warm(gateway, f"{place.name}/team/app:multi\n", "--platform", "linux/arm64")

    assert outcome.code == 0, outcome
    assert upstream.gets(str(index.images["linux/arm64"].digest)) == 1
    assert upstream.gets(str(index.images["linux/amd64"].digest)) == 0


@pytest.mark.slow
def test_what_cannot_be_had_is_said_at_the_end(gateway: Served, upstream: ScriptedUpstream) -> None:
    """The rest is brought; the exit code is 1, and no password is in what is printed."""
    upstream.shelf.image("team/app", "1.0", b"layer")
    place = make_proxy(gateway, upstream)
    names = [f"{place.name}/team/none:1.0", f"{place.name}/team/app:1.0"]

    outcome = _warm(gateway, "\n".join(names))

    assert outcome.code == 1
    assert outcome.out.startswith("1 of 2 images are there")
    assert f"failed {names[0]}: 404 " in outcome.err
    assert ADMIN[1] not in outcome.out + outcome.err


@pytest.mark.slow
def test_a_login_that_fails_is_said(gateway: Served) -> None:
    """As what it is, and not as a missing image."""
    place = make_place(gateway)
    name = f"{place.name}/{unique('app')}:1"

    wrong = run(
        *("warm", "-", "--url", gateway.url, "--user", "nobody"), stdin=name, environ={"SLUICE_PASSWORD": "wrong"}
    )
    nobody = run("warm", "-", "--url", gateway.url, stdin=name)
    nowhere = run("warm", "-", "--url", "http://127.0.0.1:9", stdin=name)

    assert (wrong.code, nobody.code, nowhere.code) == (1, 1, 1)
    assert "the login failed: 401" in wrong.err
    assert f"failed {name}: 401 " in nobody.err
    assert "name a user with --user" in nobody.err
    assert "127.0.0.1:9" in nowhere.err
