"""Security rows P1, P2 and P11: what an upstream says moves neither our credentials nor our requests elsewhere.

Rows about what is cached are in `test_rows_p_cache.py`; single flight (P7) is in `test_crowd.py` and in
`tests/replicas/test_arrivals.py`.
"""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.people import Place, change, make_place, unique
from tests.served import OCI_MANIFEST, Reply, Served, descriptor, image_manifest, sha256
from tests.upstream.login import Basic, Bearer
from tests.upstream.proxied import blob_path, image_name, in_time, make_proxy, manifest_path
from tests.upstream.rebinding import NAME
from tests.upstream.script import (
    Endless,
    EndlessPages,
    Fault,
    Kind,
    Other,
    Redirect,
    Says,
    Seen,
    With,
    on,
)
from tests.upstream.scripted import ScriptedUpstream, send_blobs_to
from tests.upstream.shelf import Manifest

pytestmark = [pytest.mark.served, pytest.mark.slow]

USER, SECRET = "robot", "the-password-at-the-upstream"
CREDENTIALS = [{"username": USER, "password": SECRET}]
MIB = 1 << 20


def ask(gateway: Served, place: Place, image: str, reference: str = "latest") -> Reply:
    """A manifest through the proxy."""
    return gateway.admin("GET", manifest_path(place, image, reference))


def ask_blob(gateway: Served, place: Place, image: str, content: bytes) -> Reply:
    """A blob through the proxy."""
    return gateway.admin("GET", blob_path(place, image, sha256(content)))


def leaked(thief: ScriptedUpstream) -> list[str]:
    """The requests there that carry a credential, a token, or anything made of them."""
    encoded = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()

    def tells(seen: Seen) -> bool:
        text = f"{seen.target} {seen.headers} {seen.body!r}"
        return seen.header("authorization") is not None or any(each in text for each in (SECRET, encoded, USER))

    return [str(seen) for seen in thief.seen(tells)]


REALMS: dict[str, Callable[[ScriptedUpstream, ScriptedUpstream], str]] = {
    "other host": lambda upstream, thief: f"{thief.url}/token",
    "other name of the host": lambda upstream, thief: f"http://localhost:{thief.port}/token",
    "host in the user part": lambda upstream, thief: f"http://{upstream.address}@{thief.address}/token",
    "backslash": lambda upstream, thief: f"http://{thief.address}\\@{upstream.address}/token",
    "no scheme": lambda upstream, thief: f"//{thief.address}/token",
    "other scheme": lambda upstream, thief: f"gopher://{thief.address}/token",
    "host as a prefix": lambda upstream, thief: f"http://{upstream.host}.{thief.host}.invalid:{thief.port}/token",
}


@pytest.mark.parametrize("realm", REALMS)
def test_p1_a_realm_elsewhere_gets_no_credentials(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, other: ScriptedUpstream, realm: str
) -> None:
    """A challenge that names another place is no reason to log in there; the pull fails, and not with 404."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    other.registry.auth = upstream.registry.auth = Bearer({USER: SECRET}, realm=REALMS[realm](upstream, other))
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)

    reply = ask(gateway, place, name)

    assert reply.status == 502
    assert leaked(other) == []
    assert SECRET not in reply.body.decode()


def test_p1_a_realm_on_another_port_is_elsewhere(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """Another port of the upstream's own host is somebody else's, unless the settings trust it."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    with ScriptedUpstream() as issuer:
        auth = Bearer({USER: SECRET}, realm=f"{issuer.url}/token")
        upstream.registry.auth = issuer.registry.auth = auth
        place = make_proxy(gateway, upstream, credentials=CREDENTIALS)
        assert ask(gateway, place, name).status == 502
        assert leaked(issuer) == []

        trusting = make_proxy(gateway, upstream, credentials=CREDENTIALS, token_hosts=[issuer.address])

        assert ask(gateway, trusting, name).body == image.manifest.content
        assert {login.user for login in auth.logins} == {USER}


