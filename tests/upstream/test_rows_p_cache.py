"""Security rows P3, P6 and P8 to P10: what is kept of an upstream is right, and stands when the upstream does not."""

import os
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from tests.people import Place, change, make_place
from tests.served import OCI_MANIFEST, Reply, Served, image_manifest, sha256
from tests.servers.processes import wait_until
from tests.upstream.login import Bearer
from tests.upstream.proxied import (
    IMPATIENT,
    blob_path,
    clear,
    files_of,
    image_name,
    in_time,
    is_stored,
    make_proxy,
    make_virtual,
    manifest_path,
)
from tests.upstream.pulling import Client
from tests.upstream.script import (
    HTML,
    Busy,
    Chunked,
    Cut,
    Fault,
    Gzipped,
    Other,
    Reset,
    Says,
    Stall,
    TooLong,
    Truncated,
    WrongByte,
    on,
)
from tests.upstream.scripted import ScriptedUpstream

pytestmark = [pytest.mark.served, pytest.mark.slow]

OTHER_MANIFEST = image_manifest(b"{}", b"another layer")
CREDENTIALS = [{"username": "robot", "password": "secret"}]
TROUBLE = {429, 502, 503, 504}


def ask(gateway: Served, place: Place, image: str, reference: str = "latest") -> Reply:
    """A manifest through the proxy."""
    return gateway.admin("GET", manifest_path(place, image, reference))


def ask_blob(gateway: Served, place: Place, image: str, content: bytes) -> Reply:
    """A blob through the proxy."""
    return gateway.admin("GET", blob_path(place, image, sha256(content)))


WRONG: dict[str, Fault] = {
    "another manifest": Other(OTHER_MANIFEST),
    "a wrong byte": WrongByte(100),
    "truncated": Truncated(10),
    "too long": TooLong(b" "),
    "HTML": HTML,
    "gzip": Gzipped(),
    "gzip unsaid": Gzipped(is_named=False),
    "cut": Cut(100),
    "reset": Reset(100),
}


@pytest.mark.parametrize("by", ["digest", "tag"])
@pytest.mark.parametrize("wrong", WRONG)
def test_p3_a_wrong_manifest_is_neither_served_nor_kept(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, wrong: str, by: str
) -> None:
    """Bytes that do not have the digest asked for, or told by the upstream, end here; the next pull is good."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    reference = image.digest if by == "digest" else "latest"
    place = make_proxy(gateway, upstream)
    rule = upstream.script(WRONG[wrong], on("manifests", method="GET"))

    reply = ask(gateway, place, name, reference)

    assert reply.status == 502
    assert rule.hits
    upstream.heal()
    good = in_time(lambda: ask(gateway, place, name, reference), lambda reply: reply.status == 200)
    assert good.body == image.manifest.content
    assert good.headers["docker-content-digest"] == image.digest
    assert ask(gateway, place, name, sha256(OTHER_MANIFEST)).status == 404


def test_p3_a_manifest_in_chunks_is_as_good(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """What counts are the bytes, not how they are framed."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    upstream.script(Chunked(), on("manifests"))
    place = make_proxy(gateway, upstream)

    assert ask(gateway, place, name).body == image.manifest.content


def dead(upstream: ScriptedUpstream) -> None:
    """Nobody listens there any more."""
    upstream.refuse()


def scripted(fault: Fault, kind: Any = None) -> Callable[[ScriptedUpstream], None]:
    """Everything, or this kind of request, is met by the fault."""

    def harm(upstream: ScriptedUpstream) -> None:
        upstream.script(fault, (lambda seen: True) if kind is None else on(kind))

    return harm


def logged_out(upstream: ScriptedUpstream) -> None:
    """Tokens are void, and no new ones are given."""
    auth = upstream.registry.auth
    assert isinstance(auth, Bearer)
    auth.forget()
    auth.users = {}


