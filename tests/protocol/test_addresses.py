"""Every address form: whatever a client calls a repository, realm, Location and Link are on its own side of it.

Rows CH-12, GEN-21, UP-02, TG-03 and TOK-05 for names, sub-paths, hosts, namespaces, and what proxies make of them.
"""

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest

from tests.people import Login, Place, change, make_member, make_place, unique
from tests.protocol.approaches import CONFIG, Approach, Client
from tests.served import Served, sha256

pytestmark = pytest.mark.slow  # needs servers of its own

LAYER = b"a layer of every address"
PROXIED = {"X-Forwarded-Host": "registry.example", "X-Forwarded-Proto": "https"}


def rewriting(place: Place, *, prefix: str = "") -> Callable[[str], str]:
    """What a reverse proxy does that serves one repository as a whole registry below `prefix`."""
    return lambda path: f"/repositories/oci/{place.name}{path.removeprefix(prefix)}"


def by_full_name(gateway: Served, place: Place) -> Approach:
    """The gateway's own address and the full name."""
    return Approach(gateway, gateway.url, f"{place.name}/app")


def by_alias(gateway: Served, place: Place) -> Approach:
    """A prefix that leads to the repository."""
    alias = unique("alias")
    change(gateway, f"repos/{place.name}", {"flat_alias_prefix": alias})
    return Approach(gateway, gateway.url, f"{alias}/app")


def by_host(gateway: Served, place: Place) -> Approach:
    """A host of the repository's own, with a port as clients write it."""
    host = f"{unique('host')}.example:8443"
    change(gateway, f"repos/{place.name}", {"host_names": [host]})
    return Approach(gateway, f"http://{host}", "app", {"Host": host})


def by_catch_all(gateway: Served, place: Place) -> Approach:
    """A host whose names are this repository's, unless they are somebody else's."""
    host = f"{unique('all')}.example"
    change(gateway, f"repos/{place.name}", {"catch_all_hosts": [host]})
    return Approach(gateway, f"http://{host}", "app/of/any/depth", {"Host": host})


def by_path(gateway: Served, place: Place) -> Approach:
    """Without a proxy: the client knows the path."""
    return Approach(gateway, f"{gateway.url}/repositories/oci/{place.name}", "app")


def by_path_of_a_stranger(gateway: Served, place: Place) -> Approach:
    """Forwarded headers of somebody who is not believed change nothing."""
    forged = {**PROXIED, "X-Forwarded-Prefix": "/evil", "X-Forwarded-Port": "1"}
    return replace(by_path(gateway, place), headers=forged)


DIRECT = [by_full_name, by_alias, by_host, by_catch_all, by_path, by_path_of_a_stranger]


def behind_rewriting(gateway: Served, place: Place) -> Approach:
    """The proxy gives the repository a host of its own and says so."""
    return Approach(gateway, "https://registry.example", "app", PROXIED, rewriting(place))


def behind_a_prefix(gateway: Served, place: Place) -> Approach:
    """The proxy serves it below a path, which it names."""
    headers = {**PROXIED, "X-Forwarded-Prefix": "/mirror"}
    return Approach(gateway, "https://registry.example/mirror", "app", headers, rewriting(place, prefix="/mirror"))


def behind_a_whole_prefix(gateway: Served, place: Place) -> Approach:
    """The proxy serves the whole gateway below a path."""
    headers = {**PROXIED, "X-Forwarded-Prefix": "/registry/"}
    return Approach(
        gateway,
        "https://registry.example/registry",
        f"{place.name}/app",
        headers,
        lambda path: path.removeprefix("/registry"),
    )


def behind_a_port(gateway: Served, place: Place) -> Approach:
    """One port for each repository, as other products have it."""
    headers = {**PROXIED, "X-Forwarded-Port": "5000"}
    return Approach(gateway, "https://registry.example:5000", "app", headers, rewriting(place))


def behind_its_own_host(gateway: Served, place: Place) -> Approach:
    """A host that only the repository has; nobody else has to know it."""
    host = f"{unique('docker')}.example"
    change(gateway, f"repos/{place.name}", {"host_names": [host]})
    return Approach(gateway, f"https://{host}", "app", {"X-Forwarded-Host": host, "X-Forwarded-Proto": "https"})


PROXIES = [behind_rewriting, behind_a_prefix, behind_a_whole_prefix, behind_a_port, behind_its_own_host]


def writer_and_place(gateway: Served) -> tuple[Login, Place]:
    """A repository and somebody who may push there."""
    place = make_place(gateway)
    return make_member(gateway, "writer", place), place


@pytest.mark.parametrize("approach", DIRECT)
def test_ch_12_up_02_a_client_pushes_and_pulls_by_one_address(
    gateway: Served, approach: Callable[[Served, Place], Approach]
) -> None:
    """It is never led elsewhere, and what it pushed is the same image by its full name."""
    login, place = writer_and_place(gateway)
    _whole_life(Client(approach(gateway, place), login), place)


