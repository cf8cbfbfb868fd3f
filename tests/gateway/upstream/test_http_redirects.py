"""Where upstreams send us: realms and redirects, what is never sent along, and what is never dialled."""

import pytest
import trustme

from gateway.upstream.errors import (
    UpstreamFailed,
    UpstreamRefused,
)
from gateway.upstream.http import MAX_REDIRECTS
from tests.gateway.upstream.reaching import (
    ADMIN,
    LAYER,
    MANIFEST,
    USERS,
    Reach,
    admitted,
    authorizations,
    blob_of,
    body,
    guard,
    manifest,
    pem,
)
from tests.upstream.login import Basic, Bearer
from tests.upstream.script import (
    Redirect,
    Says,
    on,
    with_credentials,
)
from tests.upstream.scripted import ScriptedUpstream, send_blobs_to


async def test_row_p1_a_realm_on_another_host_hears_nothing(
    reach: Reach, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """Refused before anything is dialled, whoever asks; a host of the settings is told, at its port alone."""
    guard(upstream, realm=f"{elsewhere.url}/token")
    elsewhere.registry.auth = upstream.registry.auth

    for credentials in ([ADMIN], []):
        for hosts in ([], ["127.0.0.2"], [f"127.0.0.1:{elsewhere.port}"]):
            with pytest.raises(UpstreamRefused, match="token_hosts"):
                await manifest(reach(upstream, *credentials, token_hosts=hosts), upstream.url)
    assert (elsewhere.connections, authorizations(upstream)) == (0, [])

    trusting = reach(upstream, ADMIN, token_hosts=[elsewhere.address])
    assert (await manifest(trusting, upstream.url)).status == 200
    assert authorizations(elsewhere) == [ADMIN.basic]
    assert [each.partition(" ")[0] for each in authorizations(upstream)] == ["Bearer"]


async def test_row_p1_a_realm_on_another_port_hears_nothing(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Another port of the same host is another origin."""
    with ScriptedUpstream() as other:
        guard(upstream, realm=f"{other.url}/token")
        with pytest.raises(UpstreamRefused):
            await manifest(reach(upstream, ADMIN), upstream.url)
        assert other.connections == 0


async def test_row_p1_an_encrypted_upstream_names_no_plain_realm(
    reach: Reach, elsewhere: ScriptedUpstream, authority: trustme.CA
) -> None:
    """Not even on a host that is trusted with our credentials."""
    with ScriptedUpstream(authority=authority) as encrypted:
        guard(encrypted, realm=f"{elsewhere.url}/token")
        http = reach(encrypted, ADMIN, ca_pem=pem(authority), token_hosts=[elsewhere.address])
        with pytest.raises(UpstreamRefused):
            await manifest(http, encrypted.url)
    assert elsewhere.connections == 0


async def test_row_p1_a_realm_that_redirects_is_not_followed(
    reach: Reach, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """A token comes from the trusted host itself, or not at all."""
    guard(upstream)
    upstream.script(Redirect(f"{elsewhere.url}/token"), on("token"))

    with pytest.raises(UpstreamFailed, match="answers 307"):
        await manifest(reach(upstream, ADMIN), upstream.url)

    assert elsewhere.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("auth", [Bearer(USERS), Basic(USERS)], ids=["bearer", "basic"])
async def test_row_p1_redirects_take_no_credentials_along(
    reach: Reach, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, status: int, auth: Bearer | Basic
) -> None:
    """To another host: the document is fetched without a word about who we are, by both clients."""
    upstream.registry.auth = auth
    upstream.script(Redirect(lambda seen: elsewhere.url + seen.target, status), admitted)
    elsewhere.shelf = elsewhere.registry.shelf = upstream.shelf
    http = reach(upstream, ADMIN)

    assert (await manifest(http, upstream.url)).status == 200
    assert await body(http, upstream.url, blob_of(upstream), headers=[("Range", "bytes=0-")]) == LAYER

    assert authorizations(elsewhere) == []
    assert len(elsewhere.requests) == 2
    assert elsewhere.requests[1].header("range") == "bytes=0-"


async def test_row_p1_another_port_is_another_origin_and_the_same_one_is_not(
    reach: Reach, upstream: ScriptedUpstream
) -> None:
    """Within the upstream's origin credentials go along; to another port of its host, and back from there, as due."""
    guard(upstream)
    with ScriptedUpstream(upstream.shelf) as other:
        upstream.script(
            Redirect(f"{other.url}/v2/team/app/there"), lambda seen: seen.reference == "latest" and admitted(seen)
        )
        other.script(Redirect(f"{upstream.url}/v2/team/app/manifests/moved"))
        upstream.script(Redirect("/v2/team/app/manifests/final"), on("manifests", reference="moved"))
        upstream.shelf.image("team/app", "final", b"at last")
        http = reach(upstream, ADMIN)

        assert (await manifest(http, upstream.url)).status == 200

        assert authorizations(other) == []
        assert [(seen.reference, with_credentials(seen)) for seen in upstream.seen(on("manifests"))] == [
            ("latest", True),
            ("moved", True),
            ("final", True),
        ]


async def test_blobs_come_from_a_store_that_takes_no_credentials(
    reach: Reach, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream
) -> None:
    """As from S3 behind a registry: an Authorization would be refused there."""
    guard(upstream)
    send_blobs_to(upstream, elsewhere)
    path = blob_of(upstream)

    assert await body(reach(upstream, ADMIN), upstream.url, path) == LAYER
    assert elsewhere.requests[0].query == {"X-Amz-Signature": ["0123456789abcdef"]}


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refusal_elsewhere_is_no_denial(
    reach: Reach, upstream: ScriptedUpstream, elsewhere: ScriptedUpstream, status: int
) -> None:
    """Whom the upstream sends us to may refuse (an address that has expired): that says nothing about the image."""
    elsewhere.script(Says(status, b"", (("WWW-Authenticate", f'Bearer realm="{elsewhere.url}/token"'),)))
    upstream.script(Redirect(f"{elsewhere.url}/signed?secret=1"), on("manifests"))
    http = reach(upstream, ADMIN)

    for question in (manifest(http, upstream.url), body(http, upstream.url, MANIFEST)):
        with pytest.raises(UpstreamFailed, match=f"answers {status}") as raised:
            await question
        assert "secret" not in str(raised.value)

    assert [seen.path for seen in elsewhere.requests] == ["/signed", "/signed"]


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "https://user:password@127.0.0.2/",
        "http://[::1/",
        "http://127.0.0.2\\@127.0.0.1/",
        "//user@127.0.0.2/",
        "http://169.254.169.254/latest/meta-data/",
        "//169.254.169.254/",
    ],
)
async def test_row_p2_redirects_to_what_is_no_public_address_are_refused(
    reach: Reach, upstream: ScriptedUpstream, location: str
) -> None:
    """Other schemes, credentials in the address, metadata services; for both clients."""
    http = reach(upstream)
    upstream.script(Redirect(location))

    for question in (manifest, manifest):  # the first contact, then asks
        with pytest.raises(UpstreamRefused):
            await question(http, upstream.url)
    with pytest.raises(UpstreamRefused):
        await body(http, upstream.url, MANIFEST)


