"""Protocol section 1.5: rights and concealment, row by row; with MT-03, MP-22 and DL-09, which are about rights too."""

import pytest

from tests.people import Login, Place, make_member, make_place, make_robot, make_user, unique
from tests.served import OCI_INDEX, OCI_MANIFEST, Reply, Served, image_index, image_manifest, sha256

TYPE = {"Content-Type": OCI_MANIFEST}
DOCKER = "docker/26.1.4 go/go1.21.11 git-commit/de5c9cf kernel/6.1.0 os/linux arch/amd64 UpstreamClient(Docker-Client)"
LAYER = b"a layer of the private image" * 70


@pytest.fixture(scope="session")
def writer(gateway: Served, private: Place) -> Login:
    """Who may pull from and push to the private repository."""
    return make_member(gateway, "writer", private)


@pytest.fixture(scope="session")
def secret(gateway: Served, private: Place) -> str:
    """A private image, tagged v1, with a layer `LAYER`."""
    name = f"{private.name}/secret"
    gateway.push_image(name, "v1", LAYER)
    return name


@pytest.fixture
def place(private: Place) -> str:
    """An image name in the private repository that nobody else uses."""
    return f"{private.name}/{unique('app')}"


def same(reply: Reply, name: str) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer that may not differ from one name to another: the name itself, date and request id left out."""
    headers = [(key, value) for key, value in reply.all_headers if key not in {"date", "x-request-id"}]
    hidden = [(key, value.replace(name, "NAME").replace(str(len(reply.body)), "SIZE")) for key, value in headers]
    return reply.status, reply.body.replace(name.encode(), b"NAME"), hidden


READS = [
    "tags/list",
    "manifests/v1",
    "manifests/v2",
    f"manifests/{sha256(b'')}",
    f"blobs/{sha256(LAYER)}",
    f"blobs/{sha256(b'absent')}",
    f"referrers/{sha256(LAYER)}",
]


@pytest.fixture
def who(request: pytest.FixtureRequest, outsider: Login) -> Login | None:
    """Somebody without rights: nobody, or a user without any role."""
    return outsider if request.param == "outsider" else None


def twins(secret: str) -> list[str]:
    """Names as long as the secret one that lead nowhere: no image, no repository, no project."""
    project, repository, image = secret.split("/")
    nowhere = [f"{project}/{repository}/absent", f"{project}/{'x' * len(repository)}/{image}"]
    return [*nowhere, f"{'y' * len(project)}/{repository}/{image}"]


@pytest.mark.parametrize("rest", READS)
@pytest.mark.parametrize("by", ["token", "basic"])
@pytest.mark.parametrize("who", ["nobody", "outsider"], indirect=True)
def test_acc_01_02_what_is_private_looks_absent(
    gateway: Served, secret: str, who: Login | None, by: str, rest: str
) -> None:
    """To who may not pull, existing and missing names, tags and digests give one answer, byte by byte: a challenge."""
    replies = []
    for name in (secret, *twins(secret)):
        auth = gateway.token(f"repository:{name}:pull", auth=who) if by == "token" else who
        replies.append(same(gateway.request("GET", f"/v2/{name}/{rest}", auth=auth), name))

    assert replies[0][0] == 401
    assert all(reply == replies[0] for reply in replies)


def test_acc_02_404_only_after_pull_is_proven(gateway: Served, private: Place, place: str) -> None:
    """Who may pull is told that a thing is missing."""
    reader = make_member(gateway, "reader", private)

    for rest in ("tags/list", "manifests/v1", f"blobs/{sha256(b'')}"):
        assert gateway.request("GET", f"/v2/{place}/{rest}", auth=reader).status == 404


def test_acc_03_policy_is_403(gateway: Served) -> None:
    """A rule that forbids what the caller has the right to do is 403 DENIED with a message and without a challenge."""
    fixed = make_place(gateway, immutable_tags=["v*"])
    writer = make_member(gateway, "maintainer", fixed)
    name = f"{fixed.name}/app"
    gateway.push_image(name, "v1", b"first", auth=writer)

    gateway.push_blob(name, b"{}", auth=writer)
    moved = gateway.request("PUT", f"/v2/{name}/manifests/v1", image_manifest(b"{}"), TYPE, auth=writer)
    deleted = gateway.request("DELETE", f"/v2/{name}/manifests/v1", auth=writer)

    for reply in (moved, deleted):
        assert (reply.status, reply.codes()) == (403, ["DENIED"])
        assert "v*" in reply.json()["errors"][0]["message"]
        assert "www-authenticate" not in reply.headers


def test_acc_04_a_digest_opens_one_image_only(gateway: Served, secret: str, place: str, writer: Login) -> None:
    """A blob known in one image is 404 in every other, also of the same repository, until it is pushed there."""
    path = f"/v2/{place}/blobs/{sha256(LAYER)}"
    assert gateway.request("HEAD", f"/v2/{secret}/blobs/{sha256(LAYER)}", auth=writer).status == 200
    assert gateway.request("GET", path, auth=writer).status == 404
    assert gateway.request("GET", path, headers={"Range": "bytes=0-1"}, auth=writer).status == 404
    assert gateway.request("DELETE", path, auth=make_member(gateway, "maintainer", *_place_of(place))).status == 404

    gateway.push_blob(place, LAYER, auth=writer)

    assert gateway.request("GET", path, auth=writer).body == LAYER


def _place_of(name: str) -> list[Place]:
    project, repository, _ = name.split("/", 2)
    return [Place(project, repository)]


def test_acc_04_a_manifest_belongs_to_one_image(gateway: Served, secret: str, place: str, writer: Login) -> None:
    """A manifest's digest does not open it through another image."""
    digest = gateway.admin("HEAD", f"/v2/{secret}/manifests/v1").headers["docker-content-digest"]
    gateway.push_blob(place, b"{}", auth=writer)

    assert gateway.request("GET", f"/v2/{place}/manifests/{digest}", auth=writer).status == 404


