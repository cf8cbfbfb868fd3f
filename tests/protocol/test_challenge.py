"""Protocol section 1.2: `/v2/` and the challenge, row by row."""

import base64
import json
import os
import re
import socket
from typing import Any

import pytest

from tests.people import Login, Place, make_member, make_robot, make_user
from tests.served import ADMIN, Reply, Served, authorization, send, sha256

PARAMETER = re.compile(r'([a-z]+)="([^"]+)"')
SUITE = re.compile(r"(?i).*(bearer|basic)")  # greedy: the last such word of the header is taken for the scheme


def challenge(reply: Reply) -> dict[str, str]:
    """The parameters of the answer's one Bearer challenge, in order, all of them quoted."""
    assert reply.status == 401, reply
    (value,) = [each for name, each in reply.all_headers if name == "www-authenticate"]
    scheme, _, rest = value.partition(" ")
    assert scheme == "Bearer"
    assert re.fullmatch(r'[a-z]+="[^"]+"(,[a-z]+="[^"]+")*', rest)
    return dict(PARAMETER.findall(rest))


def test_ch_01_the_base_answers_who_is_somebody(gateway: Served, private: Place) -> None:
    """`{}` in JSON for a password, a robot's key, a token without any access, and an anonymous token."""
    user = make_user(gateway)
    robot = make_robot(gateway, ("reader", private))
    for auth in (user, robot, gateway.token(auth=user), gateway.token(auth=robot), gateway.token(auth=None)):
        reply = gateway.request("GET", "/v2/", auth=auth)

        assert (reply.status, reply.json(), reply.headers["content-type"]) == (200, {}, "application/json")


@pytest.mark.parametrize("auth", [None, ("", "")])
def test_ch_02_without_credentials(gateway: Served, auth: tuple[str, str] | None) -> None:
    """Nobody, also as an empty user with an empty password, is told where to get a token, without a scope."""
    reply = gateway.request("GET", "/v2/", auth=auth)

    assert challenge(reply) == {"realm": f"{gateway.url}/v2/token", "service": "sluice"}
    assert reply.codes() == ["UNAUTHORIZED"]


UPLOAD = "blobs/uploads/00000000-0000-4000-8000-000000000000"
SCOPES = [
    ("GET", "tags/list", "pull"),
    ("GET", "manifests/v1", "pull"),
    ("HEAD", f"manifests/{sha256(b'')}", "pull"),
    ("GET", f"blobs/{sha256(b'')}", "pull"),
    ("HEAD", f"blobs/{sha256(b'')}", "pull"),
    ("GET", f"referrers/{sha256(b'')}", "pull"),
    ("POST", "blobs/uploads/", "pull,push"),
    ("PATCH", UPLOAD, "pull,push"),
    ("PUT", f"{UPLOAD}?digest={sha256(b'')}", "pull,push"),
    ("PUT", "manifests/v1", "pull,push"),
    ("DELETE", "manifests/v1", "delete"),
    ("DELETE", f"blobs/{sha256(b'')}", "delete"),
]


@pytest.mark.parametrize(("method", "rest", "actions"), SCOPES)
def test_ch_03_scope_of_a_resource(gateway: Served, name: str, method: str, rest: str, actions: str) -> None:
    """The challenge names the image as the client wrote it and what the method needs."""
    reply = gateway.request(method, f"/v2/{name}/{rest}", b"" if method in {"POST", "PATCH", "PUT"} else None)

    assert challenge(reply)["scope"] == f"repository:{name}:{actions}"


def test_ch_03_scope_of_the_catalog(gateway: Served) -> None:
    """The catalog has a scope of its own."""
    assert challenge(gateway.request("GET", "/v2/_catalog"))["scope"] == "registry:catalog:*"


def test_ch_04_05_form_of_the_header(gateway: Served, name: str) -> None:
    """One Bearer challenge, all quoted, in the order realm, service, scope, error; no other scheme word in it."""
    reply = gateway.request("GET", f"/v2/{name}/tags/list", auth="no-token")

    assert list(challenge(reply)) == ["realm", "service", "scope", "error"]
    found = SUITE.match(reply.headers["www-authenticate"])
    assert found is not None
    assert found[1] == "Bearer"
    assert challenge(reply)["realm"].startswith("http://")


def test_ch_06_one_scope_for_a_mount(gateway: Served, name: str) -> None:
    """The token of a mount without a right on the source is asked for both in one scope with a space."""
    token = gateway.token(f"repository:{name}/to:pull,push")

    reply = gateway.request(
        "POST", f"/v2/{name}/to/blobs/uploads/?mount={sha256(b'')}&from={name}/from", b"", auth=token
    )

    assert challenge(reply)["scope"] == f"repository:{name}/to:pull,push repository:{name}/from:pull"
    named = [(each["Name"], each["Action"]) for each in reply.json()["errors"][0]["detail"]]
    assert named == [(f"{name}/to", "pull"), (f"{name}/to", "push"), (f"{name}/from", "pull")]


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


FORGED = [
    "garbage",
    "a.b.c",
    f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part({'sub': '1'})}.",
    f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'other'})}.{_part({'sub': '1', 'aud': 'sluice'})}.{'A' * 43}",
    "sluice_pat_0000000000000000000000000000000000000000000000000",
    "sluice_ref_0000000000000000000000000000000000000000000000000",
]


@pytest.mark.parametrize("token", FORGED)
def test_ch_07_a_token_that_is_none(gateway: Served, name: str, token: str) -> None:
    """Garbage and foreign tokens are 401 invalid_token, on `/v2/` and on resources, with the scope to ask for."""
    base = challenge(gateway.request("GET", "/v2/", auth=token))
    resource = challenge(gateway.request("GET", f"/v2/{name}/tags/list", auth=token))

    assert (base["error"], resource["error"]) == ("invalid_token", "invalid_token")
    assert "scope" not in base
    assert resource["scope"] == f"repository:{name}:pull"


