"""The authorisation matrix over HTTP: every route, every kind of principal, every way of logging in, exact statuses.

Routes come from the tables that the gateway dispatches by; what each must answer stands here. A route without a row
fails, and so does a row without a route (security rows A1, A2, A4, A5, A24).
"""

import json
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pytest

from gateway.api.route import Route
from gateway.api.routes import ROUTES as API_ROUTES
from gateway.oci import paths
from gateway.v2.routes import ROUTES as V2_ROUTES
from tests.people import Login, Place, make, make_place, make_user, unique
from tests.security.principals import NAMES, REFUSED, Person, assemble
from tests.served import OCI_MANIFEST, Served, image_manifest, send, sha256

pytestmark = pytest.mark.slow  # some thousand requests

CONFIG: Final = b'{"of":"the matrix"}'
LAYER: Final = b"a layer of the matrix"
IMAGE: Final = image_manifest(CONFIG, LAYER)
ABSENT: Final = sha256(b"absent")
SESSION: Final = "00000000-0000-4000-8000-000000000000"

# --- the registry API -------------------------------------------------------------------------------------------------

HELD: Final = {
    "anonymous": "",
    "wrong password": "",
    "disabled": "",
    "expired robot": "",
    "outsider": "",
    "reader": "pull",
    "writer": "pull push",
    "maintainer": "pull push delete",
    "owner": "pull push delete",
    "pull robot": "pull",
    "pull token": "pull",
    "auditor": "pull",
    "admin": "pull push delete",
}
"""What each may do in the private repository that the roles are on."""

ELSEWHERE: Final = {"auditor": "pull", "admin": "pull push delete"}
"""What anybody may do in somebody else's private repository, and under a name that leads nowhere."""

# Route: the right it takes, path, body, then the status for who has it where the image exists and where it does not.
# Removals name what is not there, so that every cell is asked of the same state.
V2: Final[dict[tuple[type, str], tuple[str, str, bytes | None, int, int]]] = {
    (paths.Manifest, "GET"): ("pull", "manifests/v1", None, 200, 404),
    (paths.Manifest, "HEAD"): ("pull", f"manifests/{sha256(IMAGE)}", None, 200, 404),
    (paths.Manifest, "PUT"): ("push", "manifests/v1", IMAGE, 201, 400),
    (paths.Manifest, "DELETE"): ("delete", "manifests/absent", None, 404, 404),
    (paths.Blob, "GET"): ("pull", f"blobs/{sha256(LAYER)}", None, 200, 404),
    (paths.Blob, "HEAD"): ("pull", f"blobs/{sha256(LAYER)}", None, 200, 404),
    (paths.Blob, "DELETE"): ("delete", f"blobs/{ABSENT}", None, 404, 404),
    (paths.Uploads, "POST"): ("push", "blobs/uploads/", b"", 202, 202),
    (paths.Upload, "GET"): ("push", f"blobs/uploads/{SESSION}", None, 404, 404),
    (paths.Upload, "HEAD"): ("push", f"blobs/uploads/{SESSION}", None, 404, 404),
    (paths.Upload, "PATCH"): ("push", f"blobs/uploads/{SESSION}", b"x", 404, 404),
    (paths.Upload, "PUT"): ("push", f"blobs/uploads/{SESSION}?digest={ABSENT}", b"x", 404, 404),
    (paths.Upload, "DELETE"): ("push", f"blobs/uploads/{SESSION}", None, 404, 404),
    (paths.Tags, "GET"): ("pull", "tags/list", None, 200, 404),
    (paths.Tags, "HEAD"): ("pull", "tags/list", None, 200, 404),
    (paths.Referrers, "GET"): ("pull", f"referrers/{ABSENT}", None, 200, 200),
    (paths.Referrers, "HEAD"): ("pull", f"referrers/{ABSENT}", None, 200, 200),
}

# What is no image: path, body, and who gets what by Basic (or without credentials) and by a registry token.
_FORM: Final = b"grant_type=password&username=&password="
OTHERS: Final[dict[tuple[type, str], tuple[str, bytes | None]]] = {
    (paths.Base, "GET"): ("/v2/", None),
    (paths.Base, "HEAD"): ("/v2/", None),
    (paths.Catalog, "GET"): ("/v2/_catalog", None),
    (paths.Catalog, "HEAD"): ("/v2/_catalog", None),
    (paths.Token, "GET"): ("/v2/token", None),
    (paths.Token, "POST"): ("/v2/token", _FORM),
}


