"""The way into /v2: every target has its routes, the raw path decides, and trouble is never an answer about content."""

import dataclasses
import json
from contextlib import AbstractAsyncContextManager
from typing import Any, get_args

import pytest

from gateway.access.actions import Action
from gateway.app import build
from gateway.oci.paths import METHODS, Base, Catalog, Target, Token, Unknown
from gateway.repositories.contract import ArrivingBlob, FoundManifest, Repository, TagPage
from gateway.upstream.settings import UPSTREAM
from gateway.v2.routes import ROUTES, Method
from storage import BlobReader, Digest, FoundBlob, RepositoryRecord, Span, Transaction
from storage.metadata import projects, storages
from tests.gateway.edge.visitors import Answer, ask
from tests.gateway.registry import CONFIG, NAME, Registry
from tests.served import OCI_MANIFEST, image_manifest
from tests.storage.metadata import samples

IMAGE = image_manifest(CONFIG)
DIGEST = Digest.of(CONFIG)
SESSION = "00000000-0000-4000-8000-000000000000"
PATHS = {
    "Manifest": f"/v2/{NAME}/manifests/v1",
    "Blob": f"/v2/{NAME}/blobs/{DIGEST}",
    "Uploads": f"/v2/{NAME}/blobs/uploads/",
    "Upload": f"/v2/{NAME}/blobs/uploads/{SESSION}",
    "Tags": f"/v2/{NAME}/tags/list",
    "Referrers": f"/v2/{NAME}/referrers/{DIGEST}",
}
"""One path for each kind of target that names an image."""


def test_every_target_answers_what_it_promises() -> None:
    """What the Allow header tells is what the table holds, so no request ends between the two."""
    for target in get_args(Target):
        routed = {method for kind, method in ROUTES if kind is target}
        promised = set() if target in {Base, Token, Catalog, Unknown} else set(METHODS[target])
        assert routed == promised
    assert {kind.__name__ for kind, _ in ROUTES} == PATHS.keys()


def test_the_right_fits_the_method() -> None:
    """Reading needs pull, removing content needs delete, everything of an upload needs push (rows ACC-05, DL-09)."""
    for (kind, method), route in ROUTES.items():
        if kind.__name__ in {"Uploads", "Upload"} or method == Method.PUT:
            assert route.need is Action.PUSH
        elif method == Method.DELETE:
            assert route.need is Action.DELETE
        else:
            assert route.need is Action.PULL


# --- whose path is it ----------------------------------------------------------------------------------------------


def marked(answer: Answer) -> bool:
    """Whether the answer says that it is of the registry API."""
    return answer.headers.get("docker-distribution-api-version") == "registry/2.0"


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2//", "/v2/%2e%2e/x", "/v2/a/../b/tags/list", "/v2/nothing"])
async def test_whatever_begins_with_v2_is_answered_here(registry: Registry, path: str) -> None:
    """GEN-09 to GEN-13: also what is wrong, in JSON, and never redirected or cleaned up."""
    answer = await registry.ask("GET", path)

    assert marked(answer)
    assert answer.status in {200, 400, 404}
    assert isinstance(json.loads(answer.body), dict)


@pytest.mark.parametrize("path", ["/V2/", "/v2x/", "/v22", "/%76%32/", "//v2/", "/v1/../v2/", "/"])
async def test_what_only_looks_like_v2_is_not(registry: Registry, path: str) -> None:
    """A19: the bytes of the path decide, not what they would be decoded or cleaned up to."""
    answer = await registry.ask("GET", path)

    assert answer.status == 404
    assert not marked(answer)


# --- who is asked first --------------------------------------------------------------------------------------------


class Unread:
    """A request's body that nobody may read."""

    def __init__(self) -> None:
        self.was_read = False

    async def __call__(self) -> Any:
        """The server's side of reading."""
        self.was_read = True
        return {"type": "http.request", "body": b"x", "more_body": False}


@pytest.mark.parametrize(
    "line", ["PUT Manifest", "POST Uploads", "PATCH Upload", "PUT Upload", "DELETE Blob"], ids=lambda line: line
)
async def test_no_byte_is_read_of_who_may_not(registry: Registry, line: str) -> None:
    """GEN-16: the guard decides before the body, so a refused client is never told to go on sending."""
    method, kind = line.split()
    stranger = await registry.member("stranger")
    for auth in (stranger, None, "Bearer nonsense"):
        body = Unread()
        headers = {"Content-Length": "1", **({"Authorization": auth} if auth else {})}
        answer = await ask(registry.app, PATHS[kind], method, headers, receive=body)

        assert (answer.status, body.was_read) == (401, False)


# --- trouble -------------------------------------------------------------------------------------------------------


async def test_a_dead_database_is_503_everywhere(registry: Registry) -> None:
    """A26: every route, the base, the catalog and the token endpoint say that it is our trouble and when to retry."""
    await registry.push_image("v1")
    token = json.loads((await registry.ask("GET", f"/v2/token?scope=repository:{NAME}:pull,push")).body)["token"]
    await registry.services.database.aclose()

    lines = [(method, PATHS[kind.__name__]) for kind, method in ROUTES]
    lines += [("GET", "/v2/"), ("GET", "/v2/_catalog"), ("GET", "/v2/token")]
    for method, path in lines:
        for auth in (registry.admin, f"Bearer {token}"):
            answer = await registry.ask(method, path, IMAGE, {"Content-Type": OCI_MANIFEST}, auth=auth)

            assert (answer.status, answer.headers.get("retry-after")) == (503, "5"), (method, path, auth[:6])
            assert marked(answer)
            assert "www-authenticate" not in answer.headers


