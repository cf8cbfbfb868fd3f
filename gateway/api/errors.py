"""How the management API says no: a JSON list of errors, each with a code, a message and the field at fault.

What is missing and what the caller may not know of give the same answer. Troubles of ours are not here: they go to the
table of failures (`gateway.edge.failures`), which all faces share.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from gateway.access.errors import InvalidField, LastAdmin, TooManySecrets
from gateway.edge.streams import BodyTooLarge, ClientStalled
from gateway.oci.errors import Code, RegistryError
from gateway.repositories.furnishing import WrongSetting
from storage import Conflict, NotFound

_MAX_ERRORS: Final = 50  # a body of 64 KiB can hold thousands of unknown fields
_MAX_FIELD_CHARS: Final = 128
# Registry tokens carry no management rights, so clients are not sent to the token endpoint.
_CHALLENGE: Final = 'Basic realm="sluice", charset="UTF-8"'
_WORDS: Final = {"missing": "is required", "extra_forbidden": "is no field that can be given here"}
_LENGTH: Final = re.compile(r"^\w+ should have (at (?:least|most) \d+ \w+).*")
"""What pydantic says of lengths: `List should have at least 1 item after validation, not 0`."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `field` is empty where the request as a whole is at fault."""

    message: str
    field: str = ""


class Refused(Exception):
    """The answer to a request that cannot be granted as it is. Repeating it unchanged does not help."""

    def __init__(self, status: int, code: str, *problems: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("; ".join(f"{each.field}: {each.message}" for each in problems))
        self.status = status
        self.code = code
        self.problems = problems
        self.headers = dict(headers or {})

    def document(self) -> bytes:
        """The body, ASCII only."""
        errors = [{"code": self.code, "field": each.field, "message": each.message} for each in self.problems]
        return json.dumps({"errors": errors}, separators=(",", ":")).encode("ascii")


def invalid(field: str, message: str) -> Refused:
    """400: one field has a value that cannot be used."""
    return Refused(400, "VALIDATION", Problem(message, field))


def invalid_model(error: ValidationError) -> Refused:
    """400 that names every wrong field; what was given is not repeated, as it may be a secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    problems = [Problem(_reason(each), _field(each["loc"])) for each in found[:_MAX_ERRORS]]
    if len(found) > _MAX_ERRORS:
        problems.append(Problem(f"and {len(found) - _MAX_ERRORS} more mistakes"))
    return Refused(400, "VALIDATION", *problems)


def not_found() -> Refused:
    """404: there is no such thing, or none that the caller may know of; nobody can tell which from the answer."""
    return Refused(404, "NOT_FOUND", Problem("there is no such object, or none that you may see"))


def denied(message: str, field: str = "") -> Refused:
    """403: the caller may see the object but not do this. Says which right it takes."""
    return Refused(403, "DENIED", Problem(message, field))


def unauthorized(message: str) -> Refused:
    """401: no credentials, or none that are good for the management API."""
    return Refused(401, "UNAUTHORIZED", Problem(message), headers={"WWW-Authenticate": _CHALLENGE})


def unsupported_method(allowed: Sequence[str]) -> Refused:
    """405 with the methods that work here."""
    known = ", ".join(allowed)
    return Refused(405, "UNSUPPORTED", Problem(f"use {known} here"), headers={"Allow": known})


def refusal(error: BaseException) -> Refused | None:
    """The refusal that an error stands for; None for what the table of failures has to answer."""
    match error:
        case Refused():
            return error
        case InvalidField() | WrongSetting():
            return invalid(error.field, error.reason)
        case Conflict() | LastAdmin() | TooManySecrets():
            return Refused(409, "CONFLICT", Problem(str(error)))
        case NotFound():
            return not_found()
        case BodyTooLarge():
            return Refused(413, "TOO_LARGE", Problem(str(error)))
        case ClientStalled():
            return Refused(408, "TIMEOUT", Problem(str(error)))
        case RegistryError() if error.code is Code.UNAUTHORIZED:
            return unauthorized(error.message)
        case _:
            return None


def _field(location: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in location)[:_MAX_FIELD_CHARS]


def _reason(error: Mapping[str, Any]) -> str:
    message: str = _WORDS.get(error["type"], error["msg"])
    message = _LENGTH.sub(r"must have \1", message.removeprefix("Value error, "))
    return message.replace("Input should be", "must be")
