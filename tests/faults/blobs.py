"""Pushes and pulls of one blob as patient clients do them, and exactly what became of each step."""

import http.client
from dataclasses import dataclass, field

from tests.served import ADMIN, Served, authorization, sha256

TRIES = 5
"""How often docker tries a layer."""


@dataclass(slots=True)
class Pushed:
    """A push. `statuses` has every answer in order, 0 for a connection that broke without one."""

    digest: str
    acknowledged: bool = False
    statuses: list[int] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    """The bodies of what was no success."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A pull. `is_complete`: the answer said 200 and its framing was fulfilled, so that a client would take it."""

    status: int
    body: bytes
    is_complete: bool


def push(gateway: Served, name: str, content: bytes, *, chunk_bytes: int | None = None, tries: int = TRIES) -> Pushed:
    """POST, PATCHes, PUT; after any failure ask where the session is and go on from there, some times.

    `chunk_bytes`: how much a PATCH carries; by default all. A session that is gone is begun anew.
    """
    pushed = Pushed(sha256(content))
    location, offset = "", 0
    for _ in range(tries):
        if location:
            offset, location = _resume(gateway, location, pushed)
        if not location:
            begun = _step(gateway, pushed, "POST", f"/v2/{name}/blobs/uploads/", b"")
            if begun is None:
                continue
            location, offset = begun["location"], 0
        if _send_rest(gateway, pushed, location, content, offset, chunk_bytes or len(content)):
            pushed.acknowledged = True
            return pushed
    return pushed


def pull(gateway: Served, name: str, digest: str, headers: dict[str, str] | None = None) -> Pulled:
    """One GET; what arrived is kept, also where the answer broke off."""
    connection = gateway.connection(timeout_s=60)
    try:
        path = f"/v2/{name}/blobs/{digest}"
        connection.request("GET", path, headers={**authorization(ADMIN), **(headers or {})})
        answer = connection.getresponse()
        try:
            body = answer.read()
        except http.client.IncompleteRead as error:
            return Pulled(answer.status, error.partial, is_complete=False)
        except OSError:
            return Pulled(answer.status, b"", is_complete=False)
        return Pulled(answer.status, body, is_complete=answer.status in {200, 206})
    except (OSError, http.client.HTTPException):
        return Pulled(0, b"", is_complete=False)
    finally:
        connection.close()


def _resume(gateway: Served, location: str, pushed: Pushed) -> tuple[int, str]:
    """Where the session stands, and its address; no address where it is gone."""
    try:
        reply = gateway.admin("GET", location)
    except (OSError, http.client.HTTPException):
        pushed.statuses.append(0)
        return 0, ""
    if reply.status != 204:
        pushed.statuses.append(reply.status)
        return 0, ""
    last = int(reply.headers["range"].partition("-")[2])
    return (last + 1 if last else 0), reply.headers["location"]


def _send_rest(gateway: Served, pushed: Pushed, location: str, content: bytes, offset: int, chunk_bytes: int) -> bool:
    for start in range(offset, len(content), chunk_bytes):
        chunk = content[start : start + chunk_bytes]
        span = {"Content-Range": f"{start}-{start + len(chunk) - 1}", "Content-Type": "application/octet-stream"}
        taken = _step(gateway, pushed, "PATCH", location, chunk, span)
        if taken is None:
            return False
        location = taken["location"]
    joint = "&" if "?" in location else "?"
    return _step(gateway, pushed, "PUT", f"{location}{joint}digest={pushed.digest}", b"") is not None


def _step(
    gateway: Served, pushed: Pushed, method: str, path: str, body: bytes, headers: dict[str, str] | None = None
) -> dict[str, str] | None:
    """The answer's fields where it was a success; the answer is written down in any case."""
    try:
        reply = gateway.admin(method, path, body, headers or {})
    except (OSError, http.client.HTTPException):
        pushed.statuses.append(0)
        return None
    pushed.statuses.append(reply.status)
    if reply.status >= 300:
        pushed.answers.append(reply.body[:500])
        return None
    return dict(reply.headers)
