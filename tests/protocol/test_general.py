"""Protocol section 1.1: HTTP in general, names, and what every answer of /v2 has; row by row."""

import re
import socket
from urllib.parse import quote

import pytest

from tests.served import ADMIN, OCI_MANIFEST, Reply, Served, authorization, image_manifest, send, sha256

TYPE = {"Content-Type": OCI_MANIFEST}
LAYER = b"a layer that everybody here may read" * 90


@pytest.fixture
def image(gateway: Served, name: str) -> tuple[str, bytes]:
    """A pushed image: its manifest's digest and bytes, tagged v1."""
    return gateway.push_image(name, "v1", LAYER)


@pytest.mark.parametrize(
    "bad",
    [
        "UPPER/case",
        "a/Bc",
        "-a",
        "a-",
        "a/.b",
        "a/b_",
        "a..b",
        "a___b",
        "a_-b",
        "a.-b",
        "a//b",
        "a:1",
        "a@b",
        "a+b",
        "a~b",
        "a/%62",
        "a" * 256,
    ],
)
@pytest.mark.parametrize(
    ("method", "rest"), [("GET", "tags/list"), ("GET", "manifests/v1"), ("POST", "blobs/uploads/"), ("HEAD", "x")]
)
def test_gen_01_names_follow_the_grammar(gateway: Served, bad: str, method: str, rest: str) -> None:
    """A name outside the grammar is 400 NAME_INVALID, whoever asks for whatever."""
    path = f"/v2/{bad}/{rest}" if rest != "x" else f"/v2/{bad}/blobs/{sha256(b'')}"
    reply = gateway.admin(method, path, b"" if method == "POST" else None)

    assert reply.status == 400
    if method != "HEAD":
        assert reply.codes() == ["NAME_INVALID"]


@pytest.mark.parametrize("good", ["a", "0", "a.b", "a_b", "a__b", "a---b", "a/b/c/d/e", "1/2", "a-1.b_c/d"])
def test_gen_01_every_name_of_the_grammar_can_be_pushed(gateway: Served, name: str, good: str) -> None:
    """What follows the grammar is a name."""
    image = f"{name}/{good}"

    digest = gateway.push_blob(image, b"{}")

    assert gateway.admin("HEAD", f"/v2/{image}/blobs/{digest}").status == 200


def test_gen_02_what_clients_could_not_address_is_not_made(gateway: Served, name: str) -> None:
    """`host:port/name` of 255 characters is taken, one character more is 400 NAME_INVALID for every kind of push."""
    longest = 255 - len(f"{gateway.address}/")
    fits = f"{name}/".ljust(longest, "x")
    over = f"{fits}x"
    assert gateway.push_blob(fits, b"{}") == sha256(b"{}")

    begun = gateway.admin("POST", f"/v2/{over}/blobs/uploads/", b"")
    put = gateway.admin("PUT", f"/v2/{over}/manifests/v1", image_manifest(b"{}"), TYPE)

    assert [(reply.status, reply.codes()) for reply in (begun, put)] == [(400, ["NAME_INVALID"])] * 2
    assert gateway.admin("GET", f"/v2/{over}/tags/list").status == 404


@pytest.mark.parametrize(
    "tail", ["a/blobs/b", "manifests", "blobs", "tags", "uploads", "referrers", "list", "tags/list", "blobs/uploads"]
)
def test_gen_03_words_of_the_api_may_be_names(gateway: Served, name: str, tail: str) -> None:
    """An image whose name holds the API's own words is pushed, pulled and listed like any other."""
    image = f"{name}/{tail}"

    digest, manifest = gateway.push_image(image, "v1", LAYER)

    assert gateway.admin("GET", f"/v2/{image}/manifests/v1").body == manifest
    assert gateway.admin("GET", f"/v2/{image}/blobs/{sha256(LAYER)}").body == LAYER
    assert gateway.admin("GET", f"/v2/{image}/tags/list").json() == {"name": image, "tags": ["v1"]}
    assert gateway.admin("GET", f"/v2/{image}/referrers/{digest}").json()["manifests"] == []


@pytest.mark.parametrize("bad", [".v1", "-v1", "v+1", "v@1", "x" * 129, "v~1"])
def test_gen_04_tags_follow_the_grammar(gateway: Served, name: str, image: tuple[str, bytes], bad: str) -> None:
    """A bad tag is 400 when written and 404 when read."""
    _, manifest = image

    assert gateway.admin("PUT", f"/v2/{name}/manifests/{bad}", manifest, TYPE).status == 400
    assert gateway.admin("GET", f"/v2/{name}/manifests/{bad}").status == 404
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/{bad}").status == 404


