"""What an attack by bytes is: what is sent, and exactly what must come back. A table's row; not a test.

A gateway is asked for /health/live (200, no account), for an upload without an account (401), and for the upload of a
small blob, whose digest proves that the body was taken byte for byte. What must never be served is asked as /smuggled.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from tests.security.wire.attacker import Ending
from tests.security.wire.fortress import NAME, SMALL, Fortress

BODY: Final = SMALL
DIGEST: Final = hashlib.sha256(BODY).hexdigest().encode()
HOST: Final = b"Host: localhost\r\n"
GET: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""Answered 404 where it is taken for a request, which no table expects."""
SMUGGLED_CHUNKS: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
UPLOADS: Final = b"/v2/" + NAME.encode() + b"/blobs/uploads/"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
CHUNKS: Final = b"c\r\nhello, layer\r\n0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every status in order, 100 included, and whether the connection carries another request afterwards."""

    says: tuple[int, ...]
    stays: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack. Several outcomes only where the RFC leaves the choice and each of them is safe."""

    id: str
    why: str
    send: bytes
    outcomes: tuple[Outcome, ...]
    ends: bool = False
    """The client ends its side after sending."""
    heads: bool = False
    """Every request is a HEAD."""
    announced: bool = True
    """The last answer says that the connection closes; False where that was decided after the answer began."""


def refused(id: str, why: str, send: bytes, *, status: int = 400, ends: bool = False) -> Case:  # noqa: A002  # a row's first column
    """The server refuses by itself and closes; nothing that follows is served."""
    return Case(id=id, why=why, send=send, outcomes=(Outcome((status,)),), ends=ends)


def served(id: str, why: str, send: bytes, *says: int, heads: bool = False) -> Case:  # noqa: A002
    """Every request is answered and the connection goes on."""
    return Case(id=id, why=why, send=send, outcomes=(Outcome(says, stays=True),), heads=heads)


def closed(id: str, why: str, send: bytes, *says: int, ends: bool = False, announced: bool = True) -> Case:  # noqa: A002
    """These answers, or none, and the server closes."""
    return Case(id=id, why=why, send=send, outcomes=(Outcome(says),), ends=ends, announced=announced)


def either(id: str, why: str, send: bytes, *outcomes: Outcome, ends: bool = False) -> Case:  # noqa: A002
    """The RFC allows each of these, and none of them hides a second request."""
    return Case(id=id, why=why, send=send, outcomes=outcomes, ends=ends)


OR_REFUSED: Final = Outcome((400,))


def push(fields: bytes, body: bytes = b"") -> bytes:
    """The upload of `BODY` by somebody who may, with these lines of framing."""
    return (
        b"POST "
        + UPLOADS
        + b"?digest=sha256:"
        + DIGEST
        + b" HTTP/1.1\r\n"
        + HOST
        + b"@BEARER@"
        + fields
        + b"\r\n"
        + body
    )


def intrude(fields: bytes, body: bytes = b"") -> bytes:
    """An upload by somebody who is nobody."""
    return b"PUT " + UPLOADS + b"abc HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def ask(fields: bytes) -> bytes:
    """A request for /health/live with more fields."""
    return b"GET /health/live HTTP/1.1\r\n" + HOST + fields + b"\r\n"


def length(value: bytes) -> bytes:
    """A Content-Length field."""
    return b"Content-Length: " + value + b"\r\n"


def bytes_of(case: Case, fortress: Fortress) -> bytes:
    """What to send to this gateway."""
    return case.send.replace(b"@BEARER@", f"Authorization: Bearer {fortress.bearer}\r\n".encode()).replace(
        b"@LAYER@", fortress.layer_digest.encode()
    )


def play(case: Case, fortress: Fortress, *, dribble: bool = False) -> tuple[Outcome, Ending]:
    """Make the attack; what came of it. A connection that stays is asked once more, and must then be at its end."""
    with fortress.attack() as attacker:
        attacker.force(bytes_of(case, fortress), dribble=dribble)
        if case.ends:
            attacker.end()
        staying = [each for each in case.outcomes if each.stays]
        if not staying:
            ending = attacker.listen(to_heads=case.heads)
            return Outcome(ending.statuses), ending
        first = attacker.listen(count=len(staying[0].says), to_heads=case.heads)
        while (first.statuses[-1:]) == (100,):  # the answer itself is still to come
            more = attacker.listen(count=1)
            first = Ending(first.answers + more.answers, more.rest, more.reset)
        attacker.force(LAST).end()
        last = attacker.listen()
    ending = Ending(first.answers + last.answers, last.rest, last.reset)
    stays = last.statuses == (200,) and last.answers[0].headers.get("connection") == "close"
    return Outcome(first.statuses if stays else ending.statuses, stays), ending


def judge(case: Case, fortress: Fortress, *, dribble: bool = False) -> None:
    """Assert that the attack ends as the table says, in the form in which the server refuses."""
    outcome, ending = play(case, fortress, dribble=dribble)
    evidence = (case.id, case.why, bytes_of(case, fortress)[:2000], ending)
    assert outcome in case.outcomes, evidence
    assert ending.rest == b"", evidence
    if case.announced and not outcome.stays and outcome.says and not case.ends:
        last = ending.answers[-1]
        assert last.headers.get("connection", "").lower() == "close", evidence
        if last.status >= 400:
            assert last.headers["content-type"] == "application/json", evidence