def test_acc_05_pushing_does_not_read(gateway: Served, private: Place, secret: str) -> None:
    """A key for pushing only pushes, and reads nothing: no blob, no tag, no list, also not by a token."""
    pusher = make_robot(gateway, ("writer", private), actions=["push"])
    name = f"{private.name}/{unique('app')}"
    digest, _ = gateway.push_image(name, "v1", b"pushed", auth=pusher)
    token = gateway.token(f"repository:{name}:pull,push", f"repository:{secret}:pull,push", auth=pusher)

    for auth in (pusher, token):
        for rest in ("tags/list", "manifests/v1", f"manifests/{digest}", f"blobs/{sha256(b'pushed')}"):
            for method in ("GET", "HEAD"):
                assert gateway.request(method, f"/v2/{name}/{rest}", auth=auth).status == 401
        assert gateway.request("HEAD", f"/v2/{secret}/blobs/{sha256(LAYER)}", auth=auth).status == 401
        mount = f"/v2/{name}/blobs/uploads/?mount={sha256(LAYER)}&from={secret}"
        assert gateway.request("POST", mount, b"", auth=auth).status == 202


@pytest.mark.parametrize("method", ["GET", "PATCH", "PUT", "DELETE"])
def test_acc_06_a_session_is_of_one_image_and_one_account(
    gateway: Served, private: Place, place: str, writer: Login, method: str
) -> None:
    """Through another image, or by another account that may push there too, the session does not exist."""
    other = make_member(gateway, "writer", private)
    location = gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=writer).headers["location"]
    moved = location.replace(place, f"{private.name}/elsewhere")
    query = f"?digest={sha256(b'')}"

    replies = [
        gateway.request(method, f"{location}{query}", b"", auth=other),
        gateway.request(method, f"{moved}{query}", b"", auth=writer),
        gateway.admin(method, f"{location}{query}", b""),
    ]

    assert [(reply.status, reply.codes()) for reply in replies] == [(404, ["BLOB_UPLOAD_UNKNOWN"])] * 3
    assert gateway.request("PUT", f"{location}?digest={sha256(b'mine')}", b"mine", auth=writer).status == 201