def test_p1_credentials_stay_encrypted_on_the_way(
    gateway: Served, layer: bytes, authority: trustme.CA, upstream: ScriptedUpstream
) -> None:
    """An upstream with TLS cannot make us log in over plain http, not even on its own host."""
    name = image_name()
    with ScriptedUpstream(authority=authority) as private:
        private.shelf.image(name, "latest", layer)
        upstream.registry.auth = private.registry.auth = Bearer({USER: SECRET}, realm=f"{upstream.url}/token")
        ca = authority.cert_pem.bytes().decode()
        place = make_proxy(gateway, private, credentials=CREDENTIALS, ca=ca)

        assert ask(gateway, place, name).status == 502

        assert leaked(upstream) == []
        private.registry.auth = Bearer({USER: SECRET})
        assert in_time(lambda: ask(gateway, place, name), lambda reply: reply.status == 200).status == 200


SENT: list[tuple[Kind, int]] = [("manifests", 307), ("manifests", 301), ("blobs", 302), ("token", 307), ("tags", 308)]


@pytest.mark.parametrize("kind_of", [Basic, Bearer])
@pytest.mark.parametrize(("kind", "status"), SENT)
def test_p1_a_redirect_takes_no_credentials_along(
    gateway: Served, upstream: ScriptedUpstream, *, kind_of: type[Basic] | type[Bearer], kind: Kind, status: int
) -> None:
    """Wherever the upstream sends us, neither password nor token goes to another origin."""
    name, layer = image_name(), os.urandom(1000)
    upstream.shelf.image(name, "latest", layer)
    upstream.registry.auth = kind_of({USER: SECRET})
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)
    with ScriptedUpstream(upstream.shelf, host="127.0.0.2") as thief:
        upstream.script(Redirect(lambda seen: thief.url + seen.target, status), on(kind))

        replies = [
            ask(gateway, place, name),
            ask_blob(gateway, place, name, layer),
            gateway.admin("GET", f"/v2/{place.name}/{name}/tags/list"),
        ]

        assert {reply.status for reply in replies} <= {200, 502, 503}
        assert leaked(thief) == []


def test_p1_blobs_come_from_a_store_that_refuses_credentials(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """The redirect that every large registry answers with works, just because nothing goes along."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    upstream.registry.auth = Bearer({USER: SECRET})
    send_blobs_to(upstream, other)
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)

    assert ask(gateway, place, name).status == 200
    assert ask_blob(gateway, place, name, layer).body == layer
    assert other.gets(sha256(layer)) == 1
    assert leaked(other) == []


def test_p1_a_page_of_tags_elsewhere_is_not_turned_to(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """A Link to another host is not followed, at least not with what we are there."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    upstream.registry.auth = Basic({USER: SECRET})
    upstream.script(With({"Link": f'<{other.url}/v2/{name}/tags/list?last=a>; rel="next"'}), on("tags"))
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)

    gateway.admin("GET", f"/v2/{place.name}/{name}/tags/list")

    assert upstream.seen(on("tags"))
    assert leaked(other) == []