async def test_a_redirect_to_nowhere_is_a_failure(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Without Location there is nothing to follow."""
    upstream.script(Says(302))

    with pytest.raises(UpstreamFailed, match="without saying where"):
        await manifest(reach(upstream), upstream.url)


async def test_an_encrypted_upstream_redirects_to_encrypted_places(
    reach: Reach, upstream: ScriptedUpstream, authority: trustme.CA
) -> None:
    """Never on to plain HTTP, where anybody could change what comes."""
    with ScriptedUpstream(authority=authority) as encrypted:
        encrypted.script(Redirect(upstream.url + MANIFEST))
        http = reach(encrypted, ca_pem=pem(authority))
        with pytest.raises(UpstreamRefused, match="not encrypted"):
            await manifest(http, encrypted.url)
        with pytest.raises(UpstreamRefused, match="not encrypted"):
            await body(http, encrypted.url, MANIFEST)
    assert upstream.connections == 0


@pytest.mark.parametrize(("hops", "arrives"), [(MAX_REDIRECTS, True), (MAX_REDIRECTS + 1, False), (10**6, False)])
async def test_redirects_are_counted(reach: Reach, upstream: ScriptedUpstream, hops: int, arrives: bool) -> None:  # noqa: FBT001
    """Five are followed, however it began; a loop ends."""
    for ask in (manifest, lambda http, base: body(http, base, MANIFEST)):
        upstream.heal()
        upstream.forget()
        upstream.script(Redirect(lambda seen: f"{MANIFEST}?{len(upstream.requests)}"), times=hops)
        http = reach(upstream)
        if arrives:
            await ask(http, upstream.url)
        else:
            with pytest.raises(UpstreamRefused, match="more than 5 times"):
                await ask(http, upstream.url)
        assert len(upstream.requests) == MAX_REDIRECTS + 1
