"""Security rows A19 and C6: what is authorised is what is served, however a path is written, and no path leads out.

Requests go out byte by byte, so that no client tidies them up.
"""

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.people import Login, grant, make_place
from tests.security.tenants import SECRET_LAYER
from tests.served import ADMIN, OCI_MANIFEST, Served, authorization, image_manifest, sha256

pytestmark = pytest.mark.slow  # needs a server of its own


def raw(
    gateway: Served, method: str, path: str, *, auth: Login | None = None, body: bytes = b"", extra: str = ""
) -> bytes:
    """The whole answer to a request with exactly this path."""
    login = "".join(f"{name}: {value}\r\n" for name, value in authorization(auth).items())
    length = f"Content-Length: {len(body)}\r\n" if body or method in {"POST", "PUT", "PATCH"} else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {gateway.address}\r\nConnection: close\r\n{login}{length}{extra}\r\n"
    with closing(socket.create_connection(("127.0.0.1", gateway.port), timeout=10)) as client:
        client.sendall(head.encode() + body)
        return b"".join(iter(lambda: client.recv(65536), b""))


def status(answer: bytes) -> int:
    """The status of an answer."""
    return int(answer.split(b" ", 2)[1])


def spellings(victim: str, public: str) -> Iterator[str]:
    """Ways to write the private name that a careless server could read as it, or as the public one."""
    project, repository, image = victim.split("/")
    first = f"%{ord(project[0]):02x}"
    yield f"{first}{project[1:]}/{repository}/{image}"
    yield f"{first.upper()}{project[1:]}/{repository}/{image}"
    yield f"%25{first[1:]}{project[1:]}/{repository}/{image}"
    for slash in (
        "%2f",
        "%2F",
        "%252f",
        "%5c",
        "\\",
        "//",
        "/./",
        "/x/../",
        "/%2e%2e/",
        ";x/",
        "%c0%af",
        "%00/",
        "/;/",
    ):
        yield f"{project}{slash}{repository}/{image}"
        yield f"{project}/{repository}{slash}{image}"
    yield from (f"{public}/../../../{victim}", f"{public}/..%2f..%2f..%2f{victim}", f"{public}%00{victim}")
    yield from (
        f"./{victim}",
        f"../v2/{victim}",
        f"/{victim}",
        f"{victim}.",
        f"{victim}/.",
        f"{victim}/",
        f"{victim};x",
    )
    yield from (
        victim.upper(),
        f"{project.capitalize()}/{repository}/{image}",
        f"{victim}%20",
        f"{victim}%0a",
        f"{victim}?x=/",
    )
    yield from (f"{public}?/{victim}", f"{victim}#x", f"{public}#/{victim}", f"http://x/v2/{victim}", f"{victim}\u00a0")


@pytest.fixture(scope="session")
def public(gateway: Served) -> str:
    """An image that everybody may pull, with a tag of the same name as the private one."""
    name = f"{make_place(gateway, anonymous_read=True).name}/victim"
    gateway.push_image(name, "v1", b"a layer for everybody")
    return name


def test_a19_no_spelling_opens_the_private_image(gateway: Served, victim: str, public: str, stranger: Login) -> None:
    """However the private name is written, who has no right on it never gets a 200 with anything of it."""
    manifest = gateway.admin("GET", f"/v2/{victim}/manifests/v1").body
    for spelling in spellings(victim, public):
        for rest in ("manifests/v1", "tags/list", f"blobs/{sha256(SECRET_LAYER)}"):
            for auth in (None, stranger):
                answer = raw(gateway, "GET", f"/v2/{spelling}/{rest}", auth=auth)
                assert status(answer) in {400, 401, 404}, (spelling, rest)
                assert manifest not in answer
                assert SECRET_LAYER not in answer


def test_a19_only_one_spelling_of_a_name_is_served(gateway: Served, victim: str, public: str) -> None:
    """Who has every right gets the image under its own name and under no other spelling of it."""
    assert status(raw(gateway, "GET", f"/v2/{victim}/tags/list", auth=ADMIN)) == 200
    for spelling in spellings(victim, public):
        answer = raw(gateway, "GET", f"/v2/{spelling}/tags/list", auth=ADMIN)
        assert status(answer) in {400, 404}, spelling


