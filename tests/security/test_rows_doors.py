"""Security rows A1, A3, A6, A9, A12, A18, A19, A20 and P10 at every door, and through virtual repositories.

What the front door refuses, no alias, host, path, namespace or view may give; and what is hidden behind one of them is
not told from what does not exist.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from bench.contenders.ports import free_port
from tests.people import Login, Place, change, grant, make_member, make_place, unique
from tests.protocol.approaches import Approach
from tests.security.tenants import EVERY_WORKER, SECRET_LAYER
from tests.security.test_rows_paths import spellings
from tests.served import ADMIN, OCI_MANIFEST, Reply, Served, image_manifest, sha256

pytestmark = pytest.mark.slow  # needs a server of its own

TYPE: Final = {"Content-Type": OCI_MANIFEST}
_VARYING: Final = {"date", "x-request-id"}


@dataclass(frozen=True)
class Opened:
    """A repository with every address there is; `to(name)` gives each way to an image of it."""

    gateway: Served
    place: Place
    alias: str
    host: str
    namespace: str

    def ways(self, image: str, rest: str) -> dict[str, tuple[str, Mapping[str, str]]]:
        """Every path to something of the image, with the headers that it takes."""
        ns = f"{'&' if '?' in rest else '?'}ns={self.namespace}"
        return {
            "full name": (f"/v2/{self.place.name}/{image}/{rest}", {}),
            "alias": (f"/v2/{self.alias}/{image}/{rest}", {}),
            "host": (f"/v2/{image}/{rest}", {"Host": self.host}),
            "path": (f"/repositories/oci/{self.place.name}/v2/{image}/{rest}", {}),
            "namespace": (f"/v2/{image}/{rest}{ns}", {}),
            "path and namespace": (f"/repositories/oci/{self.place.name}/v2/{image}/{rest}{ns}", {}),
        }

    def send(self, method: str, way: tuple[str, Mapping[str, str]], body: bytes | None = None, **more: object) -> Reply:
        """One request that way."""
        path, headers = way
        return Approach(self.gateway, "", "", headers).send(method, path, body, **more)  # type: ignore[arg-type]


def open_up(gateway: Served, place: Place) -> Opened:
    """Give the repository an address of every kind."""
    opened = Opened(gateway, place, unique("alias"), f"{unique('host')}.example", f"{unique('ns')}.example")
    addresses = {"host_names": [opened.host], "namespaces": [opened.namespace], "flat_alias_prefix": opened.alias}
    change(gateway, f"repos/{place.name}", addresses)
    return opened


@pytest.fixture(scope="module")
def hidden(gateway: Served) -> Opened:
    """B's private repository with an address of every kind, and the image `victim`."""
    opened = open_up(gateway, make_place(gateway))
    gateway.push_image(f"{opened.place.name}/victim", "v1", SECRET_LAYER)
    return opened


READS: Final = (
    "manifests/v1",
    f"blobs/{sha256(SECRET_LAYER)}",
    "tags/list",
    "tags/list?n=1",
    f"referrers/{sha256(SECRET_LAYER)}",
    "blobs/uploads/00000000-0000-4000-8000-000000000000",
)


@pytest.mark.parametrize("rest", READS)
def test_a1_a2_a19_no_door_reads_without_the_right(hidden: Opened, gateway: Served, stranger: Login, rest: str) -> None:
    """Neither anonymous nor with an account that has no role, with Basic or with any token."""
    names = [f"repository:{name}:*" for name in (f"{hidden.place.name}/victim", f"{hidden.alias}/victim", "victim")]
    for login in (None, stranger):
        token = gateway.token(*names, auth=login)
        for door, way in hidden.ways("victim", rest).items():
            for method in ("GET", "HEAD"):
                for auth in (login, token):
                    reply = hidden.send(method, way, auth=auth)
                    assert reply.status == 401, (door, method)
                    assert "docker-content-digest" not in reply.headers