OUTAGES: dict[str, tuple[Callable[[ScriptedUpstream], None], set[int]]] = {
    "a storm of 429": (scripted(Busy(2)), {429}),
    "a storm of 429 without a time": (scripted(Busy(None)), {429}),
    "500": (scripted(Says(500)), {502}),
    "503": (scripted(Says(503)), {502}),
    "silence": (scripted(Stall()), {504}),
    "hanging up": (scripted(Cut()), {502}),
    "dead": (dead, {502}),
    "logins fail": (logged_out, {502}),
    "the login is down": (scripted(Says(500), "token"), {502}),
    "a portal's page": (scripted(HTML), {502}),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_p6_an_outage_is_no_absence(gateway: Served, layer: bytes, upstream: ScriptedUpstream, outage: str) -> None:
    """What is cached is served with a warning; what is not is 429, 502 or 504, with a time to come back, never 404."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    upstream.registry.auth = auth = Bearer({"robot": "secret"})
    patience = IMPATIENT if outage == "silence" else {}
    place = make_proxy(gateway, upstream, cache_ttl=0, credentials=CREDENTIALS, **patience)
    fresh = ask(gateway, place, name)
    assert (fresh.status, "warning" in fresh.headers) == (200, False)
    assert ask_blob(gateway, place, name, layer).body == layer
    harm, statuses = OUTAGES[outage]
    harm(upstream)
    if outage == "the login is down":
        auth.forget()

    stale = ask(gateway, place, name)
    cold = ask(gateway, place, name, "cold")
    token = gateway.token(f"repository:{place.name}/{name}:pull")
    cold_blob = Client(gateway, blob_path(place, name, sha256(b"cold")), token).pull()

    assert (stale.status, stale.body) == (200, image.manifest.content)
    assert stale.headers["warning"].startswith("299")
    assert int(stale.headers["age"]) >= 0
    assert ask(gateway, place, name, image.digest).status == 200
    assert ask_blob(gateway, place, name, layer).body == layer
    assert cold.status in statuses | {502}  # 502: by then it is left alone for a while
    assert not cold_blob.is_complete
    assert cold_blob.status in TROUBLE | {0, 200}  # a portal has a length for everything, and the wrong bytes
    assert cold.status != 429 or int(cold.headers["retry-after"]) > 0
    upstream.heal()
    auth.users = {"robot": "secret"}
    well = in_time(lambda: ask(gateway, place, name), lambda reply: "warning" not in reply.headers)
    assert (well.status, "warning" in well.headers) == (200, False)


def test_p6_an_upstream_that_proves_nothing(gateway: Served, layer: bytes, authority: trustme.CA) -> None:
    """A certificate that nobody vouches for is an outage: 502 without a copy, and with one the copy."""
    name = image_name()
    with ScriptedUpstream(authority=authority) as upstream:
        image = upstream.shelf.image(name, "latest", layer)
        place = make_proxy(gateway, upstream, cache_ttl=0)
        assert ask(gateway, place, name).status == 502
        assert upstream.requests == []

        change(gateway, f"repos/{place.name}", {"ca": authority.cert_pem.bytes().decode()})
        good = in_time(lambda: ask(gateway, place, name), lambda reply: reply.status == 200)
        assert good.body == image.manifest.content

        change(gateway, f"repos/{place.name}", {"ca": None})
        stale = ask(gateway, place, name)
        assert (stale.status, stale.body) == (200, image.manifest.content)
        assert "warning" in stale.headers


def test_p6_a_name_that_nobody_has(gateway: Served) -> None:
    """An upstream whose name leads nowhere is an outage, not an absence."""
    place = make_place(gateway, repository_type="proxy", remote_url="https://registry.invalid")

    assert ask(gateway, place, "team/app").status in {502, 504}


def test_p6_a_token_is_fetched_once_in_its_life(gateway: Served, upstream: ScriptedUpstream) -> None:
    """Thirty pulls of one image log in once for each worker of the gateway."""
    name = image_name()
    upstream.registry.auth = auth = Bearer({"robot": "secret"})
    layers = [f"layer {number}".encode() * 100 for number in range(15)]
    upstream.shelf.image(name, "latest", *layers)
    place = make_proxy(gateway, upstream, cache_ttl=0, credentials=CREDENTIALS)

    assert all(ask(gateway, place, name).status == 200 for _ in layers)
    assert all(ask_blob(gateway, place, name, layer).body == layer for layer in layers)

    assert 1 <= len(auth.logins) <= 2
    assert all(login.is_accepted for login in auth.logins)


def test_p8_what_another_image_needs_stays(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """Clearing one image leaves the layers that it shared with another one, whose upstream is dead by now."""
    one, two = image_name(), image_name()
    own = os.urandom(5000)
    upstream.shelf.image(one, "latest", layer, own)
    image = upstream.shelf.image(two, "latest", layer)
    place = make_proxy(gateway, upstream, cache_ttl=600)
    for name in (one, two):
        assert ask(gateway, place, name).status == 200
        assert ask_blob(gateway, place, name, layer).body == layer
    assert ask_blob(gateway, place, one, own).body == own
    # Published a moment after its first reader has it; what is still on its way when a cache is cleared comes in.
    assert wait_until(lambda: is_stored(gateway, own, layer), 20)

    clear(gateway, place, one)
    upstream.refuse()

    assert ask(gateway, place, two).body == image.manifest.content
    assert ask_blob(gateway, place, two, layer).body == layer
    assert ask(gateway, place, one).status in TROUBLE
    assert ask_blob(gateway, place, one, own).status in TROUBLE


@pytest.mark.parametrize("harm", ["removed", "emptied"])
def test_p8_bytes_that_vanish_are_fetched_again(gateway: Served, upstream: ScriptedUpstream, harm: str) -> None:
    """A row whose bytes are gone behind its back never makes an empty 200: the blob comes again from the upstream."""
    name, content = image_name(), os.urandom(70_000)
    upstream.shelf.image(name, "latest", content)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200
    assert ask_blob(gateway, place, name, content).body == content
    assert wait_until(lambda: is_stored(gateway, content), 20)  # it is published after its first reader has it
    for path in files_of(gateway, content):
        path.chmod(0o600)
        path.unlink()
        if harm == "emptied":
            path.touch()

    seen: list[Reply] = []

    def asked() -> Reply:
        seen.append(ask_blob(gateway, place, name, content))
        return seen[-1]

    in_time(asked, lambda reply: reply.status == 200)

    assert [reply.body for reply in seen if reply.status == 200] == [content]
    assert {reply.status for reply in seen} <= {200, *TROUBLE}
    assert upstream.gets(sha256(content)) in {1, 2}  # a worker that still has the file open may read on in that


@pytest.mark.parametrize(("when_deleted", "status"), [("keep", 200), ("drop", 404)])
def test_p9_what_the_upstream_has_deleted(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, when_deleted: str, status: int
) -> None:
    """Each repository's setting says whether a tag that the upstream deleted is served on or is gone."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream, cache_ttl=0, when_deleted=when_deleted)
    assert ask(gateway, place, name).status == 200

    del upstream.shelf.tags[name]["latest"]

    assert [ask(gateway, place, name).status for _ in range(3)] == [status] * 3


FAILURES: dict[str, Fault] = {
    "500": Says(500),
    "503": Says(503),
    "429": Busy(5),
    "hanging up": Cut(),
    "silence": Stall(),
}


@pytest.mark.parametrize("failure", [*FAILURES, "dead"])
def test_p10_nobody_steps_in_for_a_member_that_fails(
    gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream, failure: str
) -> None:
    """A public image of the same name is not served while the private member cannot say whether it has it."""
    name = image_name()
    public = other.shelf.image(name, "latest", os.urandom(100))
    patience = IMPATIENT if failure == "silence" else {}
    virtual = make_virtual(gateway, make_proxy(gateway, upstream, **patience), make_proxy(gateway, other))
    if failure == "dead":
        upstream.refuse()
    else:
        upstream.script(FAILURES[failure])

    reply = ask(gateway, virtual, name)

    assert reply.status in TROUBLE
    assert public.digest not in str(reply.headers)
    assert other.seen(on("manifests", method="GET")) == []
    listing = gateway.admin("GET", f"/v2/{virtual.name}/{name}/tags/list")
    assert listing.status in TROUBLE
    absent = os.urandom(10)
    assert ask(gateway, virtual, name, sha256(absent)).status in TROUBLE
    assert ask_blob(gateway, virtual, name, absent).status in TROUBLE
    by_digest = ask(gateway, virtual, name, public.digest)  # nothing else can have it: nobody steps in for anybody
    assert by_digest.status in TROUBLE or by_digest.body == public.manifest.content
    upstream.heal()
    served = in_time(lambda: ask(gateway, virtual, name), lambda reply: reply.status == 200)
    assert served.body == public.manifest.content  # it can say by now: it does not have it


def test_p10_the_private_member_comes_first(
    gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """What both have is the first one's, and the second one does not hear of it."""
    name = image_name()
    private = upstream.shelf.image(name, "latest", b"the private one's")
    other.shelf.image(name, "latest", b"the public one's")
    virtual = make_virtual(gateway, make_proxy(gateway, upstream), make_proxy(gateway, other))

    assert ask(gateway, virtual, name).body == private.manifest.content
    assert ask_blob(gateway, virtual, name, b"the private one's").body == b"the private one's"
    assert other.seen(lambda seen: seen.name == name) == []


def test_p10_unless_the_setting_says_otherwise(
    gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """With `skip` a failing member is passed over: that is what the setting is for."""
    name = image_name()
    public = other.shelf.image(name, "latest", b"the public one's")
    members = make_proxy(gateway, upstream), make_proxy(gateway, other)
    virtual = make_virtual(gateway, *members, on_member_failure="skip")
    upstream.refuse()

    assert ask(gateway, virtual, name).body == public.manifest.content


def test_p10_a_place_for_pushes_is_named(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """A proxy takes no pushes, no uploads and no deletions, not even from the first administrator: 405."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200
    base = f"/v2/{place.name}/{name}"
    typed = {"Content-Type": OCI_MANIFEST}

    replies = [
        gateway.admin("POST", f"{base}/blobs/uploads/", b""),
        gateway.admin("PUT", f"{base}/manifests/latest", image.manifest.content, typed),
        gateway.admin("DELETE", f"{base}/manifests/latest"),
        gateway.admin("DELETE", f"{base}/manifests/{image.digest}"),
        gateway.admin("DELETE", f"{base}/blobs/{sha256(layer)}"),
    ]

    assert [(reply.status, reply.codes()) for reply in replies] == [(405, ["UNSUPPORTED"])] * 5
    assert ask(gateway, place, name).status == 200