def expected_of_others(target: type, name: str, way: str) -> int:
    """The status of a route that is no image's."""
    if name in REFUSED:
        return 401
    if target is paths.Token:  # a registry token is not exchanged for another
        return 401 if way == "bearer" else 200
    if name == "anonymous":  # with a token it is at least known that he asked
        return 200 if target is paths.Base and way == "bearer" else 401
    return 200


WAYS: Final = ("basic", "bearer", "secret as bearer")
KINDS: Final = ("private", "public", "foreign", "missing")


def expected(kind: str, name: str, need: str) -> bool:
    """Whether this principal has the right in this kind of repository."""
    held = HELD[name] if kind == "private" else ELSEWHERE.get(name, "")
    if kind == "public" and name not in REFUSED:
        held += " pull"
    return need in held.split()


@pytest.fixture(scope="module")
def images(gateway: Served, private: Place) -> dict[str, str]:
    """An image name of each kind; all but the missing one have been pushed."""
    public, foreign = make_place(gateway, anonymous_read=True), make_place(gateway)
    names = {kind: f"{place.name}/app" for kind, place in zip(KINDS, (private, public, foreign), strict=False)}
    for name in names.values():
        for content in (CONFIG, LAYER):
            gateway.push_blob(name, content)
        put = gateway.admin("PUT", f"/v2/{name}/manifests/v1", IMAGE, {"Content-Type": OCI_MANIFEST})
        assert put.status == 201
    return {**names, "missing": f"{unique('nowhere')}/app"}


@dataclass(frozen=True, slots=True)
class Asked:
    """The gateway, an image of each kind, and one person of each kind."""

    gateway: Served
    images: dict[str, str]
    people: dict[str, Person]

    def credentials(self, name: str, way: str) -> Login | str | None:
        """What this person sends this way; a secret can be a password or a bearer token."""
        person = self.people[name]
        if way == "bearer":
            return person.token(self.gateway, *_scopes(self.images))
        if way == "secret as bearer":
            assert person.login is not None
            return person.login[1]
        return person.login


def _scopes(images: dict[str, str]) -> tuple[str, ...]:
    """All that a token could carry."""
    return (*(f"repository:{name}:*" for name in images.values()), "registry:catalog:*")


@pytest.fixture(scope="module")
def asked(gateway: Served, private: Place, images: dict[str, str]) -> Asked:
    """Who is asked, of what, by whom."""
    people = assemble(gateway, private, _scopes(images))
    assert people.keys() == set(NAMES) == HELD.keys()
    return Asked(gateway, images, people)


def test_every_route_has_a_row() -> None:
    """A route that nobody decided about fails here, and so does a row whose route is gone."""
    assert V2_ROUTES.keys() == V2.keys()
    answered = {(target, method) for target, methods in paths.METHODS.items() for method in methods}
    assert answered == V2.keys() | OTHERS.keys()
    assert {route.act for route in API_ROUTES} == API.keys()
    assert {len(row.split()) for row, _, _ in API.values()} == {len(NAMES)}


CELLS: Final = [
    (name, way)
    for name in NAMES
    for way in WAYS
    if way != "secret as bearer" or name in {"expired robot", "pull robot", "pull token"}
]
"""Who, and how; only robots and personal tokens have a secret that could be a bearer token."""