@pytest.mark.parametrize("good", ["_", "A", "_.-", "x" * 128])
def test_gen_04_every_tag_of_the_grammar_works(gateway: Served, name: str, image: tuple[str, bytes], good: str) -> None:
    """What follows the grammar is a tag."""
    _, manifest = image
    assert gateway.admin("PUT", f"/v2/{name}/manifests/{good}", manifest, TYPE).status == 201

    assert gateway.admin("GET", f"/v2/{name}/manifests/{good}").body == manifest


@pytest.mark.parametrize("reference", ["sha256:baddigeststring", "sha256:", ":", "v1:2", f"sha256:{'a' * 63}"])
def test_gen_05_what_holds_a_colon_is_a_digest(
    gateway: Served, name: str, image: tuple[str, bytes], reference: str
) -> None:
    """A malformed digest in the place of a reference is never taken for a tag: PUT and GET 400 DIGEST_INVALID."""
    _, manifest = image
    path = f"/v2/{name}/manifests/{reference}"

    put, got = gateway.admin("PUT", path, manifest, TYPE), gateway.admin("GET", path)

    assert [(reply.status, reply.codes()) for reply in (put, got)] == [(400, ["DIGEST_INVALID"])] * 2


@pytest.mark.parametrize(
    "digest",
    [
        f"sha256:{'A' * 64}",
        f"SHA256:{'a' * 64}",
        f"sha256:{'a' * 65}",
        f"sha256:{'g' * 64}",
        f"sha512:{'a' * 64}",
        f"md5:{'a' * 32}",
        f"sha256-{'a' * 64}",
        f"sha256+b64:{'a' * 64}",
    ],
)
@pytest.mark.parametrize("kind", ["blobs", "referrers"])
def test_gen_06_digests_follow_the_grammar(gateway: Served, name: str, digest: str, kind: str) -> None:
    """Upper case, a wrong length and unknown algorithms are 400 DIGEST_INVALID."""
    reply = gateway.admin("GET", f"/v2/{name}/{kind}/{digest}")

    assert (reply.status, reply.codes()) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("colon", ["%3A", "%3a"])
def test_gen_07_an_encoded_colon(gateway: Served, name: str, image: tuple[str, bytes], colon: str) -> None:
    """`sha256%3A…` is the digest, in paths and in the query."""
    digest, manifest = image

    assert gateway.admin("GET", f"/v2/{name}/manifests/{digest.replace(':', colon)}").body == manifest
    assert gateway.admin("GET", f"/v2/{name}/blobs/{sha256(LAYER).replace(':', colon)}").body == LAYER
    assert gateway.admin("GET", f"/v2/{name}/referrers/{digest.replace(':', colon)}").status == 200
    location = gateway.admin("POST", f"/v2/{name}/blobs/uploads/", b"").headers["location"]
    assert gateway.admin("PUT", f"{location}?digest={sha256(b'x').replace(':', colon)}", b"x").status == 201


@pytest.mark.parametrize("path", ["blobs/uploads/", "blobs/uploads"])
def test_gen_08_uploads_begin_with_and_without_a_slash(gateway: Served, name: str, path: str) -> None:
    """POST answers 202 with and without the trailing slash; nothing is redirected, so no body is lost."""
    assert gateway.admin("POST", f"/v2/{name}/{path}", b"").status == 202
    whole = gateway.admin("POST", f"/v2/{name}/{path}?digest={sha256(b'whole')}", b"whole")
    assert whole.status == 201
    assert gateway.admin("GET", whole.headers["location"]).body == b"whole"


def test_gen_09_the_base_without_its_slash(gateway: Served) -> None:
    """`/v2` answers as `/v2/` does, with and without credentials, and never in HTML."""
    for auth in (None, ADMIN):
        with_slash, without = gateway.request("GET", "/v2/", auth=auth), gateway.request("GET", "/v2", auth=auth)

        assert (with_slash.status, with_slash.body) == (without.status, without.body)
        assert without.headers["content-type"] == "application/json"


