"""Security rows A1 to A11, authorisation: requests with which other registries were robbed, sent to a served gateway.

Rows A1, A2 and A4 are cells of the authorisation matrix, too; the rows from A14 on are in `test_rows_a_accounts.py`.
"""

from urllib.parse import quote, urlencode

import pytest

from tests.people import (
    Login,
    Place,
    make_member,
    make_place,
    make_robot,
    unique,
)
from tests.security.tenants import EVERY_WORKER, SECRET_LAYER, tokens_by_form
from tests.served import ADMIN, OCI_INDEX, OCI_MANIFEST, Served, image_index, image_manifest, sha256

pytestmark = pytest.mark.slow  # needs a server of its own

TYPE = {"Content-Type": OCI_MANIFEST}


def reads(name: str) -> list[tuple[str, str, dict[str, str]]]:
    """Every way of reading something of an image."""
    digest = sha256(SECRET_LAYER)
    paths = [
        "manifests/v1",
        f"manifests/{digest}",
        f"blobs/{digest}",
        "tags/list",
        "tags/list?n=1",
        f"referrers/{digest}",
    ]
    found: list[tuple[str, str, dict[str, str]]] = [
        (method, f"/v2/{name}/{path}", {}) for path in paths for method in ("GET", "HEAD")
    ]
    ranged = ("GET", f"/v2/{name}/blobs/{digest}", {"Range": "bytes=0-3"})
    cached = ("GET", f"/v2/{name}/manifests/v1", {"If-None-Match": "*"})
    uploads: tuple[str, str, dict[str, str]] = (
        "GET",
        f"/v2/{name}/blobs/uploads/00000000-0000-4000-8000-000000000000",
        {},
    )
    return [*found, ranged, cached, uploads]


@pytest.mark.parametrize("who", ["anonymous", "stranger"])
def test_a1_a2_no_read_without_the_right(gateway: Served, victim: str, stranger: Login, who: str) -> None:
    """No verb reads a private image without a login or with one that has no role, and no answer holds a byte of it."""
    login = stranger if who == "stranger" else None
    token = gateway.token(f"repository:{victim}:*", auth=login)

    for auth in (login, token):
        for method, path, headers in reads(victim):
            reply = gateway.request(method, path, headers=headers, auth=auth)
            assert reply.status == 401, (method, path)
            assert "docker-content-digest" not in reply.headers
            assert "etag" not in reply.headers
        for path in ("repos", "projects", f"repos/{'/'.join(victim.split('/')[:2])}"):
            answer = gateway.api("GET", f"/api/v1/{path}", auth=login)
            assert answer.status == 401 or victim.split("/")[1] not in answer.body.decode()


def test_a3_no_write_without_the_right(gateway: Served, victim: str, stranger: Login, private: Place) -> None:
    """A token that names B's image in its scope writes nothing there; B's tag and B's upload are as they were."""
    owner = make_member(gateway, "writer", private)
    location = gateway.request("POST", f"/v2/{victim}/blobs/uploads/", b"", auth=owner).headers["location"]
    assert gateway.request("PATCH", location, b"begun", auth=owner).status == 202
    token = gateway.token(f"repository:{victim}:pull,push,delete", auth=stranger)
    manifest = gateway.admin("GET", f"/v2/{victim}/manifests/v1").body

    for method, path, body in (
        ("POST", f"/v2/{victim}/blobs/uploads/", b""),
        ("POST", f"/v2/{victim}/blobs/uploads/?digest={sha256(b'x')}", b"x"),
        ("PATCH", location, b"more"),
        ("PUT", f"{location}?digest={sha256(b'begun')}", b""),
        ("DELETE", location, None),
        ("PUT", f"/v2/{victim}/manifests/v1", manifest),
        ("PUT", f"/v2/{victim}/manifests/{sha256(manifest)}?tag=v2", manifest),
        ("DELETE", f"/v2/{victim}/manifests/v1", None),
        ("DELETE", f"/v2/{victim}/manifests/{sha256(manifest)}", None),
        ("DELETE", f"/v2/{victim}/blobs/{sha256(SECRET_LAYER)}", None),
    ):
        for auth in (token, stranger, None):
            assert gateway.request(method, path, body, TYPE, auth=auth).status == 401, (method, path)

    assert gateway.admin("GET", f"/v2/{victim}/tags/list").json()["tags"] == ["v1"]
    assert gateway.request("GET", location, auth=owner).headers["range"] == "0-4"
    assert gateway.request("PUT", f"{location}?digest={sha256(b'begun')}", b"", auth=owner).status == 201


