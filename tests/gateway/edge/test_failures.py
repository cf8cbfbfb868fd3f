"""The table of failures: for every exception that can reach a client status, code and Retry-After, and no secret."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Self

import pytest
import structlog
from quart import Response, abort
from quart_trio import QuartTrio

import storage
from gateway.access import errors as access_errors
from gateway.access.errors import (
    AccessError,
    BadCredentials,
    InvalidField,
    InvalidToken,
    LastAdmin,
    Overloaded,
    TooManySecrets,
)
from gateway.edge import failures, streams, visits
from gateway.edge.address import BadHost, UnknownHost
from gateway.edge.failures import translate, unwrap
from gateway.edge.streams import BodyTooLarge, ClientGone, ClientStalled, blob_response
from gateway.oci.errors import Code, denied
from gateway.upstream import errors as upstream_errors
from gateway.upstream.errors import (
    CredentialsRejected,
    UpstreamBusy,
    UpstreamDenied,
    UpstreamError,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamSlow,
    UpstreamUnknown,
)
from storage import (
    BlobUnknown,
    Busy,
    Conflict,
    Damaged,
    DigestInvalid,
    DigestMismatch,
    NotFound,
    StorageError,
    StorageFull,
    TooManyUploads,
    Unavailable,
    UploadUnknown,
)
from tests.gateway.edge.visitors import ask

INNER = "/var/lib/sluice/sluice.db: disk I/O error"
"""What an operator has to know and no client."""
DIGEST = f"sha256:{'a' * 64}"

OURS: list[tuple[Exception, int, Code, str]] = [
    (StorageError(INNER), 503, Code.UNAVAILABLE, "5"),
    (Unavailable(INNER), 503, Code.UNAVAILABLE, "5"),
    (StorageFull(INNER), 507, Code.UNAVAILABLE, "60"),
    (Damaged(INNER), 503, Code.UNAVAILABLE, "60"),
    (Overloaded(), 503, Code.UNAVAILABLE, "5"),
]
"""Our own troubles: the client did nothing wrong and may try again."""

BEYOND: list[tuple[Exception, int, Code, str | None]] = [
    (UpstreamError("odd"), 502, Code.UNAVAILABLE, "5"),
    (UpstreamFailed("refused"), 502, Code.UNAVAILABLE, "5"),
    (UpstreamFailed("down", retry_after_s=30), 502, Code.UNAVAILABLE, "30"),
    (UpstreamRefused("a private address"), 502, Code.UNAVAILABLE, "5"),
    (CredentialsRejected("who are you?"), 502, Code.UNAVAILABLE, "5"),
    (UpstreamSlow("30 s"), 504, Code.UNAVAILABLE, "5"),
    (UpstreamBusy("spent", retry_after_s=3600), 429, Code.TOOMANYREQUESTS, "3600"),
    (UpstreamUnknown("no such tag"), 404, Code.MANIFEST_UNKNOWN, None),
    (UpstreamDenied("not for us"), 404, Code.MANIFEST_UNKNOWN, None),
]
"""What an upstream registry is to blame for; only what it said not to have is not found (row P6)."""

THEIRS: list[tuple[Exception, int, Code, str | None]] = [
    (NotFound("project 7 does not exist"), 404, Code.NAME_UNKNOWN, None),
    (BlobUnknown("no such blob"), 404, Code.BLOB_UNKNOWN, None),
    (UploadUnknown("no such session"), 404, Code.BLOB_UPLOAD_UNKNOWN, None),
    (Conflict("there is one already"), 409, Code.DENIED, None),
    (Busy("held"), 409, Code.BLOB_UPLOAD_INVALID, None),
    (TooManyUploads("5 are open"), 429, Code.TOOMANYREQUESTS, "60"),
    (DigestMismatch(claimed=DIGEST, actual=DIGEST), 400, Code.DIGEST_INVALID, None),
    (DigestInvalid("malformed"), 400, Code.DIGEST_INVALID, None),
    (BadCredentials(), 401, Code.UNAUTHORIZED, None),
    (InvalidToken("expired"), 401, Code.UNAUTHORIZED, None),
    (AccessError("no"), 403, Code.DENIED, None),
    (InvalidField("name", "too long"), 403, Code.DENIED, None),
    (TooManySecrets("two live ones"), 403, Code.DENIED, None),
    (LastAdmin(), 403, Code.DENIED, None),
    (BodyTooLarge(10), 413, Code.SIZE_INVALID, None),
    (ClientStalled("no byte in 60 s"), 408, Code.BLOB_UPLOAD_INVALID, None),
    (ClientGone("gone"), 400, Code.BLOB_UPLOAD_INVALID, None),
    (BadHost("not a host"), 400, Code.NAME_INVALID, None),
    (UnknownHost("not ours"), 421, Code.NAME_INVALID, None),
]


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    """What is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


