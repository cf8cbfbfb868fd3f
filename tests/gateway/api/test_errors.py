"""Refusals: which error is whose, and that no answer repeats what it was given."""

import json

import pytest
from pydantic import ValidationError

from gateway.access.errors import BadCredentials, InvalidField, LastAdmin, Overloaded, TooManySecrets
from gateway.api.errors import Problem, Refused, invalid_model, refusal
from gateway.api.users import UserCreate
from gateway.api.warming import WarmUpCreate
from gateway.edge.streams import BodyTooLarge, ClientStalled
from gateway.oci.errors import Code, RegistryError
from storage import Conflict, NotFound, StorageFull, Unavailable


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InvalidField("name", "use letters"), 400, "VALIDATION"),
        (Conflict("taken"), 409, "CONFLICT"),
        (LastAdmin(), 409, "CONFLICT"),
        (TooManySecrets("two keys"), 409, "CONFLICT"),
        (NotFound("no row 7"), 404, "NOT_FOUND"),
        (BodyTooLarge(10), 413, "TOO_LARGE"),
        (ClientStalled("too slow"), 408, "TIMEOUT"),
        (RegistryError(Code.UNAUTHORIZED, "who are you"), 401, "UNAUTHORIZED"),
    ],
)
def test_what_the_caller_did_has_an_answer_here(error: Exception, status: int, code: str) -> None:
    """Each kind of mistake has its status and code."""
    refused = refusal(error)

    assert refused is not None
    assert (refused.status, refused.code) == (status, code)


@pytest.mark.parametrize(
    "error", [Unavailable("disk"), StorageFull("disk"), Overloaded(), BadCredentials(), KeyError("x"), RuntimeError()]
)
def test_our_own_troubles_are_not_the_callers(error: Exception) -> None:
    """They go to the table that all faces share, which says 503 and logs them (security rows A26, A27)."""
    assert refusal(error) is None


def test_not_found_says_nothing_of_rows() -> None:
    """The message of the database does not reach the caller."""
    refused = refusal(NotFound("account 17 does not exist"))

    assert refused is not None
    assert b"17" not in refused.document()


def test_a_document_has_one_entry_for_each_problem() -> None:
    """In ASCII, with code, field and message."""
    document = Refused(400, "VALIDATION", Problem("wörong", "name"), Problem("all of it")).document()

    assert document.isascii()
    assert json.loads(document) == {
        "errors": [
            {"code": "VALIDATION", "field": "name", "message": "wörong"},
            {"code": "VALIDATION", "field": "", "message": "all of it"},
        ]
    }


def test_no_wrong_value_is_repeated() -> None:
    """What was given may be a password in the wrong place."""
    with pytest.raises(ValidationError) as caught:
        UserCreate.model_validate_json(b'{"name": ["hush"], "password": {"hush": 1}, "hush-hush": "hush"}')

    document = invalid_model(caught.value).document().replace(b'"field":"hush-hush"', b"")

    assert b"hush" not in document


def test_a_length_is_told_in_our_words() -> None:
    """As what is allowed, and not as what a library counted."""
    with pytest.raises(ValidationError) as caught:
        WarmUpCreate.model_validate_json('{"images": []}')

    assert invalid_model(caught.value).problems == (Problem("must have at least 1 item", "images"),)


def test_a_field_in_an_answer_is_short() -> None:
    """A kilobyte of a name comes back as its beginning."""
    with pytest.raises(ValidationError) as caught:
        UserCreate.model_validate_json(json.dumps({"name": "ada", "x" * 10_000: 1}))

    assert len(invalid_model(caught.value).document()) < 300
