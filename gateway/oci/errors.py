"""The one family of errors that a client of the registry sees, and the JSON they become.

Source: distribution-spec, "Error Codes"; protocol rows ER-01 to ER-04. Knows status numbers and headers as data; it
sends nothing. Text that came from the client is shortened and escaped before it stands in a message, so a message is
one line of ASCII.
"""

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from storage import Digest

SHOWN_CHARACTERS: Final = 80
"""How much of a client's text a message repeats: a digest fits, a flood does not."""


class Code(enum.StrEnum):
    """The fourteen codes of the spec, and UNAVAILABLE for our own troubles (ER-06)."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"
    UNAVAILABLE = "UNAVAILABLE"


STATUS: Final[Mapping[Code, int]] = {
    Code.BLOB_UNKNOWN: 404,
    Code.BLOB_UPLOAD_INVALID: 400,
    Code.BLOB_UPLOAD_UNKNOWN: 404,
    Code.DIGEST_INVALID: 400,
    Code.MANIFEST_BLOB_UNKNOWN: 400,
    Code.MANIFEST_INVALID: 400,
    Code.MANIFEST_UNKNOWN: 404,
    Code.NAME_INVALID: 400,
    Code.NAME_UNKNOWN: 404,
    Code.SIZE_INVALID: 400,
    Code.UNAUTHORIZED: 401,
    Code.DENIED: 403,
    Code.UNSUPPORTED: 405,
    Code.TOOMANYREQUESTS: 429,
    Code.UNAVAILABLE: 503,
}
"""The status each code has unless the error says otherwise (ER-02)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the `errors` list. `detail` is anything `json` can write; None leaves it out."""

    code: Code
    message: str
    detail: object = None


class RegistryError(Exception):
    """An answer to the client in the form of the spec. Repeating the request as it was helps only at 412, 429 and 5xx.

    `status` defaults to what `STATUS` says of the code. `also` are further entries of the same answer. `headers` go
    out with it.
    """

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        detail: object = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        also: Sequence[Entry] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.detail = detail
        self.status = STATUS[code] if status is None else status
        self.headers: Mapping[str, str] = dict(headers or {})
        self.entries = (Entry(code, message, detail), *also)

    def document(self) -> bytes:
        """The JSON body, ASCII only; its content type is `application/json`. Never a top-level `details` (ER-04)."""
        return json.dumps({"errors": [_as_json(entry) for entry in self.entries]}, separators=(",", ":")).encode(
            "ascii"
        )


def _as_json(entry: Entry) -> dict[str, object]:
    written: dict[str, object] = {"code": entry.code.value, "message": entry.message}
    if entry.detail is not None:
        written["detail"] = entry.detail
    return written


def shown(text: str) -> str:
    """The client's text as it may stand in a message: quoted, escaped to ASCII, shortened."""
    return ascii(text[:SHOWN_CHARACTERS]) + ("..." if len(text) > SHOWN_CHARACTERS else "")


def name_invalid(name: str) -> RegistryError:
    """400: the name does not follow the grammar or is too long (GEN-01, GEN-02)."""
    return RegistryError(
        Code.NAME_INVALID,
        f"invalid repository name {shown(name)}: lower-case letters, digits, separators; at most 255 characters",
        detail={"name": _bounded(name)},
    )


def name_unknown(name: str) -> RegistryError:
    """404: there is no such repository, or none that this caller may know of."""
    return RegistryError(
        Code.NAME_UNKNOWN, f"repository {shown(name)} is not known to this registry", detail={"name": _bounded(name)}
    )


def manifest_unknown(name: str | None, reference: str | Digest, *, reason: str | None = None) -> RegistryError:
    """404: no such tag or manifest in the repository, or none that may be served for `reason` (MG-08).

    `name` is None where it is not known yet.
    """
    detail = {"reference": _bounded(str(reference))}
    if name is not None:
        detail = {"name": _bounded(name), **detail}
    message = (
        f"manifest {shown(str(reference))} is unknown"
        if reason is None
        else f"manifest {shown(str(reference))}: {reason}"
    )
    return RegistryError(Code.MANIFEST_UNKNOWN, message, detail=detail)


def blob_unknown(digest: str | Digest) -> RegistryError:
    """404: this repository has no such blob, whatever others have (ACC-04)."""
    return RegistryError(
        Code.BLOB_UNKNOWN,
        f"blob {shown(str(digest))} is unknown to this repository",
        detail={"digest": _bounded(str(digest))},
    )


def blob_upload_unknown() -> RegistryError:
    """404: the session never was, is finished, cancelled or expired, or belongs to somebody else (UP-19, ACC-06)."""
    return RegistryError(Code.BLOB_UPLOAD_UNKNOWN, "this upload session is unknown or over: start a new one with POST")


def digest_invalid(reason: str) -> RegistryError:
    """400: a digest that is malformed, of an unsupported algorithm, or not that of the content."""
    return RegistryError(Code.DIGEST_INVALID, reason)


def manifest_invalid(reason: str, detail: object = None) -> RegistryError:
    """400: the manifest, its type or its tag breaks a rule of the spec."""
    return RegistryError(Code.MANIFEST_INVALID, reason, detail=detail)


def manifest_blob_unknown(missing: Sequence[str]) -> RegistryError:
    """400 with one entry for each digest that the manifest names and the repository lacks (MP-09); at least one."""
    entries = [
        Entry(
            Code.MANIFEST_BLOB_UNKNOWN,
            f"{digest} is not in this repository: push it before the manifest",
            {"digest": digest},
        )
        for digest in missing
    ]
    first, *others = entries
    return RegistryError(first.code, first.message, detail=first.detail, also=others)


def size_invalid(reason: str) -> RegistryError:
    """400: a length or range that disagrees with the bytes or with itself."""
    return RegistryError(Code.SIZE_INVALID, reason)


def range_not_satisfiable(reason: str, *, headers: Mapping[str, str] | None = None) -> RegistryError:
    """416 with SIZE_INVALID (ER-03): nothing was changed, the blob or the session is as it was.

    For a download the headers hold `Content-Range: bytes */size`; for an upload `Location` and `Range`.
    """
    return RegistryError(Code.SIZE_INVALID, reason, status=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=headers)


def unsupported(message: str, allow: Sequence[str]) -> RegistryError:
    """405 with the methods that do work here (GEN-11); an empty `allow` is sent as an empty header."""
    return RegistryError(Code.UNSUPPORTED, message, headers={"Allow": ", ".join(allow)})


def denied(message: str) -> RegistryError:
    """403: the caller is known and may see the repository, but a rule forbids this (ACC-03). Say which rule."""
    return RegistryError(Code.DENIED, message)


def too_large(limit_bytes: int, *, code: Code = Code.SIZE_INVALID) -> RegistryError:
    """413: more than `limit_bytes`. For a manifest the code is MANIFEST_INVALID (MP-14), for a blob SIZE_INVALID."""
    return RegistryError(
        code,
        f"content exceeds the limit of {limit_bytes} bytes",
        detail={"limit_bytes": limit_bytes},
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def unavailable(message: str, retry_after_s: int, *, status: int = HTTPStatus.SERVICE_UNAVAILABLE) -> RegistryError:
    """503, or 507 when storage is full: our trouble, not the client's; it may retry after `retry_after_s`."""
    return RegistryError(
        Code.UNAVAILABLE, message, status=int(status), headers={"Retry-After": str(max(1, retry_after_s))}
    )


def _bounded(text: str) -> str:
    # 255 is the longest name and longer than any digest: what is longer is no honest name, and need not come back.
    return text[:255]