@pytest.mark.parametrize("approach", PROXIES)
def test_ch_12_up_02_a_client_pushes_and_pulls_behind_a_proxy(
    behind_proxy: Served, approach: Callable[[Served, Place], Approach]
) -> None:
    """The same where a proxy that is believed has rewritten what the client sent."""
    login, place = writer_and_place(behind_proxy)
    _whole_life(Client(approach(behind_proxy, place), login), place)


def _whole_life(client: Client, place: Place) -> None:
    """Push, list in pages, pull; then look at it under its full name."""
    gateway, tags = client.approach.gateway, ["v1", "v2", "v3"]
    manifest = client.push_image(*tags, layer=LAYER)

    assert client.tags(n=1) == client.tags(n=2) == tags
    image = next(
        each for each in gateway.admin("GET", "/v2/_catalog?n=1000").json()["repositories"] if place.name in each
    )
    for path in ("manifests/v1", f"manifests/{sha256(manifest)}", f"blobs/{sha256(LAYER)}"):
        assert client.ask("GET", path).body == gateway.admin("GET", f"/v2/{image}/{path}").body
    reader = Client(client.approach, make_member(gateway, "reader", place))
    assert reader.ask("GET", "manifests/v1").body == manifest
    assert reader.ask("POST", "blobs/uploads/", b"").status == 401
    referrers = reader.ask("GET", f"referrers/{sha256(manifest)}")
    assert (referrers.status, referrers.json()["manifests"]) == (200, [])


@pytest.mark.parametrize("approach", [*DIRECT, *PROXIES])
def test_ch_02_the_ping_leads_to_the_same_token_endpoint(
    gateway: Served, behind_proxy: Served, approach: Callable[[Served, Place], Approach]
) -> None:
    """`/v2/` challenges at every address, and the token that it leads to opens it."""
    served = gateway if approach in DIRECT else behind_proxy
    login, place = writer_and_place(served)
    client = Client(approach(served, place), login)

    reply = client.go("GET", f"{client.prefix}/v2/")

    assert (reply.status, reply.json()) == (200, {})
    assert client.scopes == [""]


def test_tok_05_a_token_of_one_address_is_good_at_the_others(gateway: Served) -> None:
    """By alias, full name, path and host it is the same image; a token for it opens all of them and no other image."""
    login, place = writer_and_place(gateway)
    clients = [Client(approach(gateway, place), login) for approach in (by_full_name, by_alias, by_host, by_path)]
    clients[0].push_image("v1")

    for client in clients:
        client.token = None
        assert client.ask("GET", "manifests/v1").status == 200
        for other in clients:
            path = f"{other.prefix}/v2/{other.approach.name}"
            assert other.approach.send("GET", f"{path}/manifests/v1", auth=client.token).status == 200
            assert other.approach.send("GET", f"{path}x/manifests/v1", auth=client.token).status == 401


def test_ch_06_a_mount_stays_behind_its_door(gateway: Served) -> None:
    """Behind a host the source is named as the client knows it, and the challenge asks for both by those names."""
    login, place = writer_and_place(gateway)
    source = Client(by_host(gateway, place), login)
    source.push_blob(LAYER)
    target = Client(replace(source.approach, name="other"), login)
    target.token = None

    mounted = target.ask("POST", f"blobs/uploads/?mount={sha256(LAYER)}&from=app", b"")
    if mounted.status == 401:
        target.token = target.log_in(mounted)
        mounted = target.ask("POST", f"blobs/uploads/?mount={sha256(LAYER)}&from=app", b"")

    assert mounted.status == 201
    assert target.go("GET", target.location(mounted)).body == LAYER
    assert target.scopes[-1] == "repository:other:pull,push repository:app:pull"


# --- sessions and conditions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("approach", [by_path, by_host])
def test_up_08_a_gap_is_told_with_a_location_that_works(
    gateway: Served, approach: Callable[[Served, Place], Approach]
) -> None:
    """416 leads on by the same address as 202 does."""
    login, place = writer_and_place(gateway)
    client = Client(approach(gateway, place), login)
    where = client.location(client.ask("POST", "blobs/uploads/", b""))

    gap = client.go("PATCH", where, b"later", Content_Range="5-9")

    assert (gap.status, client.location(gap)) == (416, where)
    assert client.go("PATCH", client.location(gap), b"start", Content_Range="0-4").status == 202