def test_a3_no_door_writes_without_the_right(hidden: Opened, gateway: Served, stranger: Login) -> None:
    """A reader pushes, deletes and begins uploads nowhere; B's tags are as they were."""
    reader = make_member(gateway, "reader", hidden.place)
    manifest = gateway.admin("GET", f"/v2/{hidden.place.name}/victim/manifests/v1").body
    for login in (stranger, reader, None):
        for method, rest, body in (
            ("POST", "blobs/uploads/", b""),
            ("POST", f"blobs/uploads/?mount={sha256(SECRET_LAYER)}&from=victim", b""),
            ("PUT", "manifests/v2", manifest),
            ("DELETE", "manifests/v1", None),
            ("DELETE", f"blobs/{sha256(SECRET_LAYER)}", None),
        ):
            for door, way in hidden.ways("victim", rest).items():
                assert hidden.send(method, way, body, headers=TYPE, auth=login).status == 401, (door, method, rest)

    assert gateway.admin("GET", f"/v2/{hidden.place.name}/victim/tags/list").json()["tags"] == ["v1"]


def test_a6_a_digest_is_worth_nothing_at_any_door(hidden: Opened, gateway: Served, own: str, stranger: Login) -> None:
    """Named as a source of a mount by whichever name, a private layer answers as one that is stored nowhere."""
    image, place = own.rpartition("/")[2], Place(*own.split("/")[:2])
    mine = open_up(gateway, place)
    sources = (f"{hidden.place.name}/victim", f"{hidden.alias}/victim", "victim", "")
    for source in sources:
        replies = []
        for digest in (sha256(SECRET_LAYER), sha256(b"stored nowhere")):
            for way in mine.ways(image, f"blobs/uploads/?mount={digest}&from={source}").values():
                replies.append(mine.send("POST", way, b"", auth=stranger))
        assert {reply.status for reply in replies} == {202}, source
        assert len({tuple(sorted(reply.headers.keys() - {"oci-namespace"})) for reply in replies}) == 1
    for way in mine.ways(image, f"blobs/{sha256(SECRET_LAYER)}").values():
        assert mine.send("HEAD", way, auth=stranger).status == 404
        assert mine.send("GET", way, auth=stranger).status == 404


def test_a9_an_upload_is_its_owner_s_at_every_door(hidden: Opened, gateway: Served, own: str, stranger: Login) -> None:
    """Who knows its id does nothing with it by any address: as another pusher, or under another image."""
    owner, colleague = (make_member(gateway, "maintainer", hidden.place) for _ in range(2))
    begun = gateway.request("POST", f"/v2/{hidden.place.name}/up/blobs/uploads/", b"", auth=owner)
    upload = begun.headers["docker-upload-uuid"]
    mine = open_up(gateway, Place(*own.split("/")[:2]))
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        rest = f"blobs/uploads/{upload}" + (f"?digest={sha256(b'x')}" if method == "PUT" else "")
        for door, way in hidden.ways("up", rest).items():
            assert hidden.send(method, way, b"x", auth=colleague).status == 404, door
        for door, way in hidden.ways("other", rest).items():
            assert hidden.send(method, way, b"x", auth=owner).status == 404, door
        for door, way in mine.ways("up", rest).items():
            assert mine.send(method, way, b"x", auth=stranger).status == 404, door

    for way in hidden.ways("up", f"blobs/uploads/{upload}").values():
        assert hidden.send("GET", way, auth=owner).status == 204


def test_a19_only_one_spelling_of_a_sub_path_is_served(hidden: Opened) -> None:
    """However the path of a repository is written, what is served is what was authorised, or nothing."""
    place = hidden.place.name
    assert hidden.send("GET", (f"/repositories/oci/{place}/v2/victim/tags/list", {}), auth=ADMIN).status == 200
    for spelling in [each for each in spellings(f"{place}/v2", f"{place}/v2") if " " not in each and each.isascii()]:
        if spelling.endswith(("?x=/", "#x", "#/x")) or "?" in spelling:
            continue
        for path in (
            f"/repositories/oci/{spelling}/victim/tags/list",
            f"/repositories/oci/{spelling}/v2/victim/tags/list",
        ):
            for auth in (None, ADMIN):
                reply = hidden.send("GET", (path, {}), auth=auth)
                assert reply.status in {400, 401, 404}, path
                assert b"v1" not in reply.body, path


