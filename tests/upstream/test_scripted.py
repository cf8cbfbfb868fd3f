"""The scripted upstream does what it is told, and tells what it was asked: other tests rely on both."""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import trio
import trustme

from tests.served import ADMIN, OCI_INDEX, Reply, authorization, send, sha256
from tests.servers.processes import wait_until
from tests.upstream.login import Basic, Bearer, Form, Login
from tests.upstream.registry import Budget
from tests.upstream.script import (
    HTML,
    Busy,
    Chunked,
    Cut,
    Endless,
    EndlessPages,
    Fault,
    Gzipped,
    IgnoresRange,
    Other,
    Redirect,
    Reset,
    Says,
    Slow,
    Stall,
    TooLong,
    Truncated,
    Wait,
    With,
    WrongByte,
    WrongLength,
    WrongRange,
    on,
    with_range,
)
from tests.upstream.scripted import ScriptedUpstream, send_blobs_to

LAYER = bytes(range(256)) * 40
NAME = "team/app"
BLOB = f"/v2/{NAME}/blobs/{sha256(LAYER)}"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """An upstream with one image."""
    with ScriptedUpstream() as scripted:
        scripted.shelf.image(NAME, "latest", LAYER)
        yield scripted


def ask(url: str, path: str, method: str = "GET", **headers: str) -> Reply:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    try:
        return send(connection, method, path, None, {key.replace("_", "-"): value for key, value in headers.items()})
    finally:
        connection.close()