async def test_a_dead_database_is_503_at_the_token_endpoint(registry: Registry) -> None:
    """TOK-22, A27: by POST, too, neither passwords nor refresh tokens are wrong because we cannot look."""
    login = json.loads((await registry.ask("GET", "/v2/token?offline_token=true")).body)
    await registry.services.database.aclose()

    for form in (
        "grant_type=password&username=boss&password=some-password",
        f"grant_type=refresh_token&service=sluice&refresh_token={login['refresh_token']}",
    ):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await registry.ask("POST", "/v2/token", form.encode(), headers, auth=None)

        assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])


async def test_a_repository_of_a_newer_version_is_503(registry: Registry) -> None:
    """A row that this program cannot serve is our trouble: nobody concludes that the image is gone."""

    def create(tx: Transaction) -> None:
        assert projects.find(tx, "common") is not None
        samples.repository(tx, "common/odd", repository_type="teleport", storage_id=storages.ensure(tx, "default"))

    await registry.services.database.transaction(create)

    for method, path in (("GET", "tags/list"), ("GET", "manifests/v1"), ("PUT", "manifests/v1")):
        answer = await registry.ask(method, f"/v2/common/odd/app/{path}", IMAGE, {"Content-Type": OCI_MANIFEST})
        assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])


# --- what cannot be written ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ReadOnly:
    """A repository that serves what another one holds, and has no way of writing."""

    inner: Repository

    @property
    def record(self) -> RepositoryRecord:
        """See `Repository`."""
        return self.inner.record

    async def manifest(self, image: str, reference: Any) -> FoundManifest:
        """See `Repository`."""
        return await self.inner.manifest(image, reference)

    async def find_blob(self, image: str, digest: Digest) -> FoundBlob | ArrivingBlob:
        """See `Repository`."""
        return await self.inner.find_blob(image, digest)

    def open_blob(self, found: FoundBlob, span: Span) -> AbstractAsyncContextManager[BlobReader]:
        """See `Repository`."""
        return self.inner.open_blob(found, span)

    async def tags(self, image: str, *, after: str, limit: int) -> TagPage:
        """See `Repository`."""
        return await self.inner.tags(image, after=after, limit=limit)

    async def referrers(self, image: str, subject: Digest, **asked: Any) -> Any:
        """See `Repository`."""
        return await self.inner.referrers(image, subject, **asked)


async def test_a_repository_that_only_reads_refuses_every_write(registry: Registry) -> None:
    """A12: 405 with what works, to who has the right, for tags, manifests, blobs and uploads; reading goes on."""
    await registry.push_image("v1")
    inner = registry.services.open_repository
    services = dataclasses.replace(
        registry.services, open_repository=lambda record, caller: ReadOnly(inner(record, caller))
    )
    proxy = dataclasses.replace(registry, services=services, app=build(services))
    writes = [
        ("PUT", PATHS["Manifest"]),
        ("DELETE", PATHS["Manifest"]),
        ("DELETE", f"/v2/{NAME}/manifests/{Digest.of(IMAGE)}"),
        ("DELETE", PATHS["Blob"]),
        ("POST", PATHS["Uploads"]),
        ("POST", f"{PATHS['Uploads']}?mount={DIGEST}&from={NAME}"),
    ]
    stranger = await registry.member("stranger")

    for method, path in writes:
        answer = await proxy.ask(method, path, IMAGE, {"Content-Type": OCI_MANIFEST})
        assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"]), (method, path)
        assert answer.headers["allow"] == "GET, HEAD"
        assert (await proxy.ask(method, path, auth=stranger)).status == 401

    assert (await proxy.ask("GET", PATHS["Manifest"])).body == IMAGE
    assert (await proxy.ask("GET", PATHS["Blob"])).body == CONFIG
    assert json.loads((await proxy.ask("GET", PATHS["Tags"])).body)["tags"] == ["v1"]
    assert (await proxy.ask("GET", PATHS["Referrers"])).status == 200


@pytest.mark.parametrize("kind", ["proxy", "virtual"])
async def test_a12_whatever_writes_is_refused_where_nothing_can_be_written(registry: Registry, kind: str) -> None:
    """Whatever does not read is 405 on a proxy and on a view without a member for pushes, and says where it goes."""
    settings = json.dumps({UPSTREAM: {"urls": ["https://registry.example"]}}) if kind == "proxy" else "{}"
    database = registry.services.database
    await database.transaction(samples.repository, "common/else", repository_type=kind, settings=settings)

    for target, method in ROUTES:
        if method in {Method.GET, Method.HEAD}:
            continue
        path = PATHS[target.__name__].replace(NAME, "common/else/app")
        query = f"?digest={DIGEST}" if target.__name__ == "Upload" else ""
        answer = await registry.ask(method, f"{path}{query}", IMAGE, {"Content-Type": OCI_MANIFEST})
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD"), (target, method)
        assert f"common/else is {'a proxy' if kind == 'proxy' else kind}: push " in answer.body.decode()