def test_acc_07_lists_need_pull(gateway: Served, private: Place, secret: str, outsider: Login) -> None:
    """Tags and referrers are refused without pull, and the catalog holds only what its reader may pull."""
    reader = make_member(gateway, "reader", private)
    for rest in ("tags/list", f"referrers/{sha256(LAYER)}"):
        assert gateway.request("GET", f"/v2/{secret}/{rest}", auth=outsider).status == 401
        assert gateway.request("GET", f"/v2/{secret}/{rest}", auth=reader).status == 200

    assert gateway.request("GET", "/v2/_catalog").status == 401
    public = gateway.request("GET", "/v2/_catalog", auth=outsider).json()["repositories"]
    listed = gateway.request("GET", "/v2/_catalog", auth=reader).json()["repositories"]
    assert secret not in public
    assert secret in listed
    assert all(each.startswith(f"{private.name}/") for each in set(listed) - set(public))


def test_acc_07_the_catalog_by_token(gateway: Served, private: Place, secret: str) -> None:
    """A token reaches the catalog only if it was asked for that, and shows no more than its owner may pull."""
    reader = make_member(gateway, "reader", private)
    without, having = (gateway.token(*scopes, auth=reader) for scopes in ((), ("registry:catalog:*",)))

    refused = gateway.request("GET", "/v2/_catalog", auth=without)
    assert refused.status == 401
    assert 'scope="registry:catalog:*",error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert secret in gateway.request("GET", "/v2/_catalog", auth=having).json()["repositories"]
    nobody = gateway.token("registry:catalog:*", auth=None)
    assert gateway.request("GET", "/v2/_catalog", auth=nobody).status == 401


def test_acc_08_a_digest_is_no_proof(gateway: Served, place: str, writer: Login) -> None:
    """Closing an upload with the digest of stored content but without its bytes is 400, and nothing is linked."""
    digest = gateway.push_blob(f"{make_place(gateway).name}/app", LAYER + b", somewhere else")
    location = gateway.request("POST", f"/v2/{place}/blobs/uploads/", b"", auth=writer).headers["location"]

    replies = [
        gateway.request("PUT", f"{location}?digest={digest}", b"", auth=writer),
        gateway.request("POST", f"/v2/{place}/blobs/uploads/?digest={digest}", b"", auth=writer),
        gateway.request("POST", f"/v2/{place}/blobs/uploads/?digest={digest}", LAYER, auth=writer),
    ]

    assert [(reply.status, reply.codes()) for reply in replies] == [(400, ["DIGEST_INVALID"])] * 3
    assert gateway.request("HEAD", f"/v2/{place}/blobs/{digest}", auth=writer).status == 404
    manifest = image_manifest(LAYER + b", somewhere else")
    named = gateway.request("PUT", f"/v2/{place}/manifests/v1", manifest, TYPE, auth=writer)
    assert (named.status, named.codes()) == (400, ["MANIFEST_BLOB_UNKNOWN"])


def test_acc_09_a_token_is_for_the_very_name(gateway: Served, private: Place, writer: Login) -> None:
    """A token for `a` is worth nothing on `a/b`, on `aa`, on the repository or above."""
    name = f"{private.name}/{unique('app')}"
    gateway.push_image(name, "v1", b"x", auth=writer)
    token = gateway.token(f"repository:{name}:pull,push", auth=writer)
    assert gateway.request("GET", f"/v2/{name}/tags/list", auth=token).status == 200

    for other in (f"{name}/b", f"{name}a", name[:-1], private.name, private.project, f"{name}/{name}"):
        reply = gateway.request("GET", f"/v2/{other}/tags/list", auth=token)
        assert reply.status == 401
        assert 'error="insufficient_scope"' in reply.headers["www-authenticate"]


def test_acc_10_dl_09_deleting_is_a_right_of_its_own(gateway: Served, private: Place, place: str) -> None:
    """Who may push overwrites tags but deletes nothing, and is told the scope `delete`; a maintainer deletes."""
    writer, maintainer = make_member(gateway, "writer", private), make_member(gateway, "maintainer", private)
    gateway.push_image(place, "v1", b"first", auth=writer)
    digest, _ = gateway.push_image(place, "v1", b"second", auth=writer)

    for rest in ("manifests/v1", f"manifests/{digest}", f"blobs/{sha256(b'second')}"):
        refused = gateway.request("DELETE", f"/v2/{place}/{rest}", auth=writer)
        assert refused.status == 401
        assert f'scope="repository:{place}:delete"' in refused.headers["www-authenticate"]
    token = gateway.token(f"repository:{place}:pull,push,delete", auth=writer)
    assert gateway.request("DELETE", f"/v2/{place}/manifests/{digest}", auth=token).status == 401

    assert gateway.request("DELETE", f"/v2/{place}/manifests/v1", auth=maintainer).status == 202
    assert gateway.request("DELETE", f"/v2/{place}/manifests/{digest}", auth=maintainer).status == 202