def test_an_image_is_served_as_registries_do(upstream: ScriptedUpstream) -> None:
    """Manifests by tag and digest, blobs with ranges, HEAD without a body, 404 with a code, 304 for a known ETag."""
    image = upstream.shelf.image(NAME, "v1", LAYER, b"second")
    by_tag = ask(upstream.url, f"/v2/{NAME}/manifests/v1")
    by_digest = ask(upstream.url, f"/v2/{NAME}/manifests/{image.digest}")

    assert by_tag.body == by_digest.body == image.manifest.content
    assert by_tag.headers["docker-content-digest"] == image.digest
    assert ask(upstream.url, f"/v2/{NAME}/manifests/v1", "HEAD").body == b""
    assert ask(upstream.url, f"/v2/{NAME}/manifests/v1", If_None_Match=by_tag.headers["etag"]).status == 304
    assert ask(upstream.url, BLOB).body == LAYER
    part = ask(upstream.url, BLOB, Range="bytes=10-19")
    assert (part.status, part.body) == (206, LAYER[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(LAYER)}"
    assert ask(upstream.url, BLOB, Range=f"bytes={len(LAYER)}-").status == 416
    assert ask(upstream.url, f"/v2/{NAME}/manifests/absent").codes() == ["MANIFEST_UNKNOWN"]
    assert ask(upstream.url, f"/v2/{NAME}/blobs/{sha256(b'absent')}").codes() == ["BLOB_UNKNOWN"]


def test_an_index_names_an_image_for_each_platform(upstream: ScriptedUpstream) -> None:
    """The children of an index are manifests of their own, with their platforms."""
    index = upstream.shelf.index(NAME, "multi", {"linux/amd64": (b"a",), "linux/arm/v7": (b"b",)})

    reply = ask(upstream.url, f"/v2/{NAME}/manifests/multi")

    assert reply.headers["content-type"] == OCI_INDEX
    entries = {each["digest"]: each["platform"] for each in reply.json()["manifests"]}
    assert entries == {
        index.images["linux/amd64"].digest: {"os": "linux", "architecture": "amd64"},
        index.images["linux/arm/v7"].digest: {"os": "linux", "architecture": "arm", "variant": "v7"},
    }
    assert all(ask(upstream.url, f"/v2/{NAME}/manifests/{digest}").status == 200 for digest in entries)


def test_referrers_are_found_by_the_api_or_by_the_fallback_tag(upstream: ScriptedUpstream) -> None:
    """The API answers with what names the subject; without it, 404 and the same under the tag `sha256-…`."""
    image = upstream.shelf.image(NAME, "signed", b"content")
    artifact = upstream.shelf.artifact(NAME, image.digest, b"signature", "application/x-signature")
    api = f"/v2/{NAME}/referrers/{image.digest}"
    entry = ask(upstream.url, api).json()["manifests"][0]
    assert (entry["digest"], entry["artifactType"]) == (artifact.digest, "application/x-signature")

    upstream.registry.has_referrers_api = False
    tag = upstream.shelf.write_fallback_tag(NAME, image.digest)

    assert ask(upstream.url, api).status == 404
    assert ask(upstream.url, f"/v2/{NAME}/manifests/{tag}").json()["manifests"] == [entry]


def test_tags_come_in_pages(upstream: ScriptedUpstream) -> None:
    """Each page links to the next one until all names were told, sorted."""
    upstream.registry.page_size = 2
    for number in range(4):
        upstream.shelf.image(NAME, f"v{number}", LAYER)
    path, names = f"/v2/{NAME}/tags/list", []
    while path:
        reply = ask(upstream.url, path)
        names += reply.json()["tags"]
        path = reply.headers.get("link", "").partition(">")[0].lstrip("<")

    assert names == ["latest", "v0", "v1", "v2", "v3"]
    assert len(upstream.seen(on("tags"))) == 3


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (WrongByte(3), LAYER[:3] + bytes([LAYER[3] ^ 0xFF]) + LAYER[4:]),
        (Truncated(7), LAYER[:-7]),
        (TooLong(b"x"), LAYER + b"x"),
        (Other(b"something else"), b"something else"),
        (HTML, HTML.body),
        (Chunked(), LAYER),
        (Slow(200_000), LAYER),
        (Wait(0.01), LAYER),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_body_is_whole_for_http_and_not_what_was_asked_for(
    upstream: ScriptedUpstream, fault: Fault, body: bytes
) -> None:
    """What a client without digests would take: 200, with framing that fits."""
    upstream.script(fault, on("blobs"), times=1)

    reply = ask(upstream.url, BLOB)

    assert (reply.status, reply.body) == (200, body)
    assert ask(upstream.url, BLOB).body == LAYER


@pytest.mark.parametrize("fault", [Cut(100), Reset(100), WrongLength(50)], ids=str)
def test_a_body_that_breaks_off_breaks_off(upstream: ScriptedUpstream, fault: Fault) -> None:
    """The client notices, and what went out until then was right."""
    upstream.script(fault, on("blobs"), times=1)

    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as raised:
        ask(upstream.url, BLOB)

    if isinstance(raised.value, http.client.IncompleteRead):
        assert raised.value.partial == LAYER[: len(raised.value.partial)]
    assert ask(upstream.url, BLOB).body == LAYER


@pytest.mark.parametrize("fault", [Cut(), Reset()], ids=str)
def test_a_request_may_get_no_answer(upstream: ScriptedUpstream, fault: Fault) -> None:
    """Not even the head comes."""
    upstream.script(fault, on("blobs"))

    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(upstream.url, BLOB)


def test_ranges_are_answered_wrongly(upstream: ScriptedUpstream) -> None:
    """200 with everything, or 206 with other bytes that it admits or denies."""
    upstream.script(IgnoresRange(), with_range, times=1)
    upstream.script(WrongRange(5), with_range, times=1, skip=1)
    upstream.script(WrongRange(5, is_named=False), with_range, times=1, skip=2)

    replies = [ask(upstream.url, BLOB, Range="bytes=100-199") for _ in range(3)]

    assert [reply.status for reply in replies] == [200, 206, 206]
    assert [reply.body for reply in replies] == [LAYER, LAYER[105:205], LAYER[105:205]]
    assert [reply.headers.get("content-range", "")[:13] for reply in replies] == ["", "bytes 105-204", "bytes 100-199"]


def test_a_gzipped_answer_says_so_or_not(upstream: ScriptedUpstream) -> None:
    """The body is gzip in both cases."""
    upstream.script(Gzipped(), times=1)
    upstream.script(Gzipped(is_named=False), times=1, skip=1)

    replies = [ask(upstream.url, BLOB) for _ in range(2)]

    assert [reply.headers.get("content-encoding") for reply in replies] == ["gzip", None]
    assert all(reply.body.startswith(b"\x1f\x8b") for reply in replies)


def test_a_stalled_answer_goes_on_when_it_is_released(upstream: ScriptedUpstream) -> None:
    """Nothing comes beyond the byte named, until the test lets go; then all of it."""
    upstream.script(Stall(1000), on("blobs"))
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=20) as client:
        client.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(answer.partition(b"\r\n\r\n")[2]) < 1000:
            answer += client.recv(1 << 16)
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(20)
        upstream.release()
        while data := client.recv(1 << 16):
            answer += data

    assert answer.partition(b"\r\n\r\n")[2] == LAYER