def test_a5_a_limited_secret_stays_limited(gateway: Served, victim: str, private: Place) -> None:
    """Exchanged by every way there is, a key that pulls from one repository never pushes and never reads another."""
    other = make_place(gateway)
    gateway.push_image(f"{other.name}/app", "v1", b"of another repository")
    robot = make_robot(
        gateway, ("maintainer", private), ("maintainer", other), actions=["pull"], repositories=[private.name]
    )
    scopes = f"repository:{victim}:* repository:{other.name}/app:* registry:catalog:*"

    for way, auth in exchanged(gateway, robot, scopes).items():
        assert gateway.request("GET", f"/v2/{victim}/manifests/v1", auth=auth).status == 200, way
        assert gateway.request("POST", f"/v2/{victim}/blobs/uploads/", b"", auth=auth).status == 401, way
        assert gateway.request("DELETE", f"/v2/{victim}/manifests/v1", auth=auth).status == 401, way
        assert gateway.request("GET", f"/v2/{other.name}/app/manifests/v1", auth=auth).status == 401, way
        catalog = gateway.request("GET", "/v2/_catalog", auth=auth).json()["repositories"]
        assert all(each.startswith(f"{private.name}/") for each in catalog), way
        assert gateway.api("POST", "/api/v1/tokens", {}, auth=auth).status in {401, 403}, way
        assert gateway.api("GET", "/api/v1/users", auth=auth).status in {401, 403}, way


def exchanged(gateway: Served, login: Login, scopes: str) -> dict[str, Login | str]:
    """All credentials that can be got from a login."""
    name, secret = login
    query = urlencode({"service": "sluice", "scope": scopes, "offline_token": "true"})
    got = gateway.request("GET", f"/v2/token?{query}", auth=login).json()
    password = tokens_by_form(
        gateway, grant_type="password", username=name, password=secret, scope=scopes, access_type="offline"
    )
    found: dict[str, Login | str] = {
        "as a password": login,
        "as anybody's password": ("admin", secret),
        "as a bearer token": secret,
        "by GET": got["token"],
        "by POST": password["access_token"],
        "by bearer": gateway.request("GET", f"/v2/token?{query}", auth=secret).json()["token"],
    }
    for way, refresh in (("GET", got["refresh_token"]), ("POST", password["refresh_token"])):
        answer = tokens_by_form(
            gateway, grant_type="refresh_token", refresh_token=refresh, scope=scopes, access_type="offline"
        )
        found[f"by {way} and refresh"] = answer["access_token"]
        assert answer["refresh_token"] == refresh
    return found


def test_a5_a_token_is_no_password(gateway: Served, victim: str, private: Place) -> None:
    """A registry token sent as a password or exchanged again is refused, so it never outlives its minutes."""
    reader = make_member(gateway, "reader", private)
    token = gateway.token(f"repository:{victim}:pull", auth=reader)

    for auth in ((reader[0], token), ("<token>", token), ("oauth2accesstoken", token)):
        assert gateway.request("GET", f"/v2/{victim}/tags/list", auth=auth).status == 401
    assert gateway.request("GET", "/v2/token", auth=token).status == 401


def test_a6_a_digest_is_worth_nothing(gateway: Served, victim: str, own: str, stranger: Login) -> None:
    """Who knows a private layer's digest gets it linked by no request, and cannot tell that it is stored at all."""
    public = make_place(gateway, anonymous_read=True)
    gateway.push_blob(f"{public.name}/app", b"something else")
    sources = [
        f"from={victim}",
        f"from={public.name}/app",
        "",
        "from=../..",
        "from=",
        f"from={own}",
        f"from={victim}%00",
    ]
    token = gateway.token(
        f"repository:{own}:*", f"repository:{victim}:*", f"repository:{public.name}/app:*", auth=stranger
    )

    for source in sources:
        for auth in (stranger, token):
            real, absent = (
                gateway.request("POST", f"/v2/{own}/blobs/uploads/?mount={digest}&{source}", b"", auth=auth)
                for digest in (sha256(SECRET_LAYER), sha256(b"stored nowhere"))
            )
            assert (real.status, absent.status) == (202, 202), source
            assert real.headers.keys() == absent.headers.keys()
    for path, body in ((f"?digest={sha256(SECRET_LAYER)}", b""), (f"?digest={sha256(SECRET_LAYER)}", b"guess")):
        assert gateway.request("POST", f"/v2/{own}/blobs/uploads/{path}", body, auth=stranger).status == 400
    for _ in EVERY_WORKER:
        assert gateway.request("HEAD", f"/v2/{own}/blobs/{sha256(SECRET_LAYER)}", auth=stranger).status == 404


def test_a7_a_token_for_the_target_alone(gateway: Served, victim: str, own: str, stranger: Login) -> None:
    """A token for the target does not mount from B's image; the challenge it gets leads to a token that does not."""
    mount = f"/v2/{own}/blobs/uploads/?mount={sha256(SECRET_LAYER)}&from={victim}"

    first = gateway.request("POST", mount, b"", auth=gateway.token(f"repository:{own}:pull,push", auth=stranger))
    scope = first.headers["www-authenticate"].partition('scope="')[2].partition('"')[0]
    second = gateway.request("POST", mount, b"", auth=gateway.token(quote(scope), auth=stranger))

    assert (first.status, second.status) == (401, 202)
    assert gateway.request("HEAD", f"/v2/{own}/blobs/{sha256(SECRET_LAYER)}", auth=stranger).status == 404