def test_acc_06_a_session_belongs_to_the_image_by_whichever_door(gateway: Served) -> None:
    """An upload that began behind a host goes on by the full name: it is the same image and the same account."""
    login, place = writer_and_place(gateway)
    one, other = Client(by_host(gateway, place), login), Client(by_full_name(gateway, place), login)
    where = one.location(one.ask("POST", "blobs/uploads/", b""))
    upload = where.rpartition("/")[2]

    assert other.ask("PATCH", f"blobs/uploads/{upload}", LAYER).status == 202
    assert one.go("PUT", f"{where}?digest={sha256(LAYER)}", b"").status == 201
    elsewhere = Client(replace(other.approach, name=f"{place.name}/other"), login)
    assert elsewhere.ask("GET", f"blobs/uploads/{upload}").status == 404


# --- mirrors ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(gateway: Served) -> tuple[Place, str]:
    """A private repository that mirrors a registry, with an image `library/nginx:1`, and the registry's name."""
    namespace = f"{unique('registry')}.io"
    place = make_place(gateway, namespaces=[namespace])
    gateway.push_image(f"{place.name}/library/nginx", "1", LAYER)
    gateway.push_image(f"{place.name}/library/nginx", "2", LAYER)
    return place, namespace


def test_px_01_a_mirror_answers_for_the_registry_that_was_asked_for(gateway: Served, mirror: tuple[Place, str]) -> None:
    """Containerd's way: `ns` in every request, the challenge's scope at the token endpoint without it."""
    place, namespace = mirror
    reader = make_member(gateway, "reader", place)
    client = Client(Approach(gateway, gateway.url, "library/nginx"), reader)

    got = client.ask("GET", f"manifests/1?ns={namespace}")

    assert (got.status, got.headers["oci-namespace"]) == (200, namespace)
    assert client.scopes == [f"repository:{place.name}/library/nginx:pull"]
    layer = client.ask("GET", f"blobs/{sha256(LAYER)}?ns={namespace.upper()}")
    assert (layer.body, layer.headers["oci-namespace"]) == (LAYER, namespace)
    config = client.ask("HEAD", f"blobs/{got.json()['config']['digest']}?ns={namespace}")
    assert config.headers["content-length"] == got.json()["config"]["size"].__str__()


def test_a_mirror_s_links_lead_on(gateway: Served, mirror: tuple[Place, str]) -> None:
    """A Link does not say `ns`: it has the repository's path, so that whoever follows it is understood."""
    place, namespace = mirror

    page = gateway.admin("GET", f"/v2/library/nginx/tags/list?n=1&ns={namespace}")
    following = page.headers["link"].partition(">")[0][1:]

    assert page.json() == {"name": "library/nginx", "tags": ["1"]}
    assert following.startswith(f"/repositories/oci/{place.name}/v2/library/nginx/tags/list?")
    assert gateway.admin("GET", following).json()["tags"] == ["2"]


def test_clients_ask_for_both_names_at_once(gateway: Served, mirror: tuple[Place, str]) -> None:
    """Clients.md 3.1, 18: with the challenge's scope comes that of the path; less is granted, nothing is refused."""
    place, namespace = mirror
    reader = make_member(gateway, "reader", place)
    scopes = [f"repository:{place.name}/library/nginx:pull", "repository:library/nginx:pull"]

    for several in (scopes, scopes[::-1], [" ".join(scopes)]):
        token = gateway.token(*map(quote, several), auth=reader)
        reply = gateway.request("GET", f"/v2/library/nginx/manifests/1?ns={namespace}", auth=token)
        assert reply.status == 200


@pytest.mark.parametrize("ns", ["nobody.example", "", "a&ns=b", "127.0.0.1:1", "http://169.254.169.254", "x" * 300])
def test_px_02_an_unknown_namespace_is_404(gateway: Served, mirror: tuple[Place, str], ns: str) -> None:
    """For everybody, without a challenge, for names that exist and names that do not: clients go on to the next."""
    place, _ = mirror
    bodies = set()
    for name in ("library/nginx", f"{place.name}/library/nginx", "none"):
        for auth in (None, make_member(gateway, "reader", place)):
            reply = gateway.request("GET", f"/v2/{name}/manifests/1?ns={ns}", auth=auth)
            assert (reply.status, reply.codes()) == (404, ["NAME_UNKNOWN"])
            assert "www-authenticate" not in reply.headers
            bodies.add(reply.body)
    assert len(bodies) == 1


def test_a_namespace_by_path_and_by_full_name(gateway: Served, mirror: tuple[Place, str]) -> None:
    """A path in hosts.toml comes before every name, and `ns` still comes: both must mean the same repository."""
    place, namespace = mirror
    other = make_place(gateway, anonymous_read=True)
    gateway.push_image(f"{other.name}/library/nginx", "1", b"another layer")

    for path, status in (
        (f"/v2/{place.name}/library/nginx/manifests/1", 200),
        (f"/repositories/oci/{place.name}/v2/library/nginx/manifests/1", 200),
        (f"/repositories/oci/{other.name}/v2/library/nginx/manifests/1", 404),
        (f"/v2/{other.name}/library/nginx/manifests/1", 404),
    ):
        assert gateway.admin("GET", f"{path}?ns={namespace}").status == status, path