def test_p1_urls_of_foreign_layers_are_never_dialled(
    gateway: Served, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """A manifest whose layer lies elsewhere is served as it is; the layer is not there for us."""
    name, absent = image_name(), b"a foreign layer"
    other.shelf.put_blob(name, absent)
    document = json.loads(image_manifest(b"{}"))
    foreign = descriptor(absent, "application/vnd.oci.image.layer.nondistributable.v1.tar")
    document["layers"] = [{**foreign, "urls": [f"{other.url}/v2/{name}/blobs/{sha256(absent)}"]}]
    manifest = Manifest(json.dumps(document).encode(), OCI_MANIFEST)
    upstream.shelf.put_manifest(name, manifest, "latest")
    upstream.shelf.put_blob(name, b"{}")
    place = make_proxy(gateway, upstream)

    assert ask(gateway, place, name).body == manifest.content
    assert ask_blob(gateway, place, name, absent).status == 404
    assert other.connections == 0


def test_p1_credentials_do_not_move_with_the_address(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """Whoever changes where a proxy leads does not get what was stored for the old place."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    other.shelf.image(name, "latest", layer)
    upstream.registry.auth = other.registry.auth = Basic({USER: SECRET})
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)
    assert ask(gateway, place, name).status == 200

    change(gateway, f"repos/{place.name}", {"remote_urls": [other.url]})
    ask(gateway, place, name, "other")

    assert other.requests
    assert leaked(other) == []


SPELLINGS = [
    "http://127.0.0.1:{port}",
    "http://127.1:{port}",
    "http://127.0.1:{port}",
    "http://0:{port}",
    "http://0.0.0.0:{port}",
    "http://2130706433:{port}",
    "http://0x7f000001:{port}",
    "http://0x7f.1:{port}",
    "http://0177.0.0.1:{port}",
    "http://127.0.0.1.:{port}",
    "http://localhost:{port}",
    "http://localhost.:{port}",
    "http://LOCALHOST:{port}",
    "http://ip6-localhost:{port}",
    "http://[::1]:{port}",
    "http://[::]:{port}",
    "http://[::ffff:127.0.0.1]:{port}",
    "http://[::ffff:7f00:1]:{port}",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}",
    "http://[::127.0.0.1]:{port}",
    "http://[64:ff9b::127.0.0.1]:{port}",
    "http://[64:ff9b::7f00:1]:{port}",
    "http://[2002:7f00:1::]:{port}",
    "http://[fe80::1]:{port}",
    "http://[fe80::1%25lo]:{port}",
    "http://[fd00::1]:{port}",
    "http://[ff02::1]:{port}",
    "http://169.254.169.254",
    "http://[fd00:ec2::254]",
    "http://10.0.0.1",
    "http://172.16.0.1",
    "http://192.168.0.1",
    "http://100.64.0.1",
    "http://100.100.100.200",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://127.0.0.1:22",
    "http://example.com@127.0.0.1:{port}",
    "http://127.0.0.1:{port}#@example.com",
    "http://127.0.0.1:{port}\\@example.com",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "ftp://127.0.0.1:{port}",
    "//127.0.0.1:{port}",
]


REFUSED = ("private_networks", "http://HOST[:PORT]", "not known")
"""Words of the reasons: a private address, what is no address, and a name that this machine does not have."""


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_p2_private_addresses_are_not_dialled(gateway: Served, upstream: ScriptedUpstream, spelling: str) -> None:
    """However it is written, an address that is not public is refused when entered or when connecting: 400 or 502."""
    url = spelling.format(port=upstream.port)
    entry = {"project": "common", "name": unique("images"), "repository_type": "proxy", "remote_url": url}

    made = gateway.api("POST", "/api/v1/repos", entry)
    if made.status == 201:
        reply = gateway.admin("GET", f"/v2/common/{entry['name']}/team/app/manifests/latest")
        assert reply.status == 502
        assert any(reason in reply.json()["errors"][0]["message"] for reason in REFUSED), reply
    else:
        assert made.status in {400, 422}, made

    assert upstream.connections == 0


TARGETS: dict[str, Callable[[ScriptedUpstream], str]] = {
    "host": lambda trap: trap.url,
    "integer": lambda trap: f"http://2130706434:{trap.port}",
    "short": lambda trap: f"http://127.2:{trap.port}",
    "mapped": lambda trap: f"http://[::ffff:127.0.0.2]:{trap.port}",
    "no scheme": lambda trap: f"//{trap.address}",
    "user part": lambda trap: f"http://127.0.0.1@{trap.address}",
    "file": lambda trap: "file:///etc/passwd",
    "gopher": lambda trap: f"gopher://{trap.address}",
}


@pytest.mark.parametrize("target", TARGETS)
def test_p2_a_redirect_into_a_private_network_is_refused(
    gateway: Served, layer: bytes, upstream: ScriptedUpstream, other: ScriptedUpstream, target: str
) -> None:
    """Only the networks of the settings are dialled, also on the second hop of a chain, and nothing of it is served."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    other.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream, private_networks=["127.0.0.1/32"])
    assert ask(gateway, place, name).status == 200
    upstream.script(Redirect(lambda seen: f"{seen.path}?hop"), lambda seen: seen.kind == "blobs" and not seen.query)
    upstream.script(Redirect(lambda seen: TARGETS[target](other) + seen.path), lambda seen: "hop" in seen.query)

    reply = ask_blob(gateway, place, name, layer)

    assert reply.status == 502
    assert layer[:20] not in reply.body
    assert upstream.seen(lambda seen: "hop" in seen.query)
    assert other.connections == 0


def test_p2_redirects_end(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """A loop and a long chain are left after five hops."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream)
    assert ask(gateway, place, name).status == 200
    upstream.script(Redirect(lambda seen: f"{seen.target}?again"), on("blobs"))

    assert ask_blob(gateway, place, name, layer).status == 502
    assert 2 <= len(upstream.seen(on("blobs", method="GET"))) <= 6 * 5  # each of a few tries begins anew


def test_p2_a_name_that_changes_its_mind_gains_nothing(
    tmp_path: Path, layer: bytes, upstream: ScriptedUpstream
) -> None:
    """What is connected to is the address that was judged, whatever the name leads to a moment later."""
    names = [image_name() for _ in range(8)]
    for name in names:
        upstream.shelf.image(name, "latest", layer)
    with (
        ScriptedUpstream(host="127.0.0.2", port=upstream.port) as trap,
        Served(tmp_path / "gateway", module=("tests.upstream.rebinding",)) as gateway,
    ):
        url = f"http://{NAME}:{upstream.port}"
        place = make_place(gateway, repository_type="proxy", remote_url=url, private_networks=["127.0.0.1/32"])

        statuses = [ask(gateway, place, name).status for name in names]

        assert trap.connections == 0
    assert {200, 502} == set(statuses)
    assert upstream.requests


DOCUMENTS: dict[str, tuple[Fault, Any]] = {
    "an endless manifest": (Endless(64 * MIB), "manifests"),
    "a huge manifest": (Other(b'{"a":"' + b"x" * (20 * MIB) + b'"}'), "manifests"),
    "a huge head": (With({"X-Filler": "x" * 200_000}), "manifests"),
    "an endless token": (Endless(64 * MIB), "token"),
    "an endless refusal": (Endless(64 * MIB), "base"),
}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_p11_documents_are_bounded(gateway: Served, layer: bytes, upstream: ScriptedUpstream, document: str) -> None:
    """What never ends, or is larger than any manifest may be, is left in time: 502, and no more than some MiB came."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    upstream.registry.auth = Bearer({USER: SECRET})
    place = make_proxy(gateway, upstream, credentials=CREDENTIALS)
    fault, kind = DOCUMENTS[document]
    upstream.script(fault, on(kind, method="GET"))

    reply = ask(gateway, place, name)

    assert reply.status == (200 if kind == "base" else 502)
    assert all(seen.sent_bytes < 16 * MIB for seen in upstream.requests)
    upstream.heal()
    good = in_time(lambda: ask(gateway, place, name), lambda reply: reply.status == 200)
    assert good.body == image.manifest.content


LISTS: dict[str, Fault] = {
    "a million names": Says(200, json.dumps({"tags": [f"tag-{number:07}" for number in range(1_000_000)]}).encode()),
    "an endless list": Endless(64 * MIB),
    "endless pages": EndlessPages(),
    "a loop of pages": EndlessPages(is_loop=True),
    "endless large pages": EndlessPages(names_per_page=10_000),
}


@pytest.mark.parametrize("listing", LISTS)
def test_p11_lists_of_tags_are_bounded(gateway: Served, layer: bytes, upstream: ScriptedUpstream, listing: str) -> None:
    """A list that does not end is left after 1,000 pages or 100,000 names, and before a page is over some MiB."""
    name = image_name()
    upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream)
    upstream.script(LISTS[listing], on("tags"))

    reply = gateway.admin("GET", f"/v2/{place.name}/{name}/tags/list")

    assert reply.status in {200, 502, 504}
    assert 1 <= len(upstream.seen(on("tags"))) <= 1000
    assert all(seen.sent_bytes < 16 * MIB for seen in upstream.requests)
    assert len(reply.body) < 16 * MIB


def test_p11_referrers_are_bounded(gateway: Served, layer: bytes, upstream: ScriptedUpstream) -> None:
    """A hundred thousand referrers are not read to the end, and the image is served as ever."""
    name = image_name()
    image = upstream.shelf.image(name, "latest", layer)
    place = make_proxy(gateway, upstream)
    entry = {**descriptor(b"{}", OCI_MANIFEST), "artifactType": "application/x-filler"}
    listing = json.dumps({"schemaVersion": 2, "manifests": [entry] * 100_000}).encode()
    upstream.script(Says(200, listing, (("Content-Type", "application/vnd.oci.image.index.v1+json"),)), on("referrers"))

    reply = gateway.admin("GET", f"/v2/{place.name}/{name}/referrers/{image.digest}")

    assert reply.status in {200, 502}
    assert all(seen.sent_bytes < 16 * MIB for seen in upstream.seen(on("referrers")))
    assert len(reply.body) < 16 * MIB
    assert ask(gateway, place, name).body == image.manifest.content