def test_a8_deleted_here_and_read_there(gateway: Served, private: Place) -> None:
    """A blob deleted in one image stays away there on every worker, however often it is read through another."""
    layer = b"shared by two images"
    one, two = (f"{private.name}/{unique(each)}" for each in "ab")
    for name in (one, two):
        gateway.push_blob(name, layer)
        assert gateway.admin("GET", f"/v2/{name}/blobs/{sha256(layer)}").body == layer

    assert gateway.admin("DELETE", f"/v2/{one}/blobs/{sha256(layer)}").status == 202

    for _ in EVERY_WORKER:
        assert gateway.admin("GET", f"/v2/{two}/blobs/{sha256(layer)}").body == layer
        assert gateway.admin("GET", f"/v2/{one}/blobs/{sha256(layer)}").status == 404


def test_a9_an_upload_is_its_owner_s(gateway: Served, private: Place, own: str, stranger: Login) -> None:
    """Who knows another's upload URL does nothing with it: under another image, as another pusher, or as an admin."""
    owner, colleague = (make_member(gateway, "maintainer", private) for _ in range(2))
    name = f"{private.name}/{unique('upload')}"
    location = gateway.request("POST", f"/v2/{name}/blobs/uploads/", b"", auth=owner).headers["location"]
    assert gateway.request("PATCH", location, b"mine", auth=owner).status == 202
    moved = location.replace(name, own)

    for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE"):
        for path, auth in ((moved, stranger), (location, colleague), (location, ADMIN), (moved, ADMIN)):
            reply = gateway.request(method, f"{path}?digest={sha256(b'mine')}&_state=x", b"theirs", auth=auth)
            assert reply.status == 404, (method, path)

    finished = gateway.request("PUT", f"{location}?digest={sha256(b'mine')}", b"", auth=owner)
    assert finished.status == 201


def test_a10_nothing_overwrites_a_protected_tag(gateway: Served) -> None:
    """Where every tag is fixed, no way of naming it overwrites `latest`; new tags can be made."""
    place = make_place(gateway, immutable_tags=["*"])
    pusher = make_member(gateway, "writer", place)
    name = f"{place.name}/app"
    gateway.push_blob(name, b"{}", auth=pusher)
    first, second = (image_manifest(b"{}", annotations={"n": each}) for each in "12")
    path = f"/v2/{name}/manifests"
    assert gateway.request("PUT", f"{path}/latest", first, TYPE, auth=pusher).status == 201

    for reference in (
        "latest",
        f"{sha256(second)}?tag=latest",
        f"{sha256(second)}?tag=new&tag=latest",
        "new?tag=latest",
        "latest?tag=new",
        f"latest?digest={sha256(second)}",
    ):
        assert gateway.request("PUT", f"{path}/{reference}", second, TYPE, auth=pusher).status == 403, reference
    assert gateway.request("GET", f"/v2/{name}/tags/list", auth=pusher).json()["tags"] == ["latest"]
    assert gateway.request("PUT", f"{path}/{sha256(second)}", second, TYPE, auth=pusher).status == 201
    assert gateway.request("PUT", f"{path}/new", second, TYPE, auth=pusher).status == 201
    assert gateway.request("GET", f"{path}/latest", auth=pusher).body == first


def test_a11_a_protected_tag_is_not_deleted_by_a_detour(gateway: Served) -> None:
    """Neither its own deletion, nor that of its digest, nor an index in its place takes an immutable tag away."""
    place = make_place(gateway, immutable_tags=["v*"])
    maintainer = make_member(gateway, "maintainer", place)
    name = f"{place.name}/app"
    digest, manifest = gateway.push_image(name, "v1", b"layer", auth=maintainer)
    index = image_index(manifest)
    path = f"/v2/{name}/manifests"
    assert gateway.request("PUT", f"{path}/v2", index, {"Content-Type": OCI_INDEX}, auth=maintainer).status == 201
    subject = {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(manifest)}
    referrer = image_index(subject=subject)

    for method, reference, body in (
        ("DELETE", "v1", None),
        ("DELETE", digest, None),
        ("DELETE", digest.replace(":", "%3A"), None),
        ("DELETE", sha256(index), None),
        ("PUT", f"{sha256(referrer)}?tag=v1", referrer),
        ("PUT", "v2", referrer),
    ):
        reply = gateway.request(method, f"{path}/{reference}", body, {"Content-Type": OCI_INDEX}, auth=maintainer)
        assert (reply.status, reply.codes()) == (403, ["DENIED"]), reference

    assert gateway.request("GET", f"{path}/v1", auth=maintainer).body == manifest
    assert gateway.request("GET", f"{path}/v2", auth=maintainer).body == index
