"""Errors become the JSON of the spec: known codes, right statuses, nothing of a client's text unescaped."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.oci import errors
from gateway.oci.errors import Code, RegistryError
from storage import Digest

SPEC_CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"),
    *("MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED"),
    *("DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
}
DIGEST = Digest.of(b"x")


def test_er_01_codes_are_those_of_the_spec_and_one_of_ours() -> None:
    """Clients that know the fourteen codes of the spec know all of ours but UNAVAILABLE."""
    assert {code.value for code in Code} == SPEC_CODES | {"UNAVAILABLE"}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("BLOB_UNKNOWN", 404),
        ("BLOB_UPLOAD_INVALID", 400),
        ("BLOB_UPLOAD_UNKNOWN", 404),
        ("DIGEST_INVALID", 400),
        ("MANIFEST_BLOB_UNKNOWN", 400),
        ("MANIFEST_INVALID", 400),
        ("MANIFEST_UNKNOWN", 404),
        ("NAME_INVALID", 400),
        ("NAME_UNKNOWN", 404),
        ("SIZE_INVALID", 400),
        ("UNAUTHORIZED", 401),
        ("DENIED", 403),
        ("UNSUPPORTED", 405),
        ("TOOMANYREQUESTS", 429),
        ("UNAVAILABLE", 503),
    ],
)
def test_er_02_each_code_has_its_status(code: str, status: int) -> None:
    """Without a status of its own, an error is answered with the one that the table gives its code."""
    assert RegistryError(Code(code), "m").status == status


def test_er_01_document_has_the_form_of_the_spec() -> None:
    """The body is one `errors` list of code, message and, if there is any, detail."""
    bare, detailed = RegistryError(Code.DENIED, "no"), RegistryError(Code.DENIED, "no", detail={"rule": "v*"})
    assert bare.document() == b'{"errors":[{"code":"DENIED","message":"no"}]}'
    assert json.loads(detailed.document()) == {
        "errors": [{"code": "DENIED", "message": "no", "detail": {"rule": "v*"}}]
    }


ALL = [
    errors.name_invalid("A"),
    errors.name_unknown("a"),
    errors.manifest_unknown("a", "latest"),
    errors.manifest_unknown(None, DIGEST),
    errors.manifest_unknown("a", "latest", reason="of another type"),
    errors.blob_unknown(DIGEST),
    errors.blob_upload_unknown(),
    errors.digest_invalid("why"),
    errors.manifest_invalid("why", {"at": 1}),
    errors.manifest_blob_unknown([str(DIGEST)]),
    errors.size_invalid("why"),
    errors.range_not_satisfiable("why"),
    errors.unsupported("why", ("GET",)),
    errors.denied("why"),
    errors.too_large(1),
    errors.unavailable("why", 5),
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.message[:20])
def test_er_04_no_error_has_a_top_level_details(error: RegistryError) -> None:
    """The document has `errors` only, and its entries code, message and detail only."""
    document = json.loads(error.document())
    assert set(document) == {"errors"}
    assert all(set(entry) <= {"code", "message", "detail"} and entry["message"] for entry in document["errors"])


@given(st.text(max_size=3000))
def test_texts_of_clients_come_back_bounded_and_escaped(text: str) -> None:
    """Whatever a client sends as a name or reference, the answer is a short line of ASCII JSON."""
    for error in (errors.name_invalid(text), errors.manifest_unknown(text, text), errors.blob_unknown(text)):
        message = json.loads(error.document())["errors"][0]["message"]
        assert message.isascii()
        assert message.isprintable()
        assert len(error.document()) < 8000
        assert error.document().isascii()


def test_messages_name_what_was_asked_and_why() -> None:
    """A short text is shown whole, a long one is cut with an ellipsis; the detail has the name if there is one."""
    assert errors.shown("a" * 80) == f"'{'a' * 80}'"
    assert errors.shown("a" * 81) == f"'{'a' * 80}'..."
    plain, wrong_type = errors.manifest_unknown("a", "v1"), errors.manifest_unknown("a", "v1", reason="of another type")
    assert (plain.message, plain.detail) == ("manifest 'v1' is unknown", {"name": "a", "reference": "v1"})
    assert wrong_type.message == "manifest 'v1': of another type"
    assert errors.manifest_unknown(None, "v1").detail == {"reference": "v1"}


def test_mp_09_each_missing_digest_has_its_own_entry() -> None:
    """A manifest with several missing blobs is answered with one entry for each, in order."""
    missing = [str(Digest.of(bytes([each]))) for each in range(3)]
    error = errors.manifest_blob_unknown(missing)
    entries = json.loads(error.document())["errors"]
    assert error.status == 400
    assert [entry["detail"]["digest"] for entry in entries] == missing
    assert {entry["code"] for entry in entries} == {"MANIFEST_BLOB_UNKNOWN"}


def test_er_03_range_errors_are_416_with_size_invalid_and_keep_headers() -> None:
    """A range that cannot be served is 416, with a code of the spec and the caller's headers."""
    error = errors.range_not_satisfiable("why", headers={"Content-Range": "bytes */5"})
    assert (error.status, error.code, error.headers) == (416, Code.SIZE_INVALID, {"Content-Range": "bytes */5"})


def test_gen_11_unsupported_names_the_allowed_methods() -> None:
    """405 comes with an Allow header, empty where nothing is allowed."""
    assert errors.unsupported("why", ("GET", "HEAD")).headers == {"Allow": "GET, HEAD"}
    assert errors.unsupported("why", ()).headers == {"Allow": ""}


def test_er_06_unavailable_says_when_to_retry() -> None:
    """Our own trouble carries a Retry-After of at least a second, and may be 507."""
    assert errors.unavailable("why", 0).headers == {"Retry-After": "1"}
    assert (errors.unavailable("why", 30, status=507).status, errors.unavailable("why", 30).status) == (507, 503)


def test_mp_14_too_large_is_413_with_the_code_of_what_was_sent() -> None:
    """413 says MANIFEST_INVALID for a manifest and SIZE_INVALID for a blob, and the limit for both."""
    assert (errors.too_large(9).status, errors.too_large(9).code) == (413, Code.SIZE_INVALID)
    assert errors.too_large(9, code=Code.MANIFEST_INVALID).code is Code.MANIFEST_INVALID
    assert json.loads(errors.too_large(9).document())["errors"][0]["detail"] == {"limit_bytes": 9}