def test_ch_07_a_changed_token(gateway: Served, name: str) -> None:
    """A good token with one other character in the signature or the claims is no token."""
    head, claims, signature = gateway.token(f"repository:{name}:pull").split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    wider = _part({**decoded, "sub": "2"})
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    for token in (f"{head}.{claims}.{flipped}", f"{head}.{wider}.{signature}", f"{head}.{claims}."):
        reply = gateway.request("GET", f"/v2/{name}/tags/list", auth=token)

        assert challenge(reply)["error"] == "invalid_token"


@pytest.mark.parametrize("case", SCOPES, ids="-".join)
def test_ch_08_a_missing_right(gateway: Served, private: Place, outsider: Login, case: tuple[str, str, str]) -> None:
    """Valid credentials without the right are 401 insufficient_scope with the whole scope, by token and by Basic."""
    method, rest, actions = case
    name = f"{private.name}/app"
    body = b"" if method in {"POST", "PATCH", "PUT"} else None
    for auth in (outsider, gateway.token(f"repository:{name}:*", auth=outsider)):
        found = challenge(gateway.request(method, f"/v2/{name}/{rest}", body, auth=auth))

        assert (found["error"], found["scope"]) == ("insufficient_scope", f"repository:{name}:{actions}")


def test_ch_09_the_body_says_what_is_missing(gateway: Served, name: str) -> None:
    """The body is UNAUTHORIZED with Type, Name and Action of each thing missing."""
    reply = gateway.request("POST", f"/v2/{name}/blobs/uploads/", b"")

    (error,) = reply.json()["errors"]
    assert (error["code"], bool(error["message"])) == ("UNAUTHORIZED", True)
    assert error["detail"] == [
        {"Type": "repository", "Name": name, "Action": "pull"},
        {"Type": "repository", "Name": name, "Action": "push"},
    ]


@pytest.mark.parametrize("size", [1, 100_000])
def test_ch_10_a_refused_upload_leaves_the_connection_usable(gateway: Served, name: str, size: int) -> None:
    """A 401 to a request whose body nobody read is followed by a good answer on the same connection."""
    connection = gateway.connection()

    refused = send(connection, "PUT", f"/v2/{name}/manifests/v1", os.urandom(size))
    after = send(connection, "GET", "/v2/", auth=ADMIN)
    connection.close()

    assert (refused.status, after.status) == (401, 200)


def test_ch_10_a_refused_upload_that_never_comes_ends_the_connection(gateway: Served, name: str) -> None:
    """A client that hears 401 and sends no body is not left waiting on a half-used connection."""
    head = f"PUT /v2/{name}/manifests/v1 HTTP/1.1\r\nHost: {gateway.address}\r\nContent-Length: 9000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(head.encode())
        answer = client.recv(65536)

    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer.lower()


def test_ch_11_basic_works_everywhere(gateway: Served, private: Place) -> None:
    """Basic credentials sent to a resource have the rights that a token would have."""
    writer = make_member(gateway, "writer", private)
    name = f"{private.name}/basic"

    digest, manifest = gateway.push_image(name, "v1", b"layer", auth=writer)

    assert gateway.request("GET", f"/v2/{name}/manifests/{digest}", auth=writer).body == manifest
    assert gateway.request("DELETE", f"/v2/{name}/manifests/{digest}", auth=writer).status == 401
    lower = authorization(writer)["Authorization"].replace("Basic", "basic")
    assert gateway.request("GET", "/v2/", headers={"Authorization": lower}).status == 200


@pytest.mark.parametrize("host", ["registry.example", "registry.example:5000", "localhost:1", "[::1]:80", "10.0.0.1"])
def test_ch_12_realm_is_where_the_client_is(gateway: Served, host: str) -> None:
    """The realm has the host that the request was sent to, without the scheme's own port."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    expected = host.removesuffix(":80")
    assert f'realm="http://{expected}/v2/token"'.encode() in answer


def test_ch_13_no_challenge_but_for_401(gateway: Served, behind_proxy: Served, name: str) -> None:
    """404, 400, 405 and 429 carry no WWW-Authenticate."""
    gateway.push_blob(name, b"{}")
    replies = [
        gateway.admin("GET", f"/v2/{name}/manifests/none"),
        gateway.admin("GET", "/v2/UPPER/tags/list"),
        gateway.admin("PUT", "/v2/"),
        *(behind_proxy.admin("POST", "/v2/flood/blobs/uploads/", b"") for _ in range(4)),
    ]

    assert [reply.status for reply in replies[:3]] == [404, 400, 405]
    assert replies[-1].status == 429
    assert not [reply for reply in replies if "www-authenticate" in reply.headers]


@pytest.mark.parametrize("who", ["nobody", "garbage", "outsider"])
def test_ch_14_head_has_the_same_challenge(gateway: Served, private: Place, outsider: Login, who: str) -> None:
    """HEAD 401 has the headers of GET 401 and no body."""
    auth = {"nobody": None, "garbage": "garbage", "outsider": outsider}[who]
    name = f"{private.name}/app"
    for path in (f"/v2/{name}/tags/list", f"/v2/{name}/manifests/v1", f"/v2/{name}/blobs/{sha256(b'')}"):
        got, head = gateway.request("GET", path, auth=auth), gateway.request("HEAD", path, auth=auth)

        assert challenge(got) == challenge(head)
        assert got.headers["content-length"] == head.headers["content-length"]
        assert head.body == b""