def test_acc_10_a_key_for_deleting_does_not_push(gateway: Served, private: Place, place: str) -> None:
    """Delete without push deletes and overwrites nothing."""
    gateway.push_image(place, "v1", b"kept")
    cleaner = make_robot(gateway, ("maintainer", private), actions=["delete"])

    assert gateway.request("PUT", f"/v2/{place}/manifests/v1", image_manifest(b"{}"), TYPE, auth=cleaner).status == 401
    assert gateway.request("DELETE", f"/v2/{place}/manifests/v1", auth=cleaner).status == 202


def mount(gateway: Served, target: str, source: str, auth: Login | str, content: bytes = LAYER) -> Reply:
    """Ask for a blob of another image."""
    path = f"/v2/{target}/blobs/uploads/?mount={sha256(content)}&from={source}"
    return gateway.request("POST", path, b"", auth=auth)


def test_mt_03_a_token_that_never_asked(gateway: Served, secret: str, place: str, writer: Login) -> None:
    """A token without the source is told both scopes, and one with both mounts."""
    reply = mount(gateway, place, secret, gateway.token(f"repository:{place}:pull,push", auth=writer))
    both = f"repository:{place}:pull,push repository:{secret}:pull"
    assert reply.status == 401
    assert f'scope="{both}",error="insufficient_scope"' in reply.headers["www-authenticate"]

    again = mount(gateway, place, secret, gateway.token(both.replace(" ", "%20"), auth=writer))

    assert (again.status, again.headers["location"]) == (201, f"/v2/{place}/blobs/{sha256(LAYER)}")


@pytest.mark.parametrize("source", ["secret", "missing image", "missing repository"])
@pytest.mark.parametrize("by", ["token", "basic"])
def test_mt_03_refused_softly(gateway: Served, secret: str, by: str, source: str) -> None:
    """A token that asked in vain, and Basic, get 202 and a usable session, whether or not there is such a source."""
    target = make_place(gateway)
    pusher = make_member(gateway, "writer", target)
    project, repository, _ = secret.split("/")
    name = {"secret": secret, "missing image": f"{project}/{repository}/x"}.get(source, f"{project}/none/x")
    to = f"{target.name}/app"
    token = gateway.token(f"repository:{to}:pull,push", f"repository:{name}:pull", auth=pusher)

    reply = mount(gateway, to, name, pusher if by == "basic" else token)

    assert (reply.status, reply.headers["range"]) == (202, "0-0")
    assert gateway.request("GET", f"/v2/{to}/blobs/{sha256(LAYER)}", auth=pusher).status == 404
    own = gateway.request("PUT", f"{reply.headers['location']}?digest={sha256(b'own')}", b"own", auth=pusher)
    assert own.status == 201


def test_mt_03_the_first_refusal_tells_nothing(gateway: Served, secret: str) -> None:
    """A token that never asked for the source hears the same of a private and of a missing one."""
    target = make_place(gateway)
    pusher = make_member(gateway, "writer", target)
    token = gateway.token(f"repository:{target.name}/app:pull,push", auth=pusher)

    replies = [same(mount(gateway, f"{target.name}/app", name, token), name) for name in (secret, *twins(secret))]

    assert replies[0][0] == 401
    assert all(reply == replies[0] for reply in replies)


@pytest.fixture
def fixed(gateway: Served) -> tuple[str, Login]:
    """An image name where all tags are immutable, its config already there, and who may push to it."""
    place = make_place(gateway, immutable_tags=["*"])
    pusher = make_member(gateway, "writer", place)
    gateway.push_blob(f"{place.name}/app", b"{}", auth=pusher)
    return f"{place.name}/app", pusher


def put(gateway: Served, at: tuple[str, Login], tag: str, content: bytes, agent: str = "") -> Reply:
    """PUT a manifest or index to a tag."""
    name, pusher = at
    kind = OCI_INDEX if b'"manifests"' in content else OCI_MANIFEST
    headers = {"Content-Type": kind, **({"User-Agent": agent} if agent else {})}
    return gateway.request("PUT", f"/v2/{name}/manifests/{tag}", content, headers, auth=pusher)


