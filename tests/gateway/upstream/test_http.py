"""Requests to real upstreams on loopback: logging in, what is put up with, and what trouble is called."""

import pytest
import trio
import trustme

from gateway.upstream.errors import (
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
)
from gateway.upstream.http import Address
from gateway.upstream.tokens import Credential
from storage.transfer import Origin
from tests.gateway.upstream.reaching import (
    ADMIN,
    LAYER,
    MANIFEST,
    SCOPE,
    USERS,
    Names,
    Reach,
    authorizations,
    blob_of,
    body,
    guard,
    manifest,
    pem,
)
from tests.storage.transfer.scripted import Peer, Serve
from tests.upstream.login import Basic, Bearer, Form
from tests.upstream.script import (
    HTML,
    Busy,
    Cut,
    Endless,
    Fault,
    Gzipped,
    Reset,
    Says,
    Stall,
    With,
    on,
    with_credentials,
)
from tests.upstream.scripted import ScriptedUpstream


async def test_an_open_upstream_is_asked_without_a_login(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Credentials that nobody wants are not sent."""
    http = reach(upstream, ADMIN)

    answers = [await manifest(http, upstream.url, headers=[("Accept", "a/b")]) for _ in range(3)]

    assert {(answer.status, answer.body[:1]) for answer in answers} == {(200, b"{")}
    assert answers[0].header("docker-content-digest") == answers[2].header("docker-content-digest")
    assert authorizations(upstream) == []
    assert [seen.kind for seen in upstream.requests] == ["base", "manifests", "manifests", "manifests"]
    assert {seen.header("accept") for seen in upstream.seen(on("manifests"))} == {"a/b"}
    assert {seen.header("accept-encoding") for seen in upstream.requests} == {"identity"}


@pytest.mark.parametrize("form", ["plain", "basic first", "basic last", "two headers", "odd"])
@pytest.mark.parametrize("key", ["token", "access_token"])
async def test_every_form_of_challenge_is_answered(
    reach: Reach, upstream: ScriptedUpstream, form: Form, key: str
) -> None:
    """One meeting, one login, and then one request each."""
    auth = guard(upstream, form, key=key)
    http = reach(upstream, ADMIN)

    for _ in range(3):
        assert (await manifest(http, upstream.url)).status == 200
    assert await body(http, upstream.url, blob_of(upstream)) == LAYER

    assert [(login.user, login.scopes) for login in auth.logins] == [("admin", (SCOPE,))]
    assert [(seen.kind, seen.status) for seen in upstream.requests] == [
        ("base", 401),
        ("token", 200),
        ("manifests", 200),
        ("manifests", 200),
        ("manifests", 200),
        ("blobs", 200),
    ]


async def test_the_first_contact_may_be_a_body(reach: Reach, upstream: ScriptedUpstream) -> None:
    """A stream logs in as a small request does."""
    auth = guard(upstream, is_open=True)

    assert await body(reach(upstream), upstream.url, blob_of(upstream)) == LAYER
    assert [(login.user, login.is_accepted) for login in auth.logins] == [(None, True)]


async def test_who_has_credentials_introduces_himself(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Some registries tell strangers that an image does not exist: the meeting at /v2/ says how to log in before."""
    auth = guard(upstream)
    upstream.script(Says(404), lambda seen: seen.kind == "manifests" and not with_credentials(seen))

    assert (await manifest(reach(upstream), upstream.url)).status == 404
    http = reach(upstream, ADMIN)
    async with trio.open_nursery() as pulling:
        for _ in range(20):
            pulling.start_soon(manifest, http, upstream.url)

    assert len(upstream.seen(on("base"))) == len(auth.logins) == 1
    assert {seen.status for seen in upstream.seen(on("manifests"))[1:]} == {200}


async def test_a_meeting_that_says_nothing_is_repeated(reach: Reach, upstream: ScriptedUpstream) -> None:
    """In trouble, or where /v2/ is open and images are not: the question itself shows how to log in."""
    auth = guard(upstream)
    upstream.script(Says(503), on("base"))
    assert (await manifest(reach(upstream, ADMIN), upstream.url)).status == 200

    upstream.heal()
    upstream.script(Says(200), on("base"))
    http = reach(upstream, ADMIN)
    for _ in range(2):
        assert (await manifest(http, upstream.url)).status == 200
    assert len(auth.logins) == 2


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("told", [403, 404])
async def test_what_strangers_are_told_is_not_believed(
    reach: Reach, upstream: ScriptedUpstream, status: int, told: int
) -> None:
    """A meeting in vain does not make private images unknown, neither at once nor from then on."""
    guard(upstream)
    upstream.script(Says(told), lambda seen: seen.kind == "manifests" and not with_credentials(seen))
    upstream.script(Says(status), on("base"), times=1)
    http = reach(upstream, ADMIN)

    with pytest.raises(UpstreamFailed, match="does not say how to log in"):
        await manifest(http, upstream.url)
    assert (await manifest(http, upstream.url)).status == 200


async def test_a_meeting_that_fails_fails_for_all_who_wait(reach: Reach, upstream: ScriptedUpstream) -> None:
    """A mute upstream costs everybody one idle time, not one after the other."""
    guard(upstream)
    upstream.script(Stall())
    http = reach(upstream, ADMIN, idle_s=0.2)
    slow: list[UpstreamError] = []

    async def pull() -> None:
        with pytest.raises(UpstreamSlow) as raised:
            await manifest(http, upstream.url)
        slow.append(raised.value)

    async with trio.open_nursery() as pulling:
        for _ in range(50):
            pulling.start_soon(pull)

    assert (len(slow), len(upstream.requests)) == (50, 1)


async def test_basic_is_answered_with_name_and_password(reach: Reach, upstream: ScriptedUpstream) -> None:
    """With each request, to the upstream itself."""
    upstream.registry.auth = Basic(USERS)
    http = reach(upstream, ADMIN)

    assert (await manifest(http, upstream.url)).status == 200
    assert await body(http, upstream.url, blob_of(upstream)) == LAYER
    assert authorizations(upstream) == [ADMIN.basic] * 2


async def test_several_accounts_have_tokens_of_their_own(reach: Reach, upstream: ScriptedUpstream) -> None:
    """The account is chosen with each question."""
    upstream.registry.auth = auth = Bearer({**USERS, "second": "pw"})
    http = reach(upstream, ADMIN, Credential("second", "pw"))

    for account in (0, 1, 0, 1):
        assert (await manifest(http, upstream.url, account=account)).status == 200

    assert [login.user for login in auth.logins] == ["admin", "second"]


@pytest.mark.parametrize("count", [1, 20])
async def test_row_p6_logins_are_one_per_life_of_a_token(
    reach: Reach, upstream: ScriptedUpstream, nursery: trio.Nursery, count: int
) -> None:
    """However many pull at once and one after the other."""
    auth = guard(upstream)
    http = reach(upstream, ADMIN)

    for _ in range(2):
        async with trio.open_nursery() as pulling:
            for _ in range(count):
                pulling.start_soon(manifest, http, upstream.url)
                pulling.start_soon(body, http, upstream.url, blob_of(upstream))

    assert len(auth.logins) == 1


async def test_row_p6_a_cancelled_leader_leaves_the_login_to_others(reach: Reach, upstream: ScriptedUpstream) -> None:
    """The login of a pull that was given up serves the next one."""
    auth = guard(upstream)
    http = reach(upstream, ADMIN)
    upstream.script(Stall(), on("token"))

    async with trio.open_nursery() as leading:
        leading.start_soon(manifest, http, upstream.url)
        with trio.fail_after(30):
            while not upstream.seen(on("token")):  # noqa: ASYNC110  # another thread's list
                await trio.sleep(0.01)
        leading.cancel_scope.cancel()
    upstream.heal()

    assert (await manifest(http, upstream.url)).status == 200
    assert len(auth.logins) == 1


async def test_a_token_that_is_refused_is_replaced_once(reach: Reach, upstream: ScriptedUpstream) -> None:
    """An upstream that was restarted knows its tokens no more: one more login, and nobody notices."""
    auth = guard(upstream, "two headers")
    http = reach(upstream, ADMIN)
    assert (await manifest(http, upstream.url)).status == 200

    auth.forget()
    assert (await manifest(http, upstream.url)).status == 200
    auth.forget()
    assert await body(http, upstream.url, blob_of(upstream)) == LAYER

    assert len(auth.logins) == 3


async def test_what_is_not_given_to_us_is_denied(reach: Reach, upstream: ScriptedUpstream) -> None:
    """401 with a fresh token, and 403: denied, with one login and without a loop."""
    auth = guard(upstream)
    upstream.script(
        Says(401, b"", (("WWW-Authenticate", f'Bearer realm="{upstream.url}/token",scope="{SCOPE}"'),)), on("manifests")
    )
    with pytest.raises(UpstreamDenied):
        await manifest(reach(upstream, ADMIN), upstream.url)
    assert len(auth.logins) == 1
    upstream.heal()

    upstream.script(Says(403), on("manifests"))
    with pytest.raises(UpstreamDenied):
        await manifest(reach(upstream, ADMIN), upstream.url)


async def test_insufficient_scope_needs_no_other_login(reach: Reach, upstream: ScriptedUpstream) -> None:
    """An upstream that says so does not give it with another token either."""
    auth = guard(upstream)
    http = reach(upstream, ADMIN)
    assert (await manifest(http, upstream.url)).status == 200
    realm = f'Bearer realm="{upstream.url}/token",service="scripted",scope="{SCOPE}",error="insufficient_scope"'
    upstream.script(Says(401, b"", (("WWW-Authenticate", realm),)), on("manifests"))

    for _ in range(3):
        with pytest.raises(UpstreamDenied):
            await manifest(http, upstream.url)

    assert len(auth.logins) == 1


@pytest.mark.parametrize("auth", [Bearer(USERS), Basic(USERS)], ids=["bearer", "basic"])
async def test_rejected_credentials_are_the_upstreams_failure(
    reach: Reach, upstream: ScriptedUpstream, auth: Bearer | Basic
) -> None:
    """Never something that is not found; the message names neither the password nor the query."""
    upstream.registry.auth = auth
    http = reach(upstream, Credential("admin", "no longer"))

    for _ in range(3):
        with pytest.raises(UpstreamFailed, match="rejects the credentials") as raised:
            await manifest(http, upstream.url)
        assert "no longer" not in str(raised.value)
        assert "?" not in str(raised.value)

    assert not isinstance(auth, Bearer) or len(auth.logins) == 1


async def test_an_upstream_that_takes_known_people_only_denies_others(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Without credentials, a Basic challenge and a realm that gives nothing are the same."""
    for auth in (Basic(USERS), Bearer(USERS)):
        upstream.registry.auth = auth
        with pytest.raises(UpstreamDenied):
            await manifest(reach(upstream), upstream.url)


@pytest.mark.parametrize("known", [False, True], ids=["first contact", "asks"])
async def test_every_other_status_is_an_answer(reach: Reach, upstream: ScriptedUpstream, known: bool) -> None:  # noqa: FBT001
    """404, 429 with its fields, 5xx and pages of a portal are for the caller to judge."""
    http = reach(upstream)
    if known:
        await manifest(http, upstream.url)
    for fault, status in ((Says(404), 404), (Busy(7), 429), (Says(503, b"no"), 503), (HTML, 200), (Says(304), 304)):
        upstream.heal()
        upstream.script(fault)
        answer = await manifest(http, upstream.url)
        assert answer.status == status
        assert answer.header("retry-after") == ("7" if status == 429 else "")


@pytest.mark.parametrize("known", [False, True], ids=["first contact", "asks"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Cut(), UpstreamFailed),
        (Reset(), UpstreamFailed),
        (Cut(3), UpstreamFailed),
        (Reset(3), UpstreamFailed),
        (Gzipped(), UpstreamFailed),
        (Stall(), UpstreamSlow),
        (Stall(3), UpstreamSlow),
    ],
    ids=str,
)
async def test_trouble_has_one_family_of_errors(
    reach: Reach,
    upstream: ScriptedUpstream,
    fault: Fault,
    error: type[UpstreamError],
    known: bool,  # noqa: FBT001
) -> None:
    """Whichever client meets it; the next question is answered."""
    http = reach(upstream, idle_s=0.2 if error is UpstreamSlow else 30.0)
    if known:  # without a request, which on a slow machine might have trouble of its own
        http._logins.admitted(Origin.parse(upstream.url), None)
    upstream.script(fault, on("manifests"))

    with pytest.raises(error):
        await manifest(http, upstream.url)

    upstream.heal()
    assert (await manifest(reach(upstream), upstream.url)).status == 200


@pytest.mark.parametrize(
    ("fault", "error"),
    [(Cut(3), UpstreamFailed), (Reset(3), UpstreamFailed), (Stall(3), UpstreamSlow), (Stall(), UpstreamSlow)],
    ids=str,
)
async def test_trouble_within_a_body_is_the_upstreams(
    reach: Reach, upstream: ScriptedUpstream, fault: Fault, error: type[UpstreamError]
) -> None:
    """What was read until then is right; what the reader itself raises is its own."""
    http = reach(upstream, idle_s=0.2 if error is UpstreamSlow else 30.0)
    path = blob_of(upstream)
    rule = upstream.script(fault, on("blobs"))
    with pytest.raises(error):
        await body(http, upstream.url, path)
    assert rule.hits
    upstream.heal()

    http = reach(upstream)
    with pytest.raises(ZeroDivisionError):
        async with http.stream(Address(upstream.url, path), scope=SCOPE):
            raise ZeroDivisionError
    assert await body(http, upstream.url, path) == LAYER


async def test_a_dead_upstream_is_a_failure(reach: Reach, upstream: ScriptedUpstream) -> None:
    """Refused connections and names without an address; told apart from what an upstream says."""
    http = reach(upstream)
    assert (await manifest(http, upstream.url)).status == 200
    upstream.refuse()
    with pytest.raises(UpstreamFailed):
        await manifest(http, upstream.url)
    with pytest.raises(UpstreamFailed):
        await body(http, upstream.url, MANIFEST)

    missing = "http://missing.test:5000"
    with pytest.raises(UpstreamFailed, match="not known"):
        await manifest(reach(missing, lookup=Names()), missing)


async def test_a_login_may_be_put_off(reach: Reach, upstream: ScriptedUpstream) -> None:
    """429 at the token endpoint is the upstream's wish for fewer questions."""
    guard(upstream)
    upstream.script(Busy(9), on("token"))

    with pytest.raises(UpstreamBusy) as raised:
        await manifest(reach(upstream, ADMIN), upstream.url)

    assert raised.value.retry_after_s == 9


async def test_what_asks_does_not_understand_is_read_strictly(reach: Reach, serve: Serve) -> None:
    """An interim answer confuses asks, and is sound: the other client has the last word."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.asked()
            await peer.say(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    base = str((await serve(script)).origin)
    http = reach(base)

    for _ in range(2):
        assert (await manifest(http, base)).body == b"hello"


async def test_an_encrypted_upstream_is_known_by_its_name(reach: Reach, authority: trustme.CA) -> None:
    """At an address that was checked, with the certificate of its name, by a CA of the settings; for both clients."""
    with ScriptedUpstream(authority=authority, names=("registry.test",)) as encrypted:
        encrypted.shelf.image("team/app", "latest", b"layer")
        names = Names(registry_test=[["127.0.0.1"]], other_test=[["127.0.0.1"]])
        base, other = (f"https://{name}.test:{encrypted.port}" for name in ("registry", "other"))
        http = reach(base, lookup=names, ca_pem=pem(authority))

        assert [(await manifest(http, base)).status for _ in range(2)] == [200, 200]
        assert await body(http, base, "/v2/") == b"{}"
        asked = len(encrypted.requests)
        for known, url in ((pem(authority), other), (None, base)):
            http = reach(url, lookup=names, ca_pem=known)
            with pytest.raises(UpstreamFailed, match=r"certificate.*\(ca\)"):
                await manifest(http, url)
            with pytest.raises(UpstreamFailed, match=r"certificate.*\(ca\)"):
                await body(http, url, "/v2/")
        assert len(encrypted.requests) == asked


async def test_only_configured_addresses_are_asked(reach: Reach, upstream: ScriptedUpstream) -> None:
    """A base that the settings do not have is a programmer's mistake, and so nothing leaves."""
    http = reach(upstream, ADMIN)

    with pytest.raises(ValueError, match="no address of this upstream"):
        await manifest(http, "http://127.0.0.2:80")


def test_an_address_is_its_base_and_its_path() -> None:
    """Whether or not the base ends with a slash, and also below a path."""
    assert Address("https://a.test", "/v2/").url == Address("https://a.test/", "/v2/").url == "https://a.test/v2/"
    assert Address("https://a.test/registry", "/v2/x?n=1").url == "https://a.test/registry/v2/x?n=1"


async def test_closing_twice_and_unused_is_fine(reach: Reach, upstream: ScriptedUpstream) -> None:
    """And what is asked afterwards is refused, not left open."""
    http = reach(upstream)
    await http.aclose()
    assert await body(http, upstream.url, "/v2/") == b"{}"
    await http.aclose()
    await http.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await body(http, upstream.url, "/v2/")


@pytest.mark.parametrize("known", [False, True], ids=["first contact", "asks"])
@pytest.mark.parametrize("fault", [Endless(1 << 24), Says(200, bytes(1 << 20))], ids=["endless", "announced"])
async def test_row_p11_documents_are_bounded(
    reach: Reach,
    upstream: ScriptedUpstream,
    fault: Fault,
    known: bool,  # noqa: FBT001
) -> None:
    """An endless manifest is refused after as many bytes as were allowed, or before, where it says its length."""
    http = reach(upstream)
    if known:
        await manifest(http, upstream.url)
    upstream.forget()
    upstream.script(fault, on("manifests"))

    with pytest.raises(UpstreamRefused, match="larger than"):
        await manifest(http, upstream.url, limit_bytes=1 << 18)

    assert upstream.bytes_sent("latest") < 1 << 24


@pytest.mark.parametrize("known", [False, True], ids=["first contact", "asks"])
async def test_row_p11_a_token_endpoint_is_bounded(reach: Reach, upstream: ScriptedUpstream, known: bool) -> None:  # noqa: FBT001
    """So are logins, and the heads of answers."""
    http = reach(upstream, ADMIN)
    if known:
        await manifest(http, upstream.url)
    guard(upstream)
    rule = upstream.script(Endless(1 << 24), on("token"))
    with pytest.raises(UpstreamRefused, match="larger than"):
        await manifest(http, upstream.url)
    assert rule.hits == 1

    upstream.heal()
    upstream.script(With({f"X-{each}": "y" * 10_000 for each in range(10)}), on("manifests"))
    with pytest.raises(UpstreamFailed):
        await manifest(http, upstream.url)