@pytest.mark.parametrize(("name", "way"), CELLS)
def test_the_registry_matrix_holds(asked: Asked, name: str, way: str) -> None:
    """Each route of /v2, on each kind of repository, answers this principal as its row says."""
    auth = asked.credentials(name, way)
    wrong: list[str] = []
    with closing(asked.gateway.connection()) as connection:
        for kind, image in asked.images.items():
            for (target, method), (need, rest, body, existing, missing) in V2.items():
                right = expected(kind, name, need)
                wanted = (missing if kind == "missing" else existing) if right else 401
                headers = {"Content-Type": OCI_MANIFEST} if target is paths.Manifest and body else {}
                if (kind, name, method, target) == ("missing", "admin", "HEAD", paths.Blob):
                    rest = f"blobs/{ABSENT}"  # noqa: PLW2901  # what he may read elsewhere he need not send: 200
                reply = send(connection, method, f"/v2/{image}/{rest}", body, headers, auth=auth)
                if reply.status != wanted:
                    wrong.append(f"{kind}: {method} {rest}: {reply.status}, not {wanted}: {reply.body[:120]!r}")
        for (target, method), (path, body) in OTHERS.items():
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            reply = send(connection, method, path, body, headers, auth=auth)
            if reply.status != (wanted := expected_of_others(target, name, way)):
                wrong.append(f"{method} {path}: {reply.status}, not {wanted}")

    assert not wrong, "\n".join([f"as {name} by {way}:", *wrong])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_refused_get_no_token(gateway: Served, asked: Asked, name: str) -> None:
    """Whose credentials are not good is refused by the token endpoint, by GET and by POST."""
    login = asked.people[name].login
    assert login is not None
    form = f"grant_type=password&username={login[0]}&password={login[1]}".replace("$", "%24").encode()

    got = gateway.request("GET", "/v2/token?service=sluice", auth=login)
    posted = gateway.request("POST", "/v2/token", form, {"Content-Type": "application/x-www-form-urlencoded"})

    assert (got.status, posted.status) == (401, 401)
    assert got.body == posted.body


@pytest.mark.parametrize(("name", "way"), [cell for cell in CELLS if cell[0] not in {"auditor", "admin"}])
def test_foreign_and_missing_are_one(asked: Asked, name: str, way: str) -> None:
    """To who has no right, a foreign private image and a name that leads nowhere give answers equal byte by byte."""
    auth = asked.credentials(name, way)
    foreign = asked.images["foreign"]
    missing = f"{'x' * foreign.index('/')}{foreign[foreign.index('/') :]}"
    wrong: list[str] = []
    with closing(asked.gateway.connection()) as connection:
        for (_, method), (_, rest, body, _, _) in V2.items():
            replies = []
            for image in (foreign, missing):
                reply = send(connection, method, f"/v2/{image}/{rest}", body, auth=auth)
                headers = [(key, value) for key, value in reply.all_headers if key not in {"date", "x-request-id"}]
                text = json.dumps([reply.status, headers, reply.body.decode()]).replace(image, "IMAGE")
                replies.append(text)
            if replies[0] != replies[1] or not replies[0].startswith("[401"):
                wrong.append(f"{method} {rest}: {replies}")

    assert not wrong, "\n".join([f"as {name} by {way}:", *wrong])


# --- the management API -----------------------------------------------------------------------------------------------

