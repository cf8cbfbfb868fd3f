"""Protocol section 1.14: errors, warnings and limits, row by row."""

import json
import re
import socket
import threading

import pytest

from tests.people import Login, Place, make_member, make_place, make_robot, make_token, make_user
from tests.served import ADMIN, OCI_MANIFEST, Reply, Served, authorization, image_manifest, sha256

TYPE = {"Content-Type": OCI_MANIFEST}
ABSENT = sha256(b"absent")
SESSION = "00000000-0000-4000-8000-000000000000"
CODES = {
    "BLOB_UNKNOWN": {404},
    "BLOB_UPLOAD_INVALID": {400, 409, 416},
    "BLOB_UPLOAD_UNKNOWN": {404},
    "DIGEST_INVALID": {400},
    "MANIFEST_BLOB_UNKNOWN": {400},
    "MANIFEST_INVALID": {400, 413, 414},
    "MANIFEST_UNKNOWN": {404},
    "NAME_INVALID": {400, 421},
    "NAME_UNKNOWN": {404},
    "SIZE_INVALID": {400, 413, 416},
    "UNAUTHORIZED": {401},
    "DENIED": {403, 412},
    "UNSUPPORTED": {400, 405, 415},
    "TOOMANYREQUESTS": {429},
}
"""The fourteen codes of the specification, and the statuses that each may come with."""