def test_an_answer_that_has_begun_is_released_before_it_stalls(upstream: ScriptedUpstream) -> None:
    """So nobody has to know whether the upstream has come to the byte by now."""
    upstream.script(Stall(len(LAYER) // 2), on("blobs"))
    upstream.script(Slow(len(LAYER)), on("blobs"))
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=20) as client:
        client.sendall(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = client.recv(1 << 16)
        upstream.release()
        while data := client.recv(1 << 16):
            answer += data

    assert answer.partition(b"\r\n\r\n")[2] == LAYER


FORMS: tuple[Form, ...] = ("plain", "basic first", "basic last", "two headers", "odd")


@pytest.mark.parametrize("form", FORMS)
def test_a_challenge_comes_in_every_form_and_tokens_are_given(upstream: ScriptedUpstream, form: Form) -> None:
    """Without a token 401 that names the realm; with one from there everything; each login is written down."""
    auth = upstream.registry.auth = Bearer({ADMIN[0]: ADMIN[1]}, form=form, key="access_token", expires_in_s=None)
    refused = ask(upstream.url, BLOB)
    challenges = [value for name, value in refused.all_headers if name.lower() == "www-authenticate"]
    assert refused.status == 401
    assert len(challenges) == (2 if form == "two headers" else 1)
    assert f"{upstream.url}/token" in "".join(challenges).replace("\\", "")

    scope = f"repository:{NAME}:pull"
    given = ask(upstream.url, f"/token?service=scripted&scope={scope}", **authorization(ADMIN))
    assert list(given.json()) == ["access_token"]
    token = given.json()["access_token"]

    assert ask(upstream.url, BLOB, Authorization=f"Bearer {token}").body == LAYER
    assert ask(upstream.url, BLOB.replace("app", "other"), Authorization=f"Bearer {token}").status == 401
    assert ask(upstream.url, "/token").status == 401
    assert auth.logins == [Login(ADMIN[0], (scope,), is_accepted=True), Login(None, (), is_accepted=False)]
    auth.forget()
    assert ask(upstream.url, BLOB, Authorization=f"Bearer {token}").status == 401


def test_an_upstream_may_want_a_password_each_time(upstream: ScriptedUpstream) -> None:
    """Basic alone, and no token endpoint."""
    upstream.registry.auth = Basic({ADMIN[0]: ADMIN[1]})

    assert ask(upstream.url, BLOB).headers["www-authenticate"].startswith("Basic")
    assert ask(upstream.url, BLOB, **authorization(ADMIN)).status == 200
    assert ask(upstream.url, "/token").status == 404


def test_a_budget_is_counted_down_by_gets_of_manifests_alone(upstream: ScriptedUpstream) -> None:
    """HEAD is free and tells what is left; at nothing, 429."""
    upstream.registry.budget = Budget(limit=2, remaining=1)
    path = f"/v2/{NAME}/manifests/latest"

    assert ask(upstream.url, path, "HEAD").headers["ratelimit-remaining"] == "1;w=21600"
    assert ask(upstream.url, path).headers["ratelimit-remaining"] == "0;w=21600"
    assert ask(upstream.url, path).status == 429
    assert ask(upstream.url, path, "HEAD").status == 200
    assert upstream.registry.counted_pulls == 1


def test_endless_lists_and_documents_do_not_end(upstream: ScriptedUpstream) -> None:
    """Every page has a next one, or the same; a document grows as far as it is told to."""
    upstream.script(EndlessPages(), on("tags"), times=3)
    upstream.script(EndlessPages(is_loop=True), on("tags"), skip=3)
    links = [ask(upstream.url, f"/v2/{NAME}/tags/list").headers["link"] for _ in range(5)]
    assert len(set(links[:3])) == 3
    assert links[3] == links[4]

    upstream.script(Endless(1 << 20), on("manifests"))
    assert len(ask(upstream.url, f"/v2/{NAME}/manifests/latest").body) >= 1 << 20


def test_blobs_may_lie_in_a_store_that_refuses_credentials(upstream: ScriptedUpstream) -> None:
    """The registry redirects there; with Authorization the store answers 400, without it the bytes."""
    with ScriptedUpstream(host="127.0.0.2") as store:
        send_blobs_to(upstream, store)
        reply = ask(upstream.url, BLOB)
        where = urlsplit(reply.headers["location"])

        assert (reply.status, where.netloc) == (307, store.address)
        assert ask(store.url, where.path, **authorization(ADMIN)).status == 400
        assert ask(store.url, where.path).body == LAYER


def test_other_answers_are_given_word_by_word(upstream: ScriptedUpstream) -> None:
    """Storms, errors of the server, redirects and changed fields; `skip` and `times` choose whom they befall."""
    upstream.script(Busy(7), times=1)
    upstream.script(Says(503, b"no"), times=1, skip=1)
    upstream.script(Redirect("http://127.0.0.3/elsewhere", 301), times=1, skip=2)
    upstream.script(With({"Docker-Content-Digest": "", "Content-Type": "text/plain"}), skip=3)

    busy, failed, sent, changed = (ask(upstream.url, BLOB) for _ in range(4))

    assert (busy.status, busy.headers["retry-after"]) == (429, "7")
    assert (failed.status, failed.body) == (503, b"no")
    assert (sent.status, sent.headers["location"]) == (301, "http://127.0.0.3/elsewhere")
    assert changed.headers["content-type"] == "text/plain"
    assert "docker-content-digest" not in changed.headers


def test_it_can_be_dead_and_come_back(upstream: ScriptedUpstream) -> None:
    """The kernel refuses connections while it is dead; after that it is there at the same port."""
    upstream.refuse()
    with pytest.raises(ConnectionRefusedError):
        ask(upstream.url, BLOB)
    upstream.heal()

    assert ask(upstream.url, BLOB).body == LAYER


def test_many_at_once_are_served_and_counted(upstream: ScriptedUpstream) -> None:
    """A hundred clients wait at the same byte; all get everything, and all of it is written down."""
    upstream.script(Stall(10), on("blobs"))
    replies: list[Reply] = []
    clients = [threading.Thread(target=lambda: replies.append(ask(upstream.url, BLOB))) for _ in range(100)]
    for client in clients:
        client.start()
    while len(upstream.requests) < len(clients):
        clients[0].join(0.01)
    upstream.heal()
    for client in clients:
        client.join()

    assert [reply.body for reply in replies] == [LAYER] * 100
    assert upstream.gets(sha256(LAYER)) == upstream.all_gets()[sha256(LAYER)] == 100
    assert upstream.bytes_sent(sha256(LAYER)) == 100 * len(LAYER)
    assert wait_until(lambda: all(each.is_complete for each in upstream.requests), 10)


async def test_it_serves_tls_and_may_be_used_from_a_running_loop() -> None:
    """With an authority it has a certificate for its host; its methods wait without that loop's help."""
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ScriptedUpstream(authority=authority) as upstream:
        upstream.shelf.image(NAME, "latest", LAYER)
        upstream.heal()
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", upstream.port, ssl_context=context, https_compatible=True
        )
        async with stream:
            await stream.send_all(f"GET {BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join([data async for data in stream])

    assert upstream.url.startswith("https://")
    assert answer.endswith(LAYER)


def test_a_request_is_written_down_as_it_came(upstream: ScriptedUpstream) -> None:
    """Method, path, fields, what kind of thing it names, and what was answered."""
    ask(upstream.url, f"/v2/{NAME}/manifests/latest?ns=example.com", "HEAD", Accept="a/b")
    seen = upstream.requests[0]

    assert (seen.method, seen.kind, seen.name, seen.reference) == ("HEAD", "manifests", NAME, "latest")
    assert (seen.header("accept"), seen.query, seen.status) == ("a/b", {"ns": ["example.com"]}, 200)
    assert json.dumps(str(seen)).startswith('"HEAD /v2/team/app/manifests/latest?ns=example.com -> 200')