CHILDREN = [image_manifest(b"{}", annotations={"child": str(number)}) for number in range(3)]


def test_mp_22_immutable(gateway: Served, fixed: tuple[str, Login]) -> None:
    """An immutable tag goes to no other digest, by any way of naming it; the same digest again is 201."""
    name, pusher = fixed
    first, second = CHILDREN[:2]
    assert put(gateway, fixed, "v1", first).status == 201

    tagged = f"/v2/{name}/manifests/{sha256(second)}?tag=new&tag=v1"
    replies = [put(gateway, fixed, "v1", second), gateway.request("PUT", tagged, second, TYPE, auth=pusher)]

    assert [(reply.status, reply.codes()) for reply in replies] == [(403, ["DENIED"])] * 2
    assert put(gateway, fixed, "v1", first).status == 201
    assert put(gateway, fixed, sha256(second), second).status == 201
    assert gateway.request("GET", f"/v2/{name}/manifests/v1", auth=pusher).body == first
    assert gateway.request("GET", f"/v2/{name}/tags/list", auth=pusher).json()["tags"] == ["v1"]


def test_mp_22_one_push_of_docker_26(gateway: Served, fixed: tuple[str, Login]) -> None:
    """Docker PUTs each child to the tag and then the index that holds them: one act, after which the tag is fixed."""
    name, pusher = fixed
    index = image_index(*CHILDREN)
    assert [put(gateway, fixed, "v1", child, DOCKER).status for child in CHILDREN] == [201] * 3
    assert put(gateway, fixed, "v1", index, DOCKER).status == 201

    assert gateway.request("GET", f"/v2/{name}/manifests/v1", headers={"Accept": "*/*"}, auth=pusher).body == index
    for other in (image_index(CHILDREN[0]), CHILDREN[0]):
        assert put(gateway, fixed, "v1", other, DOCKER).status == 403
        assert put(gateway, fixed, "v1", other, "curl/8").status == 403


@pytest.mark.parametrize("agent", ["", "curl/8", "containerd/2.0", "Docker/26", "x docker/26", "docker"])
def test_mp_22_nobody_else_moves_a_tag(gateway: Served, fixed: tuple[str, Login], agent: str) -> None:
    """A child after a child is docker's way alone; every other client is refused at once."""
    assert put(gateway, fixed, "v1", CHILDREN[0], agent).status == 201

    assert put(gateway, fixed, "v1", CHILDREN[1], agent).status == 403


def test_mp_22_another_account_is_refused(gateway: Served, fixed: tuple[str, Login]) -> None:
    """Docker's way is open to the account that made the tag, and to nobody else, not even an administrator."""
    name, _ = fixed
    project, repository, _ = name.split("/")
    other = make_member(gateway, "writer", Place(project, repository))
    assert put(gateway, fixed, "v1", CHILDREN[0], DOCKER).status == 201

    assert put(gateway, (name, other), "v1", CHILDREN[1], DOCKER).status == 403
    assert put(gateway, (name, other), "v1", image_index(CHILDREN[0]), DOCKER).status == 403
    assert gateway.admin("PUT", f"/v2/{name}/manifests/v1", CHILDREN[1], {**TYPE, "User-Agent": DOCKER}).status == 403


def test_mp_22_an_index_without_the_earlier_child(gateway: Served, fixed: tuple[str, Login]) -> None:
    """The final index counts as the same push only if it contains what the tag points at."""
    assert put(gateway, fixed, "v1", CHILDREN[0], DOCKER).status == 201
    assert put(gateway, fixed, sha256(CHILDREN[1]), CHILDREN[1], DOCKER).status == 201

    assert put(gateway, fixed, "v1", image_index(CHILDREN[1]), DOCKER).status == 403
    assert put(gateway, fixed, "v1", image_index(*CHILDREN[:2]), DOCKER).status == 201


def test_acc_03_a_user_without_any_role_pushes_nowhere(gateway: Served, name: str) -> None:
    """The catch-all repository takes images of its members only."""
    user = make_user(gateway)

    for each in (name, "library/alpine", "alpine"):
        assert gateway.request("POST", f"/v2/{each}/blobs/uploads/", b"", auth=user).status == 401