@pytest.mark.parametrize(
    "root",
    [
        "/Repositories/oci",
        "/repositories//oci",
        "/repositories/./oci",
        "/repositories/x/../oci",
        "/repositories%2foci",
        "/v2/repositories/oci",
        "//repositories/oci",
    ],
)
def test_a19_a_sub_path_begins_as_it_begins(hidden: Opened, root: str) -> None:
    """No other spelling of what stands before the names leads to any repository."""
    reply = hidden.send("GET", (f"{root}/{hidden.place.name}/v2/victim/tags/list", {}), auth=ADMIN)

    assert reply.status in {400, 404}


# --- hidden and missing ----------------------------------------------------------------------------------------------


def told(reply: Reply, *names: str) -> tuple[object, ...]:
    """All that a client sees, with these names made one."""
    headers = [(key, value) for key, value in reply.all_headers if key not in _VARYING]
    text = repr((reply.status, headers, reply.body))
    for name in names:
        text = text.replace(name, "N" * 8)
    return (re.sub(r"'content-length', '\d+'", "LENGTH", text),)


@pytest.mark.parametrize("rest", READS)
def test_a19_a20_hidden_and_missing_are_one_at_every_door(hidden: Opened, stranger: Login, rest: str) -> None:
    """By alias, path and full name a private repository answers as one that is not there.

    Behind its host and its namespace, which are known, every image of it answers alike.
    """
    nowhere = Opened(
        hidden.gateway, Place(unique("nowhere"), "none"), unique("none"), f"{unique('x')}.example", hidden.namespace
    )
    for auth in (None, stranger):
        for door in ("full name", "alias", "path"):
            there = hidden.send("GET", hidden.ways("victim", rest)[door], auth=auth)
            none = hidden.send("GET", nowhere.ways("victim", rest)[door], auth=auth)
            names = (hidden.place.name, nowhere.place.name, hidden.alias, nowhere.alias)
            assert told(there, *names) == told(none, *names), door
        for door in ("host", "namespace", "path and namespace"):
            there = hidden.send("GET", hidden.ways("victim", rest)[door], auth=auth)
            none = hidden.send("GET", hidden.ways("absent", rest)[door], auth=auth)
            assert told(there, "victim") == told(none, "absent"), door


# --- views -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A public view over `hidden` and then a public member; pushes go to `target`, if it has one."""

    opened: Opened
    shown: Place
    target: Place | None


def make_view(gateway: Served, *members: Mapping[str, object], **settings: Any) -> Opened:
    """A virtual repository with an address of every kind."""
    place = make_place(gateway, repository_type="virtual", members=list(members), **settings)
    return open_up(gateway, place)


@pytest.fixture(scope="module")
def view(gateway: Served, hidden: Opened) -> View:
    """Anybody may read the view; its first member is private. Each member has an image of its own and a common one."""
    shown = make_place(gateway, anonymous_read=True)
    gateway.push_image(f"{shown.name}/open", "v1", b"a layer for everybody")
    gateway.push_image(f"{shown.name}/both", "shown", b"a layer for everybody")
    gateway.push_image(f"{hidden.place.name}/both", "secret", SECRET_LAYER)
    inside = ({"repository": hidden.place.name}, {"repository": shown.name})
    return View(make_view(gateway, *inside, anonymous_read=True), shown, None)


def test_a18_a_public_view_shows_nothing_of_a_private_member(view: View, hidden: Opened, stranger: Login) -> None:
    """By every door of the view: not by tag, digest, blob, tags, referrers or catalog, to nobody without the right."""
    digest = sha256(hidden.gateway.admin("GET", f"/v2/{hidden.place.name}/victim/manifests/v1").body)
    for auth in (None, stranger):
        for rest in ("manifests/v1", f"manifests/{digest}", f"blobs/{sha256(SECRET_LAYER)}", "tags/list"):
            for door, way in view.opened.ways("victim", rest).items():
                absent = view.opened.ways("absent", rest)[door]
                for method in ("GET", "HEAD"):
                    there, none = (view.opened.send(method, each, auth=auth) for each in (way, absent))
                    assert there.status == 404, (door, rest)
                    assert told(there, "victim") == told(none, "absent"), (door, rest)
        for way in view.opened.ways("both", "tags/list").values():
            assert view.opened.send("GET", way, auth=auth).json()["tags"] == ["shown"]
        for way in view.opened.ways("victim", f"referrers/{digest}").values():
            assert view.opened.send("GET", way, auth=auth).json()["manifests"] == []