def family(root: type[Exception]) -> set[type[Exception]]:
    """A class and all that inherit from it."""
    return {root}.union(*(family(child) for child in root.__subclasses__()))


def named(case: object) -> str:
    """How a case is called."""
    return type(case).__name__ if isinstance(case, Exception) else str(case)


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), [*OURS, *BEYOND, *THEIRS], ids=named)
def test_every_error_has_its_row(error: Exception, status: int, code: Code, retry_after: str | None) -> None:
    """Status, code and Retry-After of each; alone and as the only one of a group of groups."""
    for each in (error, ExceptionGroup("nursery", [ExceptionGroup("inner", [error])])):
        answer = translate(unwrap(each), request_id="7")

        assert (answer.status, answer.code, answer.headers.get("Retry-After")) == (status, code, retry_after)
        assert {entry.code for entry in answer.entries} == {code}


@pytest.mark.parametrize("root", [StorageError, AccessError, UpstreamError])
def test_no_error_was_forgotten(root: type[Exception]) -> None:
    """Whoever adds an error to a family decides here what a client sees of it."""
    exported = [*vars(storage).values(), *vars(access_errors).values(), *vars(upstream_errors).values()]
    ours = {each for each in family(root) if each in exported}

    assert ours == {type(error) for error, *_ in (*OURS, *BEYOND, *THEIRS) if isinstance(error, root)}


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), BEYOND, ids=named)
def test_what_storage_was_told_by_an_upstream_is_the_upstreams(
    error: Exception, status: int, code: Code, retry_after: str | None
) -> None:
    """A blob on its way in is read through storage, whose errors name what is behind them; each reader adds one."""
    told = Unavailable("the source failed")
    told.__cause__ = error
    again = Unavailable("the source failed")
    again.__cause__ = told

    answer = translate(again, request_id="7")

    assert (answer.status, answer.code, answer.headers.get("Retry-After")) == (status, code, retry_after)


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), OURS, ids=named)
def test_our_own_troubles_are_logged_and_kept_to_ourselves(
    events: list[structlog.typing.EventDict], error: Exception, status: int, code: Code, retry_after: str
) -> None:
    """ER-06: the log has what happened under the request's id; the client hears that it may retry, and no path."""
    answer = translate(error, request_id="7")

    assert "/var" not in answer.message
    if not isinstance(error, AccessError):
        (event,) = events
        assert (event["log_level"], event["request_id"], event["error"]) == ("error", "7", str(error))


@pytest.mark.parametrize(("error", "status", "code", "retry_after"), THEIRS, ids=named)
def test_what_clients_do_is_no_trouble_of_ours(
    events: list[structlog.typing.EventDict], error: Exception, status: int, code: Code, retry_after: str | None
) -> None:
    """A flood of bad requests does not fill the log."""
    translate(error, request_id="7")

    assert events == []


def test_an_answer_that_was_decided_stays_as_it_is() -> None:
    """A `RegistryError` is passed on, headers and further entries included."""
    error = denied("by rule v*")

    assert translate(unwrap(ExceptionGroup("nursery", [error])), request_id="7") is error


def test_several_errors_at_once_are_a_defect(events: list[structlog.typing.EventDict]) -> None:
    """No answer is made of one of several errors, as the other may be the graver; the log has all."""
    group = ExceptionGroup("nursery", [Unavailable(INNER), KeyError("x")])

    answer = translate(unwrap(group), request_id="7")

    assert (answer.status, answer.code) == (500, Code.UNAVAILABLE)
    assert events[0]["exc_info"] is group


# --- in an application ---------------------------------------------------------------------------------------------


class Secretive(Exception):
    """An error of nobody's family, with a secret in it."""