def test_this_very_host_is_no_mirror(gateway: Served) -> None:
    """A client that asks this host for this host's images means its full names."""
    place = make_place(gateway)
    digest, _ = gateway.push_image(f"{place.name}/app", "1", LAYER)

    reply = gateway.admin("GET", f"/v2/{place.name}/app/manifests/1?ns={quote(gateway.address)}")

    assert (reply.status, reply.headers["docker-content-digest"]) == (200, digest)
    assert "oci-namespace" not in reply.headers


# --- hosts that are none of ours -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "registry.example.evil", "docker.io", "localhost"])
def test_t6_an_unlisted_host_is_misdirected(behind_proxy: Served, host: str) -> None:
    """421 at every path, said by Host or by a trusted proxy, before anything is looked up."""
    place = make_place(behind_proxy, namespaces=[f"{unique('ns')}.io"], anonymous_read=True)
    for headers in ({"Host": host}, {"X-Forwarded-Host": host}):
        approach = Approach(behind_proxy, "", "", headers)
        for path in ("/v2/", f"/v2/{place.name}/app/tags/list", f"/repositories/oci/{place.name}/v2/", "/v2/token"):
            reply = approach.send("GET", path)
            assert (reply.status, reply.codes()) == (421, ["NAME_INVALID"])


def test_a_repository_s_host_serves_nothing_else(gateway: Served) -> None:
    """Behind its host every name is inside the repository: full names of others lead nowhere."""
    login, place = writer_and_place(gateway)
    other = make_place(gateway, anonymous_read=True)
    gateway.push_image(f"{other.name}/app", "v1", LAYER)
    client = Client(replace(by_host(gateway, place), name=f"{other.name}/app"), login)

    assert client.ask("GET", "manifests/v1").status == 404
    assert client.ask("GET", f"blobs/{sha256(CONFIG)}").status == 404


# --- after a migration -----------------------------------------------------------------------------------------------

HUB_HOST = "hub.example"
HUB = "common/dockerhub-proxy"


@pytest.fixture(scope="module")
def hub(gateway: Served, behind_proxy: Served) -> Approach:
    """`common/dockerhub-proxy`, a proxy of a registry that has what the old ones had, at a host of the gateway."""
    old = make_place(behind_proxy, anonymous_read=True)
    pusher = make_member(behind_proxy, "writer", old)
    for name, tag in (("library/nginx", "latest"), ("library/postgres", "16")):
        behind_proxy.push_image(f"{old.name}/{name}", tag, name.encode(), auth=pusher)
    make_place(
        gateway,
        project="common",
        name="dockerhub-proxy",
        repository_type="proxy",
        remote_url=f"{behind_proxy.url}/v2/{old.name}",
        private_networks=["127.0.0.0/8"],
        anonymous_read=True,
        flat_alias_prefix="docker-remote",
        catch_all_hosts=[HUB_HOST],
        namespaces=["docker.io"],
    )
    return Approach(gateway, f"http://{HUB_HOST}", "", {"Host": HUB_HOST})


MIGRATIONS = {
    "nexus": ("nexus.example:5000/library/nginx:latest", f"{HUB}/library/nginx:latest", "library/nginx:latest"),
    "artifactory": ("jfrog.example/docker-remote/library/nginx", f"{HUB}/library/nginx", "library/nginx"),
    "docker hub": ("docker.io/library/postgres:16", f"{HUB}/library/postgres:16", "library/postgres:16"),
}
"""The table of addresses after a migration: before, then on the gateway's host with project and by flat alias."""


@pytest.mark.parametrize("source", MIGRATIONS)
def test_addresses_after_a_migration(hub: Approach, source: str) -> None:
    """Field.md, section 0: each row, by every address it names; and the old name with nothing but its host replaced."""
    before, with_project, flat = MIGRATIONS[source]
    image = before.partition("/")[2]
    original = hub.send("GET", manifest_path(with_project)).headers["docker-content-digest"]

    for reference in (with_project, flat, image):
        reply = hub.send("GET", manifest_path(reference))
        assert (reply.status, reply.headers.get("docker-content-digest")) == (200, original), reference
        for layer in reply.json()["layers"]:
            name = reference.partition(":")[0]
            assert sha256(hub.send("GET", f"/v2/{name}/blobs/{layer['digest']}").body) == layer["digest"]
    mirrored = hub.send("GET", f"{manifest_path(flat)}?ns=docker.io")
    assert mirrored.headers["docker-content-digest"] == original


def manifest_path(reference: str) -> str:
    """The path of the manifest that a client pulls by this reference; `latest` where it names no tag."""
    name, _, tag = reference.partition(":")
    return f"/v2/{name}/manifests/{tag or 'latest'}"