def test_a18_a_view_serves_who_may_read_its_members(view: View, hidden: Opened, gateway: Served) -> None:
    """The same requests with a role on the private member; revoked, they end at once on every worker."""
    reader = make_member(gateway, "reader", hidden.place)
    way = view.opened.ways("victim", f"blobs/{sha256(SECRET_LAYER)}")["full name"]
    for each in view.opened.ways("both", "tags/list").values():
        assert view.opened.send("GET", each, auth=reader).json()["tags"] == ["secret", "shown"]
    for _ in EVERY_WORKER:
        assert view.opened.send("GET", way, auth=reader).body == SECRET_LAYER

    gateway.api("DELETE", f"/api/v1/repos/{hidden.place.name}/grants/{reader[0]}")

    for _ in EVERY_WORKER:
        assert view.opened.send("GET", way, auth=reader).status == 404


def test_a20_the_catalog_of_a_view_is_the_caller_s(
    view: View, hidden: Opened, gateway: Served, stranger: Login
) -> None:
    """Names of a private member are in no list, by no door, and no page is shorter for what it leaves out."""
    name = view.opened.place.name
    reader = make_member(gateway, "reader", hidden.place)
    for auth, wanted in ((stranger, ["both", "open"]), (reader, ["both", "open", "victim"])):
        whole = gateway.request("GET", "/v2/_catalog?n=1000", auth=auth).json()["repositories"]
        here = [each.removeprefix(f"{name}/") for each in whole if each.startswith(f"{name}/")]
        behind = gateway.request("GET", f"/repositories/oci/{name}/v2/_catalog?n=1000", auth=auth).json()[
            "repositories"
        ]
        assert [each for each in here if each in {"both", "open", "victim"}] == wanted
        assert behind == here
        page = gateway.request("GET", f"/repositories/oci/{name}/v2/_catalog?n=1", auth=auth)
        assert page.json()["repositories"] == wanted[:1]


def test_a6_a_view_is_no_source_of_what_is_hidden(view: View, own: str, gateway: Served, stranger: Login) -> None:
    """Mounted from a public view, a private member's layer is absent; a public member's is there."""
    for digest, status in ((sha256(SECRET_LAYER), 202), (sha256(b"a layer for everybody"), 201)):
        for image in ("both", "victim", "open"):
            source = f"{view.opened.place.name}/{image}"
            reply = gateway.request(
                "POST", f"/v2/{own}/blobs/uploads/?mount={digest}&from={source}", b"", auth=stranger
            )
            assert reply.status == (202 if image == "victim" else status), (digest, image)
            gateway.request("DELETE", f"/v2/{own}/blobs/{digest}", auth=stranger)


def test_a12_a_view_without_a_default_takes_nothing(view: View, gateway: Served) -> None:
    """Push, upload and delete are 405 by every door for who may do all, and change nothing in any member."""
    manifest = image_manifest(b"{}")
    for method, rest, body in (
        ("POST", "blobs/uploads/", b""),
        ("PUT", "manifests/v1", manifest),
        ("DELETE", "manifests/shown", None),
        ("DELETE", f"blobs/{sha256(b'a layer for everybody')}", None),
    ):
        for door, way in view.opened.ways("both", rest).items():
            reply = view.opened.send(method, way, body, headers=TYPE, auth=ADMIN)
            assert (reply.status, reply.codes()) == (405, ["UNSUPPORTED"]), (door, method)
    assert gateway.admin("GET", f"/v2/{view.shown.name}/both/manifests/shown").status == 200


