"""Security rows T (tokens, hosts, passwords, scopes) and C5, C7, C14 (content), sent to a served gateway.

Tokens forged with the very signing key are tried where the key is at hand, below HTTP.
"""

import base64
import hashlib
import hmac
import json
import socket
import unicodedata
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest

from tests.people import Login, make, make_member, make_place, unique
from tests.served import ADMIN, OCI_MANIFEST, Served, authorization, image_manifest, sha256

pytestmark = pytest.mark.slow  # needs a server of its own


def part(value: Any) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def read(part_: str) -> dict[str, Any]:
    """What a part of a token says."""
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part_ + "=" * (-len(part_) % 4)))
    return value


def forged(token: str, header: dict[str, Any], *, key: bytes | None, sub: str = "1") -> str:
    """The claims of a token for somebody else, under another header, signed with a key of ours or not at all."""
    own_header, claims, _ = token.split(".")
    signed = f"{part({**read(own_header), **header})}.{part({**read(claims), 'sub': sub})}"
    signature = b"" if key is None else hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def test_t1_key_material_in_a_token_is_not_used(gateway: Served, stranger: Login) -> None:
    """A token that brings its key, or says where one lies, is 401, and nobody is asked for that key."""
    token = gateway.token(auth=stranger)
    key = b"k" * 32
    kid = read(token.split(".")[0])["kid"]
    jwk = {"kty": "oct", "k": base64.urlsafe_b64encode(key).decode().rstrip("="), "kid": kid}
    with closing(socket.create_server(("127.0.0.1", 0))) as trap:
        trap.settimeout(0.3)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
        for header in (
            {"jwk": jwk},
            {"jku": url},
            {"x5u": url},
            {"x5c": ["MIIB"]},
            {"kid": url},
            {"kid": "../../../../dev/null"},
            {"kid": "' OR 1=1 --"},
            {"kid": "k" * 6000},
            {"kid": ["a"]},
            {"kid": None},
            {"crit": ["x"], "x": 1},
            {"b64": False},
        ):
            for secret in (key, b"", b"sluice"):
                reply = gateway.request("GET", "/v2/", auth=forged(token, header, key=secret))
                assert reply.status == 401, header
                assert 'error="invalid_token"' in reply.headers["www-authenticate"]
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "nOnE", "NONE", "", "HS256", "HS384", "HS512", "RS256", "ES256", None, 1, []]
)
def test_t2_another_algorithm(gateway: Served, stranger: Login, algorithm: object) -> None:
    """Whatever algorithm the header names, a token that we did not sign is 401, with and without a signature."""
    token = gateway.token(auth=stranger)
    header: dict[str, Any] = {"alg": algorithm}
    body = token.rpartition(".")[0]

    for forgery in (
        forged(token, header, key=None),
        forged(token, header, key=b"k" * 32),
        forged(token, header, key=read(token.split(".")[0])["kid"].encode()),
        f"{body}.",
        body,
        f"{token}.x",
        f".{token}",
    ):
        assert gateway.request("GET", "/v2/", auth=forgery).status == 401, forgery


HOSTS = [
    "evil.example:80:80", "a b", "a\x00", "a,b", "user@evil", "[::1", "evil.example/", "a\tb", "", "..", "a:0",
    "a:99999", "\u00e4", "<x>", 'a"b',
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=ascii)
def test_t6_a_malformed_host_is_refused(gateway: Served, host: str) -> None:
    """A Host that is none is 400, and never in a challenge."""
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
        client.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 400")
    assert b"www-authenticate" not in answer.lower()


FORWARDED = [
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Proto", "javascript"),
    ("X-Forwarded-Port", "81"),
    ("X-Forwarded-Prefix", "/evil"),
    ("Forwarded", "host=evil.example;proto=https"),
    ("X-Original-URL", "/v2/_catalog"),
    ("X-Rewrite-URL", "/v2/_catalog"),
    ("X-Host", "evil.example"),
    ("X-Forwarded-User", "admin"),
    ("X-Remote-User", "admin"),
    ("X-WEBAUTH-USER", "admin"),
    ("X-Forwarded-For", "127.0.0.1"),
]


