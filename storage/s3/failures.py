"""What an S3 service or the way to it can answer instead of success, and what that means here.

Two layers: `Trouble` is what one attempt met (raised by both planes, `s3.data` and `s3.control`); `Bucket` repeats what
may pass and turns the rest into `storage.errors`. Error bodies are read with suspicion: bounded, without entities.
Messages name the next step and never a secret.
"""

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from xml.etree import ElementTree as ET

import trio

from storage.errors import BlobUnknown, Conflict, StorageError, StorageFull, Unavailable, UploadUnknown

T = TypeVar("T")

ERROR_BODY_BYTES: Final = 64 * 1024
ATTEMPTS: Final = 4
_FIRST_PAUSE_S: Final = 0.1  # doubled each time and drawn evenly from zero on, so that many callers spread out
_LONGEST_PAUSE_S: Final = 2.0
_PATIENCE_S: Final = 20.0  # no third attempt after it: a service that falls silent takes 30 s each time
_MOST_MESSAGE_CHARACTERS: Final = 200

_PASSING_STATUS: Final = frozenset({429, 500, 502, 503, 504})
_PASSING: Final = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "IncompleteBody",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "OperationAborted",
        "ConditionalRequestConflict",
    }
)
_OLD_CREDENTIALS: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_NO_UPLOAD: Final = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder"})
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "StorageFull"})
_ELSEWHERE: Final = frozenset(
    {"PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
)
WRONG_DIGEST: Final = frozenset({"XAmzContentSHA256Mismatch", "BadDigest", "XAmzContentChecksumMismatch"})


class Trouble(Exception):
    """What one attempt met. `passes`: another attempt may go better."""

    def __init__(self, text: str, *, passes: bool) -> None:
        super().__init__(text)
        self.passes = passes


class Unreached(Trouble):
    """No answer, or none that could be used. `nothing_sent`: not even a byte of the request's body left us."""

    def __init__(self, reason: str, *, passes: bool = True, nothing_sent: bool = False) -> None:
        super().__init__(reason, passes=passes)
        self.nothing_sent = nothing_sent


class Refused(Trouble):
    """The service answered with an error; `code` is S3's own word for it."""

    def __init__(self, status: int, code: str, message: str = "", *, region: str = "") -> None:
        overloaded = status in _PASSING_STATUS and code != "NotImplemented"
        text = f"{status} {code}: {message}" if message else f"{status} {code}"
        super().__init__(text, passes=overloaded or code in _PASSING or code in _OLD_CREDENTIALS)
        self.status = status
        self.code = code
        self.message = message
        self.region = region

    @property
    def has_old_credentials(self) -> bool:
        """Whether fetching the credentials anew may help."""
        return self.code in _OLD_CREDENTIALS


def parse_refusal(status: int, body: bytes, *, region: str = "") -> Refused:
    """Read an error answer; a body that is no S3 error gives a `Refused` that has the status alone."""
    fields = _fields(body)
    code = fields.get("Code") or _CODE_OF_STATUS.get(status, "Unknown")
    return Refused(status, code, fields.get("Message", ""), region=fields.get("Region", "") or region)


_CODE_OF_STATUS: Final = {
    301: "PermanentRedirect",
    307: "TemporaryRedirect",
    403: "AccessDenied",
    412: "PreconditionFailed",
}


def _fields(body: bytes) -> dict[str, str]:
    """The children of the root element by name, without their namespace."""
    declares = b"<!" in body or b"\0" in body  # the second: in UTF-16 the first would look otherwise
    if len(body) > ERROR_BODY_BYTES or declares or not body.lstrip().startswith(b"<"):
        return {}
    try:
        root = ET.fromstring(body)  # noqa: S314 - bounded, and nothing that declares entities gets here
    except ET.ParseError:
        return {}
    return {child.tag.rpartition("}")[2]: _printable(child.text or "") for child in root}


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:_MOST_MESSAGE_CHARACTERS]


def storage_error(trouble: Trouble, what: str, *, bucket: str, source: str) -> StorageError:
    """The storage error for trouble with `what`. `source` says where the credentials came from."""
    if isinstance(trouble, Refused):
        return _refused(trouble, what, bucket=bucket, source=source)
    return Unavailable(f"{what}: {trouble}")


def _refused(refused: Refused, what: str, *, bucket: str, source: str) -> StorageError:
    code = refused.code
    if code == "NoSuchKey":
        return BlobUnknown(f"{what}: the bucket {bucket} has no such object")
    if code in _NO_UPLOAD:
        return UploadUnknown(f"{what}: {refused}")
    if code in _FULL or refused.status == 507:  # noqa: PLR2004 - Insufficient Storage, RFC 4918
        return StorageFull(f"{what}: the bucket {bucket} or its owner is over quota ({code})")
    if code == "PreconditionFailed":
        return Conflict(f"{what}: there is such an object already")
    return Unavailable(f"{what}: {_advice(refused, bucket=bucket, source=source)}")


def _advice(refused: Refused, *, bucket: str, source: str) -> str:
    code = refused.code
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket} at this endpoint; create it, or correct bucket and endpoint_url"
    if code in _ELSEWHERE:
        region = refused.region or "another region (the answer does not say which)"
        return f"the bucket {bucket} is in {region}; set region (and endpoint_url) to it ({code})"
    if code == "RequestTimeTooSkewed":
        return "the clock of this machine and the store's differ by more than 15 minutes; set it right (NTP)"
    if refused.status == 403 or code in _OLD_CREDENTIALS:  # noqa: PLR2004 - Forbidden
        return f"the store refused the credentials from {source} ({code}); check them and the bucket's policy"
    return f"the store answered {refused}"


async def retried(call: Callable[[], Awaitable[T]], *, can_repeat: bool = True) -> T:
    """The result of the first attempt that succeeds, out of at most 4; raises the last one's `Trouble`.

    Waits up to 2 s between two attempts; after 20 s in all, only a second one is made. Without `can_repeat` only what
    never left us is tried again.
    """
    pause_s = _FIRST_PAUSE_S
    patient_until = trio.current_time() + _PATIENCE_S
    for attempt in range(1, ATTEMPTS):
        try:
            return await call()
        except Trouble as trouble:
            unsent = isinstance(trouble, Unreached) and trouble.nothing_sent
            if not trouble.passes or not (can_repeat or unsent):
                raise
            if attempt > 1 and trio.current_time() > patient_until:
                raise
        await trio.sleep(random.uniform(0, pause_s))  # noqa: S311 - spreads callers, hides nothing
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return await call()