WRONG: list[tuple[str, str, bytes | None, dict[str, str], int, str]] = [
    ("GET", f"NAME/blobs/{ABSENT}", None, {}, 404, "BLOB_UNKNOWN"),
    ("DELETE", f"NAME/blobs/{ABSENT}", None, {}, 404, "BLOB_UNKNOWN"),
    ("GET", f"NAME/blobs/{sha256(b'{}')}", None, {"Range": "bytes=500-0"}, 416, "SIZE_INVALID"),
    ("PATCH", f"NAME/blobs/uploads/{SESSION}", b"x", {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("GET", "NAME/blobs/uploads/nonsense", None, {}, 404, "BLOB_UPLOAD_UNKNOWN"),
    ("GET", "NAME/blobs/sha256:zz", None, {}, 400, "DIGEST_INVALID"),
    ("POST", "NAME/blobs/uploads/?digest=x", b"", {}, 400, "DIGEST_INVALID"),
    ("POST", "NAME/blobs/uploads/?mount=x&from=y", b"", {}, 400, "DIGEST_INVALID"),
    ("POST", f"NAME/blobs/uploads/?digest={ABSENT}", b"other", {}, 400, "DIGEST_INVALID"),
    ("PUT", "NAME/manifests/x", image_manifest(b"no config"), TYPE, 400, "MANIFEST_BLOB_UNKNOWN"),
    ("PUT", "NAME/manifests/x", b"{", TYPE, 400, "MANIFEST_INVALID"),
    ("PUT", "NAME/manifests/.x", image_manifest(b"{}"), TYPE, 400, "MANIFEST_INVALID"),
    ("PUT", f"NAME/manifests/{ABSENT}", image_manifest(b"{}"), TYPE, 400, "DIGEST_INVALID"),
    ("PUT", "NAME/manifests/x", b" " * (4 * 2**20 + 1), TYPE, 413, "MANIFEST_INVALID"),
    ("PUT", "NAME/manifests/x", image_manifest(b"{}"), {**TYPE, "If-Match": '"x"'}, 412, "DENIED"),
    ("GET", "NAME/manifests/absent", None, {}, 404, "MANIFEST_UNKNOWN"),
    ("DELETE", "NAME/manifests/absent", None, {}, 404, "MANIFEST_UNKNOWN"),
    ("GET", "NAME/absent/tags/list", None, {}, 404, "NAME_UNKNOWN"),
    ("GET", "NAME/UPPER/tags/list", None, {}, 400, "NAME_INVALID"),
    ("GET", "NAME/tags/list?n=-1", None, {}, 400, "UNSUPPORTED"),
    ("GET", f"NAME/referrers/{ABSENT}x", None, {}, 400, "DIGEST_INVALID"),
    ("PUT", "NAME/tags/list", b"", {}, 405, "UNSUPPORTED"),
    ("GET", "nothing", None, {}, 404, "NAME_UNKNOWN"),
    ("POST", "token", b"", {}, 400, "UNSUPPORTED"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]} {case[1][:40]} {case[5]}")
def test_er_01_02_03_04_form_code_and_status(
    gateway: Served, name: str, case: tuple[str, str, bytes | None, dict[str, str], int, str]
) -> None:
    """Each mistake has its code of the specification, the status of that code, and one form of body in JSON."""
    method, path, body, headers, status, code = case
    gateway.push_blob(name, b"{}")

    reply = gateway.admin(method, f"/v2/{path.replace('NAME', name)}", body, headers)

    assert (reply.status, reply.codes()) == (status, [code])
    assert status in CODES[code]
    assert_form(reply)


def assert_form(reply: Reply) -> None:
    """The body is the specification's document and nothing else: no HTML, no stack, no top-level details."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(reply.body))
    value = reply.json()
    assert value.keys() == {"errors"}
    assert value["errors"]
    for entry in value["errors"]:
        assert {"code", "message"} <= entry.keys() <= {"code", "message", "detail"}
        assert entry["code"] in CODES or reply.status >= 500
        assert entry["message"].isprintable()
        assert entry["message"].isascii()
    assert not re.search(rb"Traceback|<html|\.py\b|line \d+", reply.body)


def test_er_01_02_unauthorised_and_denied(gateway: Served, name: str) -> None:
    """401 and 403 have the same form."""
    fixed = make_place(gateway, immutable_tags=["*"])
    gateway.push_image(f"{fixed.name}/app", "v1", b"layer")

    refused = gateway.request("GET", f"/v2/{name}/tags/list")
    denied = gateway.admin("DELETE", f"/v2/{fixed.name}/app/manifests/v1")

    assert [(reply.status, reply.codes()) for reply in (refused, denied)] == [
        (401, ["UNAUTHORIZED"]),
        (403, ["DENIED"]),
    ]
    assert_form(refused)
    assert_form(denied)


@pytest.mark.parametrize(
    "strange", ["\u00e4\x00\n\r\t\x1b[31m", "<script>alert(1)</script>", "x" * 3000, "${jndi:x}", "\\u0000"]
)
def test_er_04_a_message_repeats_nothing_raw(gateway: Served, name: str, strange: str) -> None:
    """What the client sent is in a message only escaped and shortened, whatever it was."""
    annotated = json.dumps({"schemaVersion": 2, "mediaType": strange}).encode()
    quoted = "".join(f"%{byte:02x}" for byte in strange.encode())
    replies = [
        gateway.admin("PUT", f"/v2/{name}/manifests/x", annotated, TYPE),
        gateway.admin("PUT", f"/v2/{name}/manifests/x?digest={quoted}", b"{}", TYPE),
        gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest={quoted}", b""),
        gateway.admin("POST", f"/v2/{name}/blobs/uploads/?digest-algorithm={quoted}", b""),
        gateway.admin("PUT", f"/v2/{name}/manifests/{sha256(b'{}')}?tag={quoted}", b"{}", TYPE),
    ]

    for reply in replies:
        assert reply.status == 400
        assert_form(reply)
        assert len(reply.body) < 1500
        assert b"\x1b" not in reply.body


def test_er_05_too_many_uploads(behind_proxy: Served) -> None:
    """One account's sessions are bounded: 429 TOOMANYREQUESTS with Retry-After, and room again when one ends."""
    user = make_member(behind_proxy, "writer", Place("common", "docker-hosted"))
    path = "/v2/crowd/blobs/uploads/"
    begun = [behind_proxy.request("POST", path, b"", auth=user) for _ in range(3)]
    assert [reply.status for reply in begun] == [202] * 3

    refused = behind_proxy.request("POST", path, b"", auth=user)

    assert (refused.status, refused.codes()) == (429, ["TOOMANYREQUESTS"])
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert_form(refused)
    assert behind_proxy.request("DELETE", begun[0].headers["location"], auth=user).status == 204
    assert behind_proxy.request("POST", path, b"", auth=user).status == 202


def test_er_06_overload_is_503(behind_proxy: Served) -> None:
    """More passwords than can be checked: 503 UNAVAILABLE with Retry-After, never 401 to who is right, nor 404.

    Tokens and keys need no slow hash and are answered all the while (row A27).
    """
    user = make_user(behind_proxy)
    robot = make_robot(behind_proxy)
    token = make_token(behind_proxy, user)
    registry = behind_proxy.token(auth=token)
    answers: list[Reply] = []
    cheap: list[Reply] = []

    def flood(number: int) -> None:
        wrong = (f"user{number}", "wrong-password")
        answers.append(behind_proxy.request("GET", "/v2/", auth=wrong))
        answers.append(behind_proxy.request("GET", "/v2/_catalog", auth=wrong))

    def work(login: Login | str) -> None:
        cheap.append(behind_proxy.request("GET", "/v2/", auth=login))

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(10)]
    threads += [threading.Thread(target=work, args=(login,)) for login in (robot, token, registry) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {reply.status for reply in answers} == {401, 503}
    assert {reply.status for reply in cheap} == {200}
    for reply in answers:
        if reply.status == 503:
            assert reply.codes() == ["UNAVAILABLE"]
            assert int(reply.headers["retry-after"]) > 0
            assert_form(reply)


RAW = {
    "no HTTP": (b"nonsense\r\n\r\n", 400),
    "two lengths": (b"POST /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "no host": (b"GET /v2/ HTTP/1.1\r\n\r\n", 400),
    "a bad host": (b"GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "a long head": (b"GET /v2/ HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
    "CONNECT": (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "outside /v2": (b"GET /nothing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    "the root": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 404),
    "another version": (b"GET /v2/ HTTP/3.0\r\nHost: a\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", RAW)
def test_er_07_the_server_s_own_refusals(gateway: Served, case: str) -> None:
    """What never reaches the registry is refused in JSON of the same form."""
    request, status = RAW[case]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as client:
        client.sendall(request)
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert int(lines[0].split(" ")[1]) == status
    assert_form(Reply(status, headers, tuple(headers.items()), body))


def test_er_07_an_unknown_name_of_the_gateway(behind_proxy: Served) -> None:
    """A host that is not among the configured names is 421 in JSON."""
    with socket.create_connection(("127.0.0.1", behind_proxy.port), timeout=10) as client:
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))

    assert answer.startswith(b"HTTP/1.1 421")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["errors"][0]["code"] == "NAME_INVALID"
    assert b"evil.example" not in answer


WARNING = re.compile(r'299 - "(?:[^"\\\x00-\x1f\x7f]|\\["\\])*"')


def test_wn_01_warnings_have_the_one_form(gateway: Served, name: str) -> None:
    """If an answer warns, it does so as `299 - "text"`, without a date, in 4096 bytes at most."""
    digest, _ = gateway.push_image(name, "v1", b"layer")
    replies = [
        gateway.admin("GET", f"/v2/{name}/manifests/v1"),
        gateway.admin("GET", f"/v2/{name}/manifests/absent"),
        gateway.admin("DELETE", f"/v2/{name}/blobs/{sha256(b'layer')}"),
        gateway.admin("GET", f"/v2/{name}/referrers/{digest}"),
        gateway.request("GET", "/v2/"),
    ]

    warnings = [value for reply in replies for key, value in reply.all_headers if key == "warning"]
    assert all(WARNING.fullmatch(each) and len(each) <= 4096 for each in warnings)


@pytest.mark.parametrize("size", [1000, 8 * 1024, 16 * 1024 - 100])
@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_lm_01_large_credentials_are_read(gateway: Served, scheme: str, size: int) -> None:
    """An Authorization of up to 16 KiB is judged by what it says, not by its length: 401 and no 431."""
    reply = gateway.request("GET", "/v2/", headers={"Authorization": f"{scheme} {'QUFB' * (size // 4)}"})

    assert (reply.status, reply.codes()) == (401, ["UNAUTHORIZED"])


def test_lm_01_a_good_request_with_a_large_head(gateway: Served) -> None:
    """Other headers of 12 KiB beside good credentials hurt nobody."""
    headers = {"X-Trace": "x" * 12_000, **authorization(ADMIN)}

    assert gateway.request("GET", "/v2/", headers=headers).status == 200


def test_lm_02_ten_tags_of_128_characters(gateway: Served, name: str) -> None:
    """A URI with ten of the longest tags is accepted."""
    gateway.push_blob(name, b"{}")
    manifest = image_manifest(b"{}")
    tags = [f"{number}" * 128 for number in range(10)]
    query = "&".join(f"tag={tag}" for tag in tags)

    reply = gateway.admin("PUT", f"/v2/{name}/manifests/{sha256(manifest)}?{query}", manifest, TYPE)

    assert reply.status == 201
    assert gateway.admin("GET", f"/v2/{name}/tags/list").json()["tags"] == tags