class Unopened:
    """A source of a body that cannot be opened."""

    async def __aenter__(self) -> Self:
        raise Damaged(INNER)

    async def __aexit__(self, *_: object) -> None:
        """Never reached."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Never reached."""
        yield b""


@pytest.fixture
def failing() -> QuartTrio:
    """An application that fails as its path says."""
    app = QuartTrio("failing", static_folder=None)
    streams.install(app)
    visits.install(app)
    failures.install(app)

    @app.get("/secretive")
    async def secretive() -> str:
        raise Secretive("hunter2")

    @app.get("/full")
    async def full() -> str:
        raise ExceptionGroup("nursery", [StorageFull(INNER)])

    @app.get("/unopened")
    async def unopened() -> Response:
        return blob_response(Unopened(), size_bytes=3, content_type="application/octet-stream")

    @app.get("/abort/<int:status>")
    async def aborts(status: int) -> str:
        abort(status)

    return app


async def test_an_unknown_error_is_500_without_details(
    failing: QuartTrio, events: list[structlog.typing.EventDict]
) -> None:
    """ER-04: no stack, no text of the error; an id under which the log has both."""
    answer = await ask(failing, "/secretive")

    assert (answer.status, answer.headers["content-type"]) == (500, "application/json")
    assert b"hunter2" not in answer.body
    assert b"Secretive" not in answer.body
    (event,) = events
    assert answer.headers["x-request-id"] == event["request_id"]
    assert event["request_id"] in json.loads(answer.body)["errors"][0]["message"]
    assert isinstance(event["exc_info"], Secretive)


async def test_a_failure_within_a_nursery_finds_its_row(failing: QuartTrio) -> None:
    """What a handler's nursery wraps is answered as if it were not wrapped."""
    answer = await ask(failing, "/full")

    assert (answer.status, answer.headers["retry-after"], answer.codes) == (507, "60", ["UNAVAILABLE"])


async def test_a_failure_before_the_first_byte_is_an_answer_of_its_own(failing: QuartTrio) -> None:
    """A blob that turns out to be damaged when it is opened is 503 in JSON, with no header of the blob left."""
    answer = await ask(failing, "/unopened")

    assert (answer.status, answer.headers["content-type"], answer.codes) == (503, "application/json", ["UNAVAILABLE"])
    assert answer.headers["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["/secretive", "/full", "/nothing", "/abort/409"])
async def test_head_has_the_headers_of_get_and_no_body(failing: QuartTrio, path: str) -> None:
    """RFC 9110, 9.3.2: whatever fails, HEAD says the same without the bytes."""
    got, head = await ask(failing, path), await ask(failing, path, "HEAD")

    assert (head.status, head.body) == (got.status, b"")
    assert head.headers | {"x-request-id": ""} == got.headers | {"x-request-id": ""}
    assert int(head.headers["content-length"]) == len(got.body) > 0


@pytest.mark.parametrize(
    ("line", "status", "code", "allow"),
    [
        ("GET /nothing", 404, "NAME_UNKNOWN", None),
        ("POST /full", 405, "UNSUPPORTED", {"GET", "HEAD", "OPTIONS"}),
        ("GET /abort/413", 413, "SIZE_INVALID", None),
        ("GET /abort/415", 415, "UNSUPPORTED", None),
        ("GET /abort/400", 400, "UNSUPPORTED", None),
    ],
)
async def test_what_the_framework_refuses_is_said_in_our_words(
    failing: QuartTrio, line: str, status: int, code: str, allow: set[str] | None
) -> None:
    """ER-07: JSON with one of the spec's codes instead of HTML, with Allow where it belongs."""
    method, path = line.split()
    answer = await ask(failing, path, method)

    assert (answer.status, answer.headers["content-type"], answer.codes) == (status, "application/json", [code])
    assert (set(answer.headers["allow"].split(", ")) if "allow" in answer.headers else None) == allow


@pytest.mark.parametrize("path", ["/abort/500", "/abort/503"])
async def test_what_the_framework_breaks_is_a_defect(
    failing: QuartTrio, events: list[structlog.typing.EventDict], path: str
) -> None:
    """A 5xx of the framework's is 500 and logged, never blamed on the request."""
    answer = await ask(failing, path)

    assert (answer.status, answer.codes) == (500, ["UNAVAILABLE"])
    assert [event["event"] for event in events] == ["request_failed"]