def test_a19_writes_go_where_the_right_was_proven(gateway: Served, victim: str, own: str, stranger: Login) -> None:
    """A pusher of one image writes to no other by a spelling of its path, nor by a dotted or encoded reference."""
    before = gateway.admin("GET", f"/v2/{victim}/tags/list").json()
    gateway.push_blob(own, b"{}", auth=stranger)
    manifest, kind = image_manifest(b"{}"), f"Content-Type: {OCI_MANIFEST}\r\n"
    project = own.split("/", maxsplit=1)[0]
    for path in (
        f"{own}/manifests/../../../../{victim}/manifests/v2",
        f"{own}/manifests/..%2f..%2f..%2f..%2f{victim}%2fmanifests%2fv2",
        f"{project}/../{victim}/manifests/v2",
        f"{own}/manifests/v2%00{victim}",
        f"{own}/../../../{victim}/manifests/v2",
        f"{own};/{victim}/manifests/v2",
    ):
        answer = raw(gateway, "PUT", f"/v2/{path}", auth=stranger, body=manifest, extra=kind)
        assert status(answer) in {400, 401, 404}, path

    assert gateway.admin("GET", f"/v2/{victim}/tags/list").json() == before


def test_a19_an_alias_is_the_repository_it_leads_to(gateway: Served, stranger: Login) -> None:
    """Alias and full name alike need the right on the repository they lead to; a token is for the image."""
    alias = f"team-{gateway.port}"
    place = make_place(gateway, flat_alias_prefix=alias)
    gateway.push_image(f"{place.name}/app", "v1", b"by alias")
    names = [f"{place.name}/app", f"{alias}/app"]
    for name in names:
        assert gateway.request("GET", f"/v2/{name}/manifests/v1", auth=stranger).status == 401
        token = gateway.token(f"repository:{name}:pull", auth=stranger)
        assert gateway.request("GET", f"/v2/{name}/manifests/v1", auth=token).status == 401

    grant(gateway, stranger, "reader", place)

    bodies = {gateway.request("GET", f"/v2/{name}/manifests/v1", auth=stranger).body for name in names}
    assert len(bodies) == 1
    for asked in names:
        token = gateway.token(f"repository:{asked}:pull", auth=stranger)
        assert [gateway.request("GET", f"/v2/{name}/manifests/v1", auth=token).status for name in names] == [200, 200]
        for other in (f"{place.name}/app2", f"{alias}/app/x", "common/docker-hosted/app"):
            assert gateway.request("GET", f"/v2/{other}/manifests/v1", auth=token).status == 401


def climbs() -> Iterator[str]:
    """Ways to write a path to somewhere else."""
    ups = ["..", "%2e%2e", "..%00", ".%2e", "%252e%252e", "..\\", "..;", "\u2025", "%c0%ae%c0%ae", "...."]
    slashes = ["/", "%2f", "%5c", "\\", "%252f", "//", "%c0%af"]
    for up in ups:
        for slash in slashes:
            yield f"{up}{slash}" * 6 + "etc/passwd"
    yield from (
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "C:\\boot.ini",
        "file:///etc/passwd",
        "~root",
        "$HOME",
    )
    yield from ("`id`", "$(id)", "|id", "a\tb", "%0d%0aSet-Cookie:x", "\x7f", "sluice.db", "../sluice.db", "secret.key")


SLOTS = [
    ("GET", "{}/manifests/v1"),
    ("GET", "NAME/manifests/{}"),
    ("PUT", "NAME/manifests/{}"),
    ("PUT", "NAME/manifests/v1?tag={}"),
    ("GET", "NAME/blobs/{}"),
    ("GET", "NAME/blobs/sha256:{}"),
    ("DELETE", "NAME/blobs/{}"),
    ("PATCH", "NAME/blobs/uploads/{}"),
    ("PUT", "NAME/blobs/uploads/{}?digest=x"),
    ("POST", "NAME/blobs/uploads/?digest={}"),
    ("POST", "NAME/blobs/uploads/?mount={}&from={}"),
    ("POST", "{}/blobs/uploads/"),
    ("GET", "NAME/referrers/{}"),
]


@pytest.mark.parametrize(("method", "slot"), SLOTS)
def test_c6_no_path_leads_out(gateway: Served, private_files: Path, method: str, slot: str) -> None:
    """In the place of a name, tag, digest or upload id, no climbing text reads or makes a file, or fails the server."""
    before = _outside(private_files)
    for climb in climbs():
        path = slot.replace("NAME", "common/docker-hosted/climb").replace("{}", climb)
        answer = raw(gateway, method, f"/v2/{path}", auth=ADMIN, body=b"{}" if method in {"PUT", "PATCH"} else b"")

        allowed = {202, 400, 401, 404, 405} if method == "POST" else {400, 401, 404, 405}
        assert status(answer) in allowed, path
        assert b"root:" not in answer
        assert b"\nset-cookie" not in answer.lower()
    assert _outside(private_files) == before


@pytest.fixture
def private_files(gateway: Served) -> Path:
    """The directory that the data directory lies in."""
    return gateway.directory


def _outside(directory: Path) -> list[str]:
    """All files around the data directory, and what lies directly in it."""
    data = directory / "data"
    around = [path for path in directory.rglob("*") if data not in path.parents]
    return sorted(str(path) for path in (*around, *data.iterdir()))