def test_gen_10_17_head_is_get_without_a_body(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """Every entity has the same headers for GET and HEAD, with the real Content-Length, and is never chunked."""
    digest, _ = image
    paths = [
        "/v2/",
        "/v2/_catalog",
        f"/v2/{name}/tags/list",
        f"/v2/{name}/manifests/v1",
        f"/v2/{name}/manifests/{digest}",
        f"/v2/{name}/blobs/{sha256(LAYER)}",
        f"/v2/{name}/referrers/{digest}",
    ]
    for path in paths:
        got, head = gateway.admin("GET", path), gateway.admin("HEAD", path)

        assert (got.status, head.status, head.body) == (200, 200, b"")
        assert _lasting(got) == _lasting(head)
        assert got.headers["content-length"] == str(len(got.body))
        assert "transfer-encoding" not in got.headers


def _lasting(reply: Reply) -> dict[str, str]:
    """The headers that do not differ from one request to the next."""
    return {name: value for name, value in reply.headers.items() if name not in {"date", "x-request-id"}}


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v2/", "POST", {"GET", "HEAD"}),
        ("/v2/_catalog", "DELETE", {"GET", "HEAD"}),
        ("/v2/token", "PUT", {"GET", "POST"}),
        ("/v2/a/tags/list", "PUT", {"GET", "HEAD"}),
        ("/v2/a/manifests/v1", "POST", {"GET", "HEAD", "PUT", "DELETE"}),
        (f"/v2/a/blobs/{sha256(b'')}", "PUT", {"GET", "HEAD", "DELETE"}),
        ("/v2/a/blobs/uploads/", "GET", {"POST"}),
        ("/v2/a/blobs/uploads/00000000-0000-4000-8000-000000000000", "POST", {"GET", "HEAD", "PATCH", "PUT", "DELETE"}),
        (f"/v2/a/referrers/{sha256(b'')}", "PATCH", {"GET", "HEAD"}),
        ("/v2/a/tags/list", "PROPFIND", {"GET", "HEAD"}),
        ("/v2/a/tags/list", "OPTIONS", {"GET", "HEAD"}),
    ],
)
@pytest.mark.parametrize("auth", [None, ADMIN])
def test_gen_11_wrong_method(
    gateway: Served, path: str, method: str, allowed: set[str], auth: tuple[str, str] | None
) -> None:
    """A method that a path does not have is 405 UNSUPPORTED with Allow, for everybody the same."""
    reply = gateway.request(method, path, b"", auth=auth)

    assert (reply.status, reply.codes()) == (405, ["UNSUPPORTED"])
    assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/v2/nothing", "/v2/a/b/unknown/x", "/v2/a/tags/lists", "/v2/a/manifests", "/v2/a/uploads/x", "/v2/a/tags/list/x"],
)
def test_gen_12_unknown_path(gateway: Served, path: str) -> None:
    """What addresses nothing is 404 in JSON, also with the trailing slash that no other path may have."""
    for each in (path, f"{path}/"):
        reply = gateway.admin("GET", each)

        assert (reply.status, reply.codes()) == (404, ["NAME_UNKNOWN"])
        assert reply.headers["content-type"] == "application/json"