def test_a3_a_push_through_a_view_needs_the_right_behind_it(gateway: Served, stranger: Login) -> None:
    """Maintainer of the view is nobody in its default member; writer there pushes through any door of the view."""
    target = make_place(gateway)
    opened = make_view(gateway, {"repository": target.name, "default": True}, anonymous_read=True)
    grant(gateway, stranger, "maintainer", opened.place)
    writer = make_member(gateway, "writer", target)

    for number, way in enumerate(opened.ways("app", "blobs/uploads/").values()):
        assert opened.send("POST", way, b"", auth=stranger).status == 401
        content = f"pushed by door {number}".encode()
        begun = opened.send("POST", way, b"", auth=writer)
        assert begun.status == 202
        location, headers = begun.headers["location"], way[1]
        put = opened.send("PUT", (f"{location}?digest={sha256(content)}", headers), content, auth=writer)
        assert put.status == 201
        assert gateway.admin("GET", f"/v2/{target.name}/app/blobs/{sha256(content)}").body == content


def test_a_view_is_pushed_to_as_a_whole(gateway: Served) -> None:
    """An image whose layer another member has is complete where the push goes: HEAD says what is there."""
    target, other = make_place(gateway), make_place(gateway)
    opened = make_view(
        gateway, {"repository": other.name}, {"repository": target.name, "default": True}, anonymous_read=True
    )
    writer = make_member(gateway, "writer", target)
    gateway.push_image(f"{other.name}/app", "base", b"a base layer")
    name = f"{opened.place.name}/app"
    assert gateway.request("HEAD", f"/v2/{name}/blobs/{sha256(b'a base layer')}", auth=writer).status == 404

    grant(gateway, writer, "reader", other)
    assert gateway.request("HEAD", f"/v2/{name}/blobs/{sha256(b'a base layer')}", auth=writer).status == 200
    gateway.push_blob(name, b"{}", auth=writer)
    put = gateway.request("PUT", f"/v2/{name}/manifests/v2", image_manifest(b"{}", b"a base layer"), TYPE, auth=writer)

    assert put.status == 201
    assert gateway.admin("GET", f"/v2/{target.name}/app/blobs/{sha256(b'a base layer')}").body == b"a base layer"


# --- trouble ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(gateway: Served) -> Place:
    """A proxy whose upstream does not answer."""
    return make_place(
        gateway,
        repository_type="proxy",
        remote_url=f"http://127.0.0.1:{free_port()}",
        private_networks=["127.0.0.0/8"],
        anonymous_read=True,
    )


def test_p10_no_fall_through_while_a_member_is_in_trouble(gateway: Served, dead: Place) -> None:
    """The name that the private member may have is not served by the public one: 503 by every door, never 404."""
    public = make_place(gateway, anonymous_read=True)
    gateway.push_image(f"{public.name}/app", "v1", b"confusing")
    inside = ({"repository": dead.name}, {"repository": public.name})
    opened = make_view(gateway, *inside, anonymous_read=True)
    trusting = make_view(gateway, *inside, anonymous_read=True, on_member_failure="skip")

    for rest in ("manifests/v1", "manifests/none", "tags/list", f"referrers/{sha256(b'x')}"):
        for door, way in opened.ways("app", rest).items():
            reply = opened.send("GET", way)
            assert (reply.status, reply.codes(), "retry-after" in reply.headers) == (503, ["UNAVAILABLE"], True), door
    for way in opened.ways("app", f"blobs/{sha256(b'confusing')}").values():
        assert opened.send("GET", way).body == b"confusing"  # a digest cannot be confused
    for way in trusting.ways("app", "manifests/v1").values():
        assert trusting.send("GET", way).status == 200
    assert trusting.send("GET", trusting.ways("app", "manifests/none")["full name"]).status == 503


def test_p10_patterns_keep_names_to_their_member(gateway: Served, dead: Place) -> None:
    """What only the healthy member is asked for does not hang on the other."""
    public = make_place(gateway, anonymous_read=True)
    gateway.push_image(f"{public.name}/team/app", "v1", b"ours")
    opened = make_view(
        gateway,
        {"repository": dead.name, "exclude": ["team/*"]},
        {"repository": public.name, "include": ["team/*"]},
        anonymous_read=True,
    )

    assert opened.send("GET", opened.ways("team/app", "manifests/v1")["host"]).status == 200
    assert opened.send("GET", opened.ways("app", "manifests/v1")["host"]).status == 503