@pytest.mark.parametrize(("header", "value"), FORWARDED)
def test_t6_headers_of_strangers_change_nothing(gateway: Served, stranger: Login, header: str, value: str) -> None:
    """From who is no trusted proxy, no header moves the realm, the Location, or who somebody is."""
    place = make_place(gateway)
    plain = gateway.request("GET", "/v2/").headers["www-authenticate"]

    reply = gateway.request("GET", "/v2/", headers={header: value})
    begun = gateway.admin("POST", f"/v2/{place.name}/x/blobs/uploads/", b"", {header: value})

    assert (reply.status, reply.headers["www-authenticate"]) == (401, plain)
    assert begun.headers["location"].startswith(f"/v2/{place.name}/x/blobs/uploads/")
    assert gateway.request("GET", f"/v2/{place.name}/x/tags/list", headers={header: value}, auth=stranger).status == 401


def test_t6_two_hosts_are_refused(gateway: Served) -> None:
    """Two Host fields, or a Host that disagrees with an absolute target, are 400."""
    for head in (
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
        "GET http://b/v2/ HTTP/1.1\r\nHost: a\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\n b\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
            client.sendall(f"{head}Connection: close\r\n\r\n".encode())
            assert client.recv(65536).startswith(b"HTTP/1.1 400"), head


def test_t8_no_part_of_a_password_is_enough(gateway: Served) -> None:
    """Of a password of 100 bytes, the first 72, one less, one more, or another writing of a letter are not enough."""
    name = unique("user")
    password = "p\u00e4" + "x" * 97
    make(gateway, "users", {"name": name, "password": password})

    assert gateway.request("GET", "/v2/", auth=(name, password)).status == 200
    for wrong in (
        password[:72],
        password[:-1],
        f"{password}x",
        f"{password}\x00",
        f"{password[:50]}\x00{password[50:]}",
        unicodedata.normalize("NFD", password),
        password.upper(),
        f" {password}",
    ):
        assert gateway.request("GET", "/v2/", auth=(name, wrong)).status == 401, wrong


@pytest.mark.parametrize("password", ["x" * 1025, "\u00e4" * 600, "short", "", "x" * 100_000])
def test_t8_what_is_no_password_is_refused_when_set(gateway: Served, password: str) -> None:
    """Too short or too long is 400 when it is set, instead of being cut."""
    reply = gateway.api("POST", "/api/v1/users", {"name": unique("user"), "password": password})

    assert reply.status in {400, 413}


def test_t12_scopes_never_widen(gateway: Served) -> None:
    """Strange, many and huge scopes grant a reader pull on its own image at most; the rest is left out or is 4xx."""
    place = make_place(gateway)
    reader = make_member(gateway, "reader", place)
    own = f"repository:{place.name}/app:pull"
    everything = [
        "*",
        "*:*:*",
        "repository:*:*",
        f"repository:{place.name}/*:*",
        "repository:../x:pull",
        "registry:*:*",
    ]
    queries = [
        *(f"scope={quote(each)}" for each in (*everything, "admin", "user:admin:*", own.upper(), f"{own}\x00", "a:b")),
        f"scope={quote(own)}&scope={quote(own.replace('pull', '*'))}",
        "&".join(f"scope=repository:r{number}/x:*" for number in range(300)),
        f"scope={quote(' '.join(f'repository:r{number}/x:*' for number in range(300)))}",
        "scope=" + "x" * 30_000,
        "scope=&scope=&scope",
        "scope[]=repository:a:pull&Scope=x&scope%00=x",
    ]

    for query in queries:
        reply = gateway.request("GET", f"/v2/token?service=sluice&{query}", auth=reader)
        assert reply.status in {200, 400, 414, 431}, query
        if reply.status == 200:
            granted = [each for each in read(reply.json()["token"].split(".")[1])["access"] if each["actions"]]
            assert [each["actions"] for each in granted] in ([], [["pull"]]), query
            assert {each["name"] for each in granted} <= {f"{place.name}/app"}
    huge = gateway.request("GET", "/v2/token?scope=" + "x" * 100_000, auth=reader)
    assert huge.status in {400, 414, 431}


@pytest.mark.parametrize(
    "digest",
    [
        f"md5:{'0' * 32}",
        f"sha1:{'0' * 40}",
        f"sha256:{'A' * 64}",
        f"sha256:{'0' * 64}",
        f"SHA256:{hashlib.sha256(b'content').hexdigest()}",
        f"sha256:{hashlib.sha256(b'content').hexdigest()} ",
        f"sha256:{hashlib.sha256(b'content').hexdigest()}\x00",
        f"sha512:{hashlib.sha256(b'content').hexdigest()}",
        f"sha256:{hashlib.sha512(b'content').hexdigest()}",
        "sha256",
        "",
    ],
    ids=ascii,
)
def test_c5_bytes_and_digest_must_agree(gateway: Served, digest: str) -> None:
    """A blob and a manifest under another digest than their own are 400 DIGEST_INVALID, and nothing is stored."""
    name = f"common/docker-hosted/{unique('c5')}"
    path = f"/v2/{name}/blobs/uploads/?digest={quote(digest)}"
    manifest = image_manifest(b"{}")
    gateway.push_blob(name, b"{}")

    blob = gateway.admin("POST", path, b"content")
    put = gateway.admin(
        "PUT", f"/v2/{name}/manifests/t?digest={quote(digest)}", manifest, {"Content-Type": OCI_MANIFEST}
    )

    assert [(each.status, each.codes()) for each in (blob, put)] == [(400, ["DIGEST_INVALID"])] * 2
    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == []
    assert gateway.admin("HEAD", f"/v2/{name}/blobs/{sha256(b'content')}").status == 404
    stored = hashlib.sha256(b"content").hexdigest()
    assert not list(gateway.data.rglob(f"*{stored}*"))


@pytest.mark.parametrize(
    "path",
    ["/v2/common/docker-hosted/c7/tags/list", "/v2/_catalog", "/v2/common/docker-hosted/c7/referrers/" + sha256(b"")],
)
def test_c7_long_cursors_and_huge_pages(gateway: Served, path: str) -> None:
    """Cursors of any text and length, and any number as a page's size, are answered or refused, never a failure."""
    gateway.push_blob("common/docker-hosted/c7", b"{}")
    for query in (
        "last=" + "x" * 10_000,
        "last=%00",
        "last=%ff%fe",
        "last=%27%20OR%201=1--",
        "n=1000000000",
        f"n={2**63}",
        f"n={2**64}",
        "n=1e9",
        "n=%2b5",
        "n=0x10",
        "n=\u0661".encode().decode("latin-1"),
        "n=1&n=2",
        "last=a&last=b",
    ):
        reply = gateway.admin("GET", f"{path}?{quote(query, safe='=&%')}")
        assert reply.status in {200, 400}, query
    assert gateway.admin("GET", f"{path}?last={'x' * 1_000_000}").status in {400, 414, 431}


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "a\tb", "\x85next", "\u2028line", "x" * 5000, '"}\\n{"event":"forged"', "%0d%0aX-Evil: 1"]
)
def test_c14_a_line_of_the_log_stays_one(gateway: Served, text: str) -> None:
    """What strangers write into agents, names, tags and queries makes no second line and no other field in the log."""
    mark = unique("mark")
    agent = f"{mark} {text}".encode().decode("latin-1")
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
        body = json.dumps({"name": f"{mark}{text}"}).encode()
        head = (
            f"POST /api/v1/projects?x={quote(text)} HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\nConnection: close\r\n"
            f"Authorization: {authorization(ADMIN)['Authorization']}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        client.sendall(head.encode("latin-1") + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    gateway.admin("PUT", f"/v2/common/docker-hosted/x/manifests/{quote(mark + text)}", b"{}")

    assert b"\r\nX-Evil" not in answer
    lines = [line for line in gateway.log().split("\n") if mark in line]
    assert lines or answer.startswith(b"HTTP/1.1 400")
    for line in lines:
        assert json.loads(line)["event"] != "forged"
        assert line.isprintable()
    assert '"event":"forged"' not in [line.strip() for line in gateway.log().split("\n")]


@pytest.mark.parametrize("byte", [b"\r", b"\n", b"\x00"])
def test_c14_no_line_breaks_in_headers(gateway: Served, byte: bytes) -> None:
    """A line break or NUL within a header's value is refused before anything logs or repeats it."""
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
        client.sendall(
            b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: a" + byte + b"X-Evil\x01 1\r\n\r\n"
        )
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 400")