API: Final[dict[str, tuple[str, str, object]]] = {
    # act                    anon wrng disa expi outs read writ main ownr robo toke audi admin
    "health.ready":         ("200  200  200  200  200  200  200  200  200  200  200  200  200", "/health", None),
    "health.live":          ("200  200  200  200  200  200  200  200  200  200  200  200  200", "/health/live", None),
    "metrics.get":          ("401  401  401  401  403  403  403  403  403  403  403  200  200", "/metrics", None),
    "openapi.get":          ("200  200  200  200  200  200  200  200  200  200  200  200  200", "/openapi.json", None),
    "repository.list":      ("401  401  401  401  200  200  200  200  200  200  200  200  200", "/repos", None),
    "repository.create":    ("401  401  401  401  400  403  403  403  409  403  403  403  409", "/repos",
                             {"project": "PROJECT", "name": "REPOSITORY"}),
    "repository.get":       ("401  401  401  401  404  200  200  200  200  200  200  200  200", "REPO", None),
    "repository.change":    ("401  401  401  401  404  403  403  200  200  403  403  403  200", "REPO",
                             {"description": "changed"}),
    "repository.delete":    ("401  401  401  401  404  403  403  403  204  403  403  403  204", "REPO", None),
    "upstream.get":         ("401  401  401  401  404  403  403  404  404  403  403  404  404", "REPO/upstream", None),
    "cache.clear":          ("401  401  401  401  404  403  403  400  400  403  403  403  400", "REPO/cache", None),
    "warm_up.list":         ("401  401  401  401  404  403  403  200  200  403  403  200  200", "REPO/warm", None),
    "warm_up.begin":        ("401  401  401  401  404  403  403  201  201  403  403  403  201", "REPO/warm",
                             {"images": ["none:here"]}),
    "warm_up.get":          ("401  401  401  401  404  403  403  200  200  403  403  200  200", "REPO/warm/LIST", None),
    "repository_grant.list":   ("401 401 401 401  404 403 403 403 200 403 403 200 200", "REPO/grants", None),
    "repository_grant.put":    ("401 401 401 401  404 403 403 403 200 403 403 403 200", "REPO/grants/VICTIM",
                                {"role": "reader"}),
    "repository_grant.delete": ("401 401 401 401  404 403 403 403 204 403 403 403 204", "REPO/grants/VICTIM", None),
    "project.list":         ("401  401  401  401  200  200  200  200  200  200  200  200  200", "/projects", None),
    "project.create":       ("401  401  401  401  403  403  403  403  403  403  403  403  409", "/projects",
                             {"name": "PROJECT"}),
    "project.get":          ("401  401  401  401  404  200  200  200  200  200  200  200  200", "AT", None),
    "project.change":       ("401  401  401  401  404  403  403  403  200  403  403  403  200", "AT",
                             {"description": "changed"}),
    "project.delete":       ("401  401  401  401  404  403  403  403  403  403  403  403  409", "AT", None),
    "project_grant.list":   ("401  401  401  401  404  403  403  403  200  403  403  200  200", "AT/grants", None),
    "project_grant.put":    ("401  401  401  401  404  403  403  403  200  403  403  403  200", "AT/grants/VICTIM",
                             {"role": "reader"}),
    "project_grant.delete": ("401  401  401  401  404  403  403  403  204  403  403  403  204", "AT/grants/VICTIM",
                             None),
    "user.list":            ("401  401  401  401  403  403  403  403  403  403  403  200  200", "/users", None),
    "user.create":          ("401  401  401  401  403  403  403  403  403  403  403  403  409", "/users",
                             {"name": "VICTIM"}),
    "user.get":             ("401  401  401  401  404  404  404  404  404  404  404  200  200", "/users/VICTIM", None),
    "user.change":          ("401  401  401  401  404  404  404  404  404  404  404  403  200", "/users/VICTIM",
                             {"description": "changed"}),
    "user.delete":          ("401  401  401  401  404  404  404  404  404  404  404  403  204", "/users/VICTIM", None),
    "robot.list":           ("401  401  401  401  403  403  403  403  403  403  403  200  200", "/robots", None),
    "robot.create":         ("401  401  401  401  400  403  403  403  409  403  403  403  409", "/robots",
                             {"project": "PROJECT", "name": "ROBOT"}),
    "robot.get":            ("401  401  401  401  404  404  404  404  200  404  404  200  200", "/robots/ROBOT", None),
    "robot.change":         ("401  401  401  401  404  404  404  404  200  404  404  403  200", "/robots/ROBOT",
                             {"description": "changed"}),
    "robot.delete":         ("401  401  401  401  404  404  404  404  204  404  404  403  204", "/robots/ROBOT", None),
    "robot_key.list":       ("401  401  401  401  404  404  404  404  200  404  404  200  200", "/robots/ROBOT/keys",
                             None),
    "robot_key.create":     ("401  401  401  401  404  404  404  404  201  404  404  403  201", "/robots/ROBOT/keys",
                             {"label": "new"}),
    "robot_key.delete":     ("401  401  401  401  404  404  404  404  204  404  404  403  204",
                             "/robots/ROBOT/keys/KEY", None),
    "token.list":           ("401  401  401  401  200  200  200  200  200  403  403  200  200", "/tokens", None),
    "token.create":         ("401  401  401  401  201  201  201  201  201  403  403  201  201", "/tokens",
                             {"label": "new"}),
    "token.delete":         ("401  401  401  401  404  404  404  404  404  403  403  404  204", "/tokens/TOKEN", None),
}  # fmt: skip
"""Act: its row, then path and body; words in capitals stand for objects that are made anew for each cell."""