def test_gen_13_api_version_on_every_answer(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """Docker-Distribution-Api-Version stands once on every answer: 200, 202, 204, 304, 400, 401, 404, 405."""
    digest, _ = image
    begun = gateway.admin("POST", f"/v2/{name}/blobs/uploads/", b"")
    replies = [
        gateway.admin("GET", "/v2/"),
        begun,
        gateway.admin("DELETE", begun.headers["location"]),
        gateway.admin("GET", f"/v2/{name}/manifests/v1", headers={"If-None-Match": f'"{digest}"'}),
        gateway.admin("GET", f"/v2/{name}/manifests/x:y"),
        gateway.request("GET", "/v2/"),
        gateway.request("GET", f"/v2/{name}/tags/list"),
        gateway.request("GET", "/v2/token"),
        gateway.admin("GET", "/v2/UPPER/tags/list"),
        gateway.admin("GET", "/v2/nothing"),
        gateway.admin("PUT", "/v2/"),
    ]

    assert [reply.status for reply in replies] == [200, 202, 204, 304, 400, 401, 401, 200, 400, 404, 405]
    for reply in replies:
        found = [value for key, value in reply.all_headers if key == "docker-distribution-api-version"]
        assert found == ["registry/2.0"]


def test_gen_14_nothing_is_compressed(gateway: Served, name: str) -> None:
    """A client that offers gzip gets the bytes as they are."""
    layer = b"x" * 100_000
    digest, manifest = gateway.push_image(name, "v1", layer)
    for path, body in ((f"blobs/{sha256(layer)}", layer), ("manifests/v1", manifest), (f"referrers/{digest}", None)):
        reply = gateway.admin("GET", f"/v2/{name}/{path}", headers={"Accept-Encoding": "gzip, deflate, br, zstd"})

        assert "content-encoding" not in reply.headers
        assert reply.headers["content-length"] == str(len(reply.body))
        assert body in {None, reply.body}


def test_gen_15_chunked_bodies(gateway: Served, name: str) -> None:
    """POST, PATCH and PUT, of blobs and manifests, take bodies without a length."""
    whole = gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'{}')}", iter([b"{", b"}"]), chunked=True)
    location = gateway.admin("POST", f"/v2/{name}/blobs/uploads/", iter([]), chunked=True).headers["location"]
    patched = gateway.admin("PATCH", location, iter([b"ab", b"c"]), chunked=True)
    closed = gateway.admin("PUT", f"{location}?digest={sha256(b'abcd')}", iter([b"d"]), chunked=True)
    manifest = image_manifest(b"{}")
    put = gateway.admin("PUT", f"/v2/{name}/manifests/v1", iter([manifest]), TYPE, chunked=True)

    assert [reply.status for reply in (whole, patched, closed, put)] == [201, 202, 201, 201]


def test_gen_16_continue_comes_after_the_rights(gateway: Served, name: str) -> None:
    """Who may push is told to go on before sending the body; who may not gets 401 at once and never a 100."""
    head = f"PUT /v2/{name}/manifests/v1 HTTP/1.1\r\nHost: {gateway.address}\r\nContent-Length: 100000\r\n"
    admin = f"Authorization: {authorization(ADMIN)['Authorization']}\r\n"

    assert _first_line(gateway, f"{head}{admin}Expect: 100-continue\r\n\r\n") == "HTTP/1.1 100 Continue"
    assert _first_line(gateway, f"{head}Expect: 100-continue\r\n\r\n").startswith("HTTP/1.1 401")


def _first_line(gateway: Served, text: str) -> str:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(text.encode())
        return client.recv(65536).decode("latin-1").partition("\r\n")[0]


