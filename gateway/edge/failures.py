"""The one table from an exception to the answer that a client sees. Nothing else turns errors into HTTP.

Our own troubles are 503 (507 when full) with Retry-After; they are never "not found" and never "unauthorised".
What is not in the table is a defect of ours: logged with its stack, answered 500 without it.
"""

from http import HTTPStatus
from typing import Final

from quart import Quart, Response
from werkzeug.exceptions import HTTPException

from gateway.access.errors import AccessError, BadCredentials, InvalidToken, Overloaded
from gateway.edge.address import BadHost, UnknownHost
from gateway.edge.streams import BodyTooLarge, ClientGone, ClientStalled
from gateway.edge.visits import request_id as current_request_id
from gateway.logs import get_logger
from gateway.oci.errors import (
    Code,
    RegistryError,
    blob_upload_unknown,
    digest_invalid,
    too_large,
    unavailable,
)
from gateway.upstream.errors import UpstreamBusy, UpstreamDenied, UpstreamError, UpstreamSlow, UpstreamUnknown
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
    UploadUnknown,
)

_RETRY_AFTER_S: Final = 5
_CAUSES: Final = 8
"""How deep an upstream's trouble may lie behind storage's: each reader of an arrival adds one."""
_log = get_logger(__name__)


# What the framework itself refuses, in the registry's words (row ER-07).
_FRAMEWORK: Final = {
    404: (Code.NAME_UNKNOWN, "no such path"),
    405: (Code.UNSUPPORTED, "this method is not supported here"),
    413: (Code.SIZE_INVALID, "the request's body is too large"),
}


def install(app: Quart) -> None:
    """Answer every failure of this application from the table, also those before a streamed answer's first byte."""

    @app.errorhandler(Exception)
    async def fail(error: Exception) -> Response:
        refusal = translate(unwrap(error), request_id=current_request_id())
        return Response(
            refusal.document(), refusal.status, headers=dict(refusal.headers), content_type="application/json"
        )


def unwrap(error: BaseException) -> BaseException:
    """The one exception in a group of one, however deep: nurseries wrap what a handler raised."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def translate(error: BaseException, *, request_id: str) -> RegistryError:
    """The error in the registry's own words."""
    if isinstance(error, RegistryError):
        return error
    if (upstream := _behind(error)) is not None:
        return _upstream(upstream, request_id=request_id)
    if isinstance(error, StorageError):
        return _storage(error, request_id=request_id)
    if isinstance(error, AccessError):
        return _access(error)
    if (known := _request(error)) is not None:
        return known
    if isinstance(error, HTTPException) and error.code is not None and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _framework(error)  # with 5xx it reports a defect like any other
    _log.error("request_failed", request_id=request_id, exc_info=error)
    return RegistryError(Code.UNAVAILABLE, f"internal error; the log has it under request {request_id}", status=500)


def _behind(error: BaseException) -> UpstreamError | None:
    """The upstream's trouble, if that is what this is, or what storage was told when it read from there."""
    seen: BaseException | None = error
    for _ in range(_CAUSES):
        if isinstance(seen, UpstreamError):
            return seen
        if not isinstance(seen, StorageError):
            return None
        seen = seen.__cause__
    return None


def _upstream(error: UpstreamError, *, request_id: str) -> RegistryError:
    """Trouble beyond us has its own words and statuses, so that a client's operator knows whom to ask."""
    if isinstance(error, UpstreamUnknown | UpstreamDenied):
        return RegistryError(Code.MANIFEST_UNKNOWN, str(error), status=404)
    wait_s = error.retry_after_s if error.retry_after_s is not None else _RETRY_AFTER_S
    if isinstance(error, UpstreamBusy):
        return RegistryError(Code.TOOMANYREQUESTS, str(error), headers={"Retry-After": str(wait_s)})
    _log.warning("upstream_failed", request_id=request_id, error=str(error))
    status = HTTPStatus.GATEWAY_TIMEOUT if isinstance(error, UpstreamSlow) else HTTPStatus.BAD_GATEWAY
    return unavailable(str(error), wait_s, status=status)


def _request(error: BaseException) -> RegistryError | None:
    match error:
        case DigestInvalid():
            return digest_invalid(str(error))
        case BodyTooLarge():
            return too_large(error.limit_bytes)
        case ClientStalled():
            return RegistryError(Code.BLOB_UPLOAD_INVALID, str(error), status=408)
        case ClientGone():  # nobody reads this answer; the log does
            return RegistryError(Code.BLOB_UPLOAD_INVALID, "the client left before its request was complete")
        case UnknownHost():
            return RegistryError(Code.NAME_INVALID, str(error), status=421)
        case BadHost():
            return RegistryError(Code.NAME_INVALID, str(error), status=400)
        case _:
            return None


def _framework(error: HTTPException) -> RegistryError:
    code, message = _FRAMEWORK.get(error.code or 0, (Code.UNSUPPORTED, "the request is malformed"))
    headers = {name: value for name, value in error.get_headers() if name in {"Allow", "Location"}}
    return RegistryError(code, message, status=error.code, headers=headers)


def _access(error: AccessError) -> RegistryError:
    match error:
        case Overloaded():
            return unavailable("too many logins at once: retry shortly", _RETRY_AFTER_S)
        case BadCredentials() | InvalidToken():
            return RegistryError(Code.UNAUTHORIZED, str(error) or "authentication required")
        case _:
            return RegistryError(Code.DENIED, str(error))


def _storage(error: StorageError, *, request_id: str) -> RegistryError:
    match error:
        case StorageFull():
            _log.error("storage_full", request_id=request_id, error=str(error))
            return unavailable(
                "the registry has no space left; nothing was lost, retry when there is room", 60, status=507
            )
        case Damaged():
            _log.error("blob_damaged", request_id=request_id, error=str(error))
            return unavailable("the stored content is damaged; the operator has to run sluice fsck", 60)
        case UploadUnknown() | BlobUnknown() | NotFound():
            return _unknown(error)
        case DigestMismatch() | TooManyUploads() | Busy() | Conflict():
            return _of_the_request(error)
        case _:
            _log.error("storage_unavailable", request_id=request_id, error=str(error))
            return unavailable("storage is not available for the moment", _RETRY_AFTER_S)


def _unknown(error: NotFound) -> RegistryError:
    match error:
        case UploadUnknown():
            return blob_upload_unknown()
        case BlobUnknown():
            return RegistryError(Code.BLOB_UNKNOWN, str(error))
        case _:
            return RegistryError(Code.NAME_UNKNOWN, str(error))


def _of_the_request(error: DigestMismatch | TooManyUploads | Busy | Conflict) -> RegistryError:
    match error:
        case DigestMismatch():
            return digest_invalid(str(error))
        case TooManyUploads():
            return RegistryError(Code.TOOMANYREQUESTS, str(error), headers={"Retry-After": "60"})
        case Busy():
            return RegistryError(Code.BLOB_UPLOAD_INVALID, "another request is using this upload session", status=409)
        case Conflict():
            return RegistryError(Code.DENIED, str(error), status=409)