def objects(gateway: Served, private: Place, act: str) -> dict[str, str]:
    """What the words in paths and bodies stand for. What a cell may remove is made for it and for nobody else."""
    repository = private.repository
    victim, secret = make_user(gateway)
    robot = make(gateway, "robots", {"name": unique("sa$victim"), "project": private.project})["name"]
    key = make(gateway, f"robots/{robot}/keys", {})["id"] if "key" in act else 0
    token = make(gateway, "tokens", {}, auth=(victim, secret))["id"] if "token" in act else 0
    for at, kind in ((f"repos/{private.name}", "repository_grant"), (f"projects/{private.project}", "project_grant")):
        if act == f"{kind}.delete":
            assert gateway.api("PUT", f"/api/v1/{at}/grants/{victim}", {"role": "writer"}).status == 200
    warm = f"/api/v1/repos/{private.name}/warm"
    listed = gateway.api("POST", warm, {"images": ["none:here"]}).json()["id"] if act == "warm_up.get" else 0
    return {
        "LIST": str(listed),
        "PROJECT": private.project,
        "REPOSITORY": repository,
        "REPO": f"/repos/{private.name}",
        "AT": f"/projects/{private.project}",
        "VICTIM": victim,
        "ROBOT": robot,
        "KEY": str(key),
        "TOKEN": str(token),
    }


def filled(text: str, words: dict[str, str]) -> str:
    """The text with its words replaced, the longest first."""
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, words[word])
    return text


@pytest.mark.parametrize("route", API_ROUTES, ids=lambda route: route.act)
def test_the_management_matrix_holds(gateway: Served, private: Place, asked: Asked, route: Route) -> None:
    """Each route of the management API answers each principal as its row says, by Basic and with a secret as bearer.

    A registry token, whoever's it is and whatever it names, manages nothing.
    """
    act, method = route.act, route.method
    row, path, body = API[act]
    statuses = dict(zip(NAMES, map(int, row.split()), strict=True))
    is_open = statuses["anonymous"] == 200
    words = objects(gateway, private, act)
    wrong: list[str] = []
    for name, way in CELLS:
        wanted = 401 if way == "bearer" and not is_open else statuses[name]
        if act == "repository.delete" and wanted == 204:  # the one with the roles stays
            words["REPO"] = f"/repos/{make_place(gateway, project=private.project).name}"
        auth = asked.credentials(name, way)
        url = filled(path if path.startswith(("/health", "/metrics")) else f"/api/v1{path}", words)
        value = None if body is None else json.loads(filled(json.dumps(body), words))
        status = gateway.api(method, url, value, auth=auth).status
        if status != wanted:
            wrong.append(f"as {name} by {way}: {status}, not {wanted}")
        if wanted < 300 and method != "GET":
            words = objects(gateway, private, act)

    assert not wrong, "\n".join([f"{act}:", *wrong])


@pytest.mark.parametrize("name", ["anonymous", "outsider"])
@pytest.mark.parametrize("route", API_ROUTES, ids=lambda route: route.act)
def test_hidden_and_missing_objects_are_one(
    gateway: Served, private: Place, asked: Asked, route: Route, name: str
) -> None:
    """To who may not see an object, its name and one that nothing has give answers equal byte by byte (row A21)."""
    _, path, body = API[route.act]
    hidden = objects(gateway, private, route.act)
    missing = {
        **{word: f"{unique('none')}" for word in ("PROJECT", "REPOSITORY", "VICTIM")},
        "ROBOT": unique("sa$none"),
        "REPO": f"/repos/{unique('none')}/none",
        "AT": f"/projects/{unique('none')}",
        "KEY": "999999999",
        "LIST": "999999999",
        "TOKEN": "999999999",
    }
    answers = []
    for words in (hidden, missing):
        url = filled(path if path.startswith(("/health", "/metrics")) else f"/api/v1{path}", words)
        value = None if body is None else json.loads(filled(json.dumps(body), words))
        reply = gateway.api(route.method, url, value, auth=asked.people[name].login)
        headers = [(key, entry) for key, entry in reply.all_headers if key not in {"date", "x-request-id"}]
        answers.append((reply.status, headers, reply.body))

    if route.act == "token.create":  # what is shown of one's own differs each time
        assert [status for status, _, _ in answers] == ([401, 401] if name == "anonymous" else [201, 201])
    else:
        assert answers[0] == answers[1]