def test_gen_18_accept_in_many_lines_or_one(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """Many Accept lines, one list, and parameters all mean the same; the type only has to be among them."""
    _, manifest = image
    docker = [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.index.v1+json",
    ]
    forms: list[list[tuple[str, str]]] = [
        [("Accept", each) for each in (*docker, OCI_MANIFEST)],
        [("Accept", ",".join((*docker, OCI_MANIFEST)))],
        [("Accept", f"{docker[0]}, {OCI_MANIFEST};q=0.1"), ("Accept", "application/json")],
        [("Accept", f"{OCI_MANIFEST} ; charset=utf-8")],
    ]

    for form in forms:
        assert gateway.admin("GET", f"/v2/{name}/manifests/v1", headers=form).body == manifest
    refused = gateway.admin("GET", f"/v2/{name}/manifests/v1", headers=[("Accept", each) for each in docker])
    assert refused.status == 404


def test_gen_19_what_clients_add_is_ignored(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """A version header, a type on an empty POST, and unknown query parameters change nothing."""
    digest, manifest = image
    version = {"Docker-Distribution-Api-Version": "registry/2.0"}

    got = gateway.admin("GET", f"/v2/{name}/manifests/v1?origin=x&unknown=%ff&unknown=2", headers=version)
    begun = gateway.admin("POST", f"/v2/{name}/blobs/uploads/?origin=h", b"", {"Content-Type": "application/json"})
    blob = gateway.admin("GET", f"/v2/{name}/blobs/{sha256(LAYER)}?&&=&x", headers=version)

    assert (got.body, begun.status, blob.body) == (manifest, 202, LAYER)
    assert gateway.admin("HEAD", f"/v2/{name}/manifests/{digest}?x").status == 200


def test_gen_20_nothing_is_redirected(gateway: Served, name: str, image: tuple[str, bytes]) -> None:
    """A hosted image is served and taken by the very host that was asked, whatever spelling a client uses."""
    requests = [
        ("GET", "/v2"),
        ("POST", f"/v2/{name}/blobs/uploads"),
        ("GET", f"/v2/{name}/blobs/{sha256(LAYER)}"),
        ("HEAD", f"/v2/{name}/blobs/{sha256(LAYER)}"),
        ("GET", f"/v2/{name}/manifests/v1"),
        ("GET", f"/v2/{name}/tags/list/"),
        ("GET", "/v2/_catalog/"),
    ]

    replies = [gateway.admin(method, path, b"" if method == "POST" else None) for method, path in requests]

    assert [reply.status for reply in replies] == [200, 202, 200, 200, 200, 404, 404]
    locations = [reply.headers["location"] for reply in replies if "location" in reply.headers]
    assert all(location.startswith("/v2/") for location in locations)


FORWARDED = [
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example"}, "https://registry.example"),
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example:8443"}, "https://registry.example:8443"),
    (
        {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "registry.example", "X-Forwarded-Port": "8443"},
        "https://registry.example:8443",
    ),
    ({"X-Forwarded-Host": "registry.example"}, "http://registry.example"),
    ({"Forwarded": "for=10.0.0.1;proto=https;host=registry.example"}, "https://registry.example"),
]


@pytest.mark.parametrize(("headers", "base"), FORWARDED)
def test_gen_21_a_trusted_proxy_is_believed(behind_proxy: Served, headers: dict[str, str], base: str) -> None:
    """What a trusted proxy says of the outside makes the realm."""
    reply = behind_proxy.request("GET", "/v2/", headers=headers)

    assert f'realm="{base}/v2/token"' in reply.headers["www-authenticate"]


@pytest.mark.parametrize("headers", [headers for headers, _ in FORWARDED])
def test_gen_21_nobody_else_is_believed(gateway: Served, headers: dict[str, str]) -> None:
    """Without trusted proxies the same headers change neither the realm nor any Location."""
    reply = gateway.request("GET", "/v2/", headers=headers)
    begun = gateway.admin("POST", "/v2/common/docker-hosted/x/blobs/uploads/", b"", headers)

    assert f'realm="{gateway.url}/v2/token"' in reply.headers["www-authenticate"]
    assert begun.headers["location"].startswith("/v2/common/docker-hosted/x/blobs/uploads/")


def test_gen_22_underscore_begins_an_extension(gateway: Served) -> None:
    """Of what begins with an underscore only the catalog is there; no image can have such a name."""
    assert gateway.admin("GET", "/v2/_catalog").status == 200
    for path in ("_oci/ext/discover", "_x/tags/list", "_x/manifests/v1", "_sluice"):
        reply = gateway.admin("GET", f"/v2/{path}")
        assert (reply.status, reply.codes()) == (404, ["NAME_UNKNOWN"])
    begun = gateway.admin("POST", "/v2/_x/blobs/uploads/", b"")
    assert (begun.status, begun.codes()) == (404, ["NAME_UNKNOWN"])


CLIENT_HELLO = bytes.fromhex("16030100c4010000c00303") + bytes(32) + bytes.fromhex("20") + bytes(32) + bytes(128)


def test_gen_23_a_tls_hello_is_answered_at_once(gateway: Served) -> None:
    """A TLS ClientHello on the plain port gets 400 or an end at once, never silence."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as client:
        client.sendall(CLIENT_HELLO)
        try:
            answer = client.recv(65536)
        except ConnectionResetError:
            answer = b""

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


def test_gen_10_11_connection_lives_on_after_refusals(gateway: Served, name: str) -> None:
    """One connection serves 401, 404, 405 and 400 one after the other: refusals are framed like any answer."""
    connection = gateway.connection()
    asked = [("GET", f"/v2/{name}/tags/list"), ("HEAD", f"/v2/{name}/tags/list"), ("PUT", "/v2/"), ("GET", "/v2/A/x")]
    statuses = [send(connection, method, path).status for method, path in asked]
    statuses.append(send(connection, "GET", f"/v2/{name}/manifests/{quote('x y')}", auth=ADMIN).status)
    connection.close()

    assert statuses == [401, 401, 405, 404, 400]


def test_gen_13_request_ids_differ(gateway: Served) -> None:
    """Every answer has an id that the log has too, and no two are the same."""
    ids = [gateway.request("GET", "/v2/").headers["x-request-id"] for _ in range(5)]

    assert len(set(ids)) == 5
    assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in ids)
