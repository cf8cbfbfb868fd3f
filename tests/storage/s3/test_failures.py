"""What a service answers instead of success becomes the right error, with the next step in its words."""

import pytest
import trio

from storage.errors import BlobUnknown, Conflict, StorageFull, Unavailable, UploadUnknown
from storage.s3.failures import ATTEMPTS, Refused, Trouble, Unreached, parse_refusal, retried, storage_error

ANSWER = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>SlowDown</Code><Message>Less, please.</Message></Error>"""
BOMB = b"""<?xml version="1.0"?><!DOCTYPE e [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><Error><Code>&b;</Code></Error>"""


def error_of(refused: Trouble) -> Exception:
    """As a bucket turns it."""
    return storage_error(refused, "object x", bucket="pail", source="AWS's chain (env)")


def test_parse() -> None:
    """Code and message are read whatever the namespace."""
    refused = parse_refusal(503, ANSWER)
    assert (refused.status, refused.code, refused.message, refused.passes) == (503, "SlowDown", "Less, please.", True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>no S3</html>",
        b"<Error><Code>",
        b"{}",
        BOMB,
        ANSWER + b" " * (64 << 10),
        b"\xff\xfe<",
        BOMB.decode().encode("utf-16-le"),
    ],
    ids=["empty", "html", "cut", "json", "entities", "large", "binary", "wide"],
)
def test_parse_anything_else(body: bytes) -> None:
    """What is no S3 error, or could be an attack, leaves the status alone."""
    refused = parse_refusal(403, body)
    assert (refused.status, refused.code, refused.message) == (403, "AccessDenied", "")


def test_message_is_bounded() -> None:
    """What a service says cannot break a log: no control characters, no length."""
    body = b"<Error><Code>A</Code><Message>one\ntwo" + b"x" * 1000 + b"</Message></Error>"
    assert parse_refusal(500, body).message == "onetwo" + "x" * 194


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(404, "NoSuchKey"), BlobUnknown),
        (Refused(404, "NoSuchBucket"), Unavailable),
        (Refused(404, "Unknown"), Unavailable),
        (Refused(404, "NoSuchUpload"), UploadUnknown),
        (Refused(400, "InvalidPart"), UploadUnknown),
        (Refused(412, "PreconditionFailed"), Conflict),
        (Refused(403, "QuotaExceeded"), StorageFull),
        (Refused(507, "Unknown"), StorageFull),
        (Refused(403, "AccessDenied"), Unavailable),
        (Refused(503, "SlowDown"), Unavailable),
        (Unreached("refused"), Unavailable),
    ],
)
def test_kinds(refused: Trouble, kind: type[Exception]) -> None:
    """Only the store's own word for an absent key means that it is absent."""
    assert type(error_of(refused)) is kind


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (Refused(404, "NoSuchBucket"), "no bucket pail .* create it"),
        (Refused(301, "PermanentRedirect", region="eu-west-3"), "eu-west-3; set region"),
        (Refused(400, "AuthorizationHeaderMalformed", region="eu-west-3"), "eu-west-3; set region"),
        (Refused(403, "RequestTimeTooSkewed"), "clock of this machine"),
        (Refused(403, "SignatureDoesNotMatch"), r"credentials from AWS's chain \(env\) \(SignatureDoesNotMatch\)"),
        (Refused(400, "ExpiredToken"), "credentials from"),
        (Refused(500, "InternalError", "oh"), "500 InternalError: oh"),
    ],
)
def test_advice(refused: Refused, words: str) -> None:
    """The message says what to do, and where the credentials came from."""
    with pytest.raises(Unavailable, match=words):
        raise error_of(refused)


@pytest.mark.parametrize(
    ("trouble", "passes"),
    [
        (Refused(500, "InternalError"), True),
        (Refused(501, "NotImplemented"), False),
        (Refused(503, "Unknown"), True),
        (Refused(429, "Unknown"), True),
        (Refused(400, "RequestTimeout"), True),
        (Refused(400, "ExpiredToken"), True),
        (Refused(409, "ConditionalRequestConflict"), True),
        (Refused(200, "InternalError"), True),
        (Refused(403, "AccessDenied"), False),
        (Refused(404, "NoSuchKey"), False),
    ],
)
def test_what_passes(trouble: Trouble, passes: bool) -> None:  # noqa: FBT001 - a column of the table
    """Overload and broken connections pass; refusals do not."""
    assert trouble.passes is passes


class Attempts:
    """A call that meets these troubles, one after the other, and then succeeds."""

    def __init__(self, *troubles: Trouble, takes_s: float = 0) -> None:
        self.troubles = list(troubles)
        self.takes_s = takes_s
        self.made = 0

    async def __call__(self) -> str:
        """One attempt."""
        self.made += 1
        await trio.sleep(self.takes_s)
        if self.troubles:
            raise self.troubles.pop(0)
        return "done"


async def test_retried(autojump_clock: trio.testing.MockClock) -> None:
    """What passes is tried again, after pauses of at most 2 s, until it succeeds."""
    call = Attempts(Refused(503, "SlowDown"), Unreached("broken"), Refused(500, "InternalError"))
    begun = trio.current_time()
    assert await retried(call) == "done"
    assert call.made == ATTEMPTS
    assert trio.current_time() - begun <= 3 * 2.0


async def test_retries_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    """The fourth failure is the caller's."""
    call = Attempts(*(Unreached(f"{number}") for number in range(9)))
    with pytest.raises(Unreached, match="3"):
        await retried(call)
    assert call.made == ATTEMPTS


async def test_silence_is_asked_twice(autojump_clock: trio.testing.MockClock) -> None:
    """A service that takes half a minute to fail is given up after the second time."""
    call = Attempts(*(Unreached(f"{number}") for number in range(9)), takes_s=30)
    with pytest.raises(Unreached, match="1"):
        await retried(call)
    assert call.made == 2


async def test_refusal_is_not_repeated(autojump_clock: trio.testing.MockClock) -> None:
    """What cannot pass is asked once."""
    call = Attempts(Refused(403, "AccessDenied"))
    with pytest.raises(Refused):
        await retried(call)
    assert call.made == 1


@pytest.mark.parametrize(
    ("trouble", "made"),
    [(Unreached("no connection", nothing_sent=True), 2), (Unreached("broken"), 1), (Refused(503, "SlowDown"), 1)],
)
async def test_what_cannot_be_sent_again(trouble: Trouble, made: int, autojump_clock: trio.testing.MockClock) -> None:
    """A payload that can be read once goes out again only if nothing of it had left."""
    call = Attempts(trouble)
    try:
        await retried(call, can_repeat=False)
    except Trouble:
        assert made == 1
    assert call.made == made
