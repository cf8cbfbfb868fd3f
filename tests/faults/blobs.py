"""Pushes and pulls of one blob as patient clients do them, and exactly what became of each step."""

import http.client
from dataclasses import dataclass, field

from tests.served import ADMIN, Served, authorization, send, sha256

TRIES = 5
"""How often docker tries a layer."""
PATIENCE_S = 90.0
"""For any answer; clients have more."""


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
    pushing = _Pushing(gateway, content, chunk_bytes or len(content), Pushed(sha256(content)))
    for _ in range(tries):
        if pushing.resume() or pushing.begin(name):
            pushing.pushed.acknowledged = pushing.send_rest()
        if pushing.pushed.acknowledged:
            break
    return pushing.pushed


def pull(gateway: Served, name: str, digest: str, headers: dict[str, str] | None = None) -> Pulled:
    """One GET; what arrived is kept, also where the answer broke off."""
    connection = gateway.connection(timeout_s=PATIENCE_S)
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


@dataclass(slots=True)
class _Pushing:
    """A push under way: where its session is and how much of the content it has."""

    gateway: Served
    content: bytes
    chunk_bytes: int
    pushed: Pushed
    location: str = ""
    offset: int = 0

    def begin(self, name: str) -> bool:
        """A new session."""
        self.offset = 0
        return self._step("POST", f"/v2/{name}/blobs/uploads/", b"")

    def resume(self) -> bool:
        """Ask the session how far it is; False where there is none."""
        if not self.location or not self._step("GET", self.location, None):
            self.location = ""
            return False
        return True

    def send_rest(self) -> bool:
        """The PATCHes from there on, and the PUT."""
        for start in range(self.offset, len(self.content), self.chunk_bytes):
            chunk = self.content[start : start + self.chunk_bytes]
            if not self._step("PATCH", self.location, chunk, {"Content-Range": f"{start}-{start + len(chunk) - 1}"}):
                return False
        joint = "&" if "?" in self.location else "?"
        return self._step("PUT", f"{self.location}{joint}digest={self.pushed.digest}", b"")

    def _step(self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None) -> bool:
        """Whether the answer is a success; it is written down in any case."""
        connection = self.gateway.connection(timeout_s=PATIENCE_S)
        try:
            reply = send(connection, method, path, body, headers or {}, auth=ADMIN)
        except (OSError, http.client.HTTPException):
            self.pushed.statuses.append(0)
            return False
        finally:
            connection.close()
        self.pushed.statuses.append(reply.status)
        if reply.status >= 300:
            self.pushed.answers.append(reply.body[:500])
            return False
        self.location = reply.headers["location"]
        if method == "GET":
            last = int(reply.headers["range"].partition("-")[2])
            self.offset = last + 1 if last else 0
        return True
