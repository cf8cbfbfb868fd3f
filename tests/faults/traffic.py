"""Clients at work while something breaks: what they were told and when, to be held to what a registry may say.

Two kinds of threads: some pull what they have pulled before, by digest and with a token that they hold; others do all
that needs the database. Nothing is tried again, every answer is written down. Nothing they ask for is ever absent or
forbidden, so that any 404 or 401 is a lie.
"""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.served import ADMIN, OCI_MANIFEST, Served, image_manifest, send, sha256

NAME = "team/outage"
PUSHED = "team/pushed"
"""Another image: a push into an image ends what is remembered of it, and that is decided anew by the database."""
KINDS = {"cached", "tag", "list", "push"}
WELL_S = 1.0
PAUSE_S = 0.01
BROKEN = -1
"""The status of what ended without an answer."""
GOOD = {200, 201, 202, 204}


@dataclass(frozen=True, slots=True)
class Told:
    """One answer."""

    began_s: float
    ended_s: float
    what: str
    status: int
    retry_after: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether the client got what it asked for."""
        return self.status in GOOD


@dataclass(slots=True)
class Traffic:
    """The clients of one gateway. `prepare` first; then they work inside `running`."""

    gateway: Served
    told: list[Told] = field(default_factory=list)
    contents: dict[str, bytes] = field(default_factory=dict)
    """Cached blobs by digest."""
    manifest: bytes = b""
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    """Blobs that were pushed meanwhile."""
    wrong: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _token: str = ""

    def prepare(self) -> None:
        """Push an image, and pull it once as the clients will."""
        layers = [bytes([number]) * 20_000 for number in range(8)]
        self.gateway.push_blob(PUSHED, b"{}")
        _, self.manifest = self.gateway.push_image(NAME, "latest", *layers)
        self.contents = {sha256(layer): layer for layer in layers}
        self._token = self.gateway.token(f"repository:{NAME}:pull")
        connection = self.gateway.connection()
        for _ in range(3):
            for path, content in self._cached().items():
                assert send(connection, "GET", path, auth=self._token).body == content
        connection.close()

    @contextmanager
    def running(self, *, pullers: int = 3) -> Iterator[None]:
        """The clients work inside the block; they have ended after it."""
        threads = [threading.Thread(target=self._pull_cached) for _ in range(pullers)]
        threads += [
            threading.Thread(target=self._loop, args=(what,)) for what in (self._by_tag, self._push, self._list)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def wait(self, seconds: float) -> None:
        """Let the clients work for so long."""
        self._over.wait(seconds)

    def well_since(self, since_s: float, deadline_s: float) -> float | None:
        """Let the clients work until each kind of them is served again; after how many seconds the last trouble began.

        None where that takes longer than the deadline. What is served must have been so for a second.
        """
        while (now := time.monotonic()) < since_s + deadline_s + WELL_S:
            recent = self.between(now - WELL_S, now)
            if now >= since_s + WELL_S and {each.what for each in recent if each.is_good} >= KINDS:
                bad = [each.began_s for each in self.between(since_s, now) if not each.is_good]
                if not bad or max(bad) < now - WELL_S:
                    return max(bad, default=since_s) - since_s
            self._over.wait(0.05)
        return None

    def between(self, since_s: float, until_s: float, *whats: str) -> list[Told]:
        """What was told to requests that began in this time."""
        return [each for each in self.told if since_s <= each.began_s < until_s and (not whats or each.what in whats)]

    def lost(self) -> list[str]:
        """The acknowledged blobs that are not there, byte by byte."""
        found = {digest: self.gateway.admin("GET", f"/v2/{PUSHED}/blobs/{digest}") for digest in self.acknowledged}
        return [digest for digest, reply in found.items() if reply.body != self.acknowledged[digest]]

    def _cached(self) -> dict[str, bytes]:
        blobs = {f"/v2/{NAME}/blobs/{digest}": content for digest, content in self.contents.items()}
        return {f"/v2/{NAME}/manifests/{sha256(self.manifest)}": self.manifest, **blobs}

    def _pull_cached(self) -> None:
        connection = self.gateway.connection()
        cached = self._cached()
        while not self._over.is_set():
            for path, content in cached.items():
                began = time.monotonic()
                try:
                    reply = send(connection, "GET", path, auth=self._token)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    self._note(began, "cached", BROKEN)
                    continue
                self._note(began, "cached", reply.status, reply.headers.get("retry-after"))
                if reply.status == 200 and reply.body != content:
                    self.wrong.append(path)
                self._over.wait(PAUSE_S)
        connection.close()

    def _loop(self, act: Callable[[int], None]) -> None:
        number = 0
        while not self._over.is_set():
            number += 1
            act(number)
            self._over.wait(PAUSE_S)

    def _by_tag(self, _: int) -> None:
        self._ask("tag", "GET", f"/v2/{NAME}/manifests/latest")

    def _list(self, number: int) -> None:
        self._ask("list", "GET", f"/v2/{NAME}/tags/list")
        if number % 10 == 0:  # checking a password is costly
            self._ask("token", "GET", f"/v2/token?service=sluice&scope=repository:{NAME}:pull")

    def _push(self, number: int) -> None:
        content = f"pushed {number} {time.monotonic_ns()}".encode() * 100
        where = self._ask("push", "POST", f"/v2/{PUSHED}/blobs/uploads/", b"")
        if where is None:
            return
        if self._ask("push", "PUT", f"{where}?digest={sha256(content)}", content) is not None:
            self.acknowledged[sha256(content)] = content
        config = b"{}"
        manifest = image_manifest(config, annotations={"number": str(number)})
        self._ask("push", "PUT", f"/v2/{PUSHED}/manifests/moving", manifest, {"Content-Type": OCI_MANIFEST})

    def _ask(
        self, what: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> str | None:
        """The answer's Location, or an empty text without one; None where the client did not get what it wanted."""
        began = time.monotonic()
        try:
            reply = self.gateway.request(method, path, body, headers or {}, auth=ADMIN)
        except (OSError, http.client.HTTPException):
            self._note(began, what, BROKEN)
            return None
        self._note(began, what, reply.status, reply.headers.get("retry-after"))
        return reply.headers.get("location", "") if reply.status in GOOD else None

    def _note(self, began: float, what: str, status: int, retry_after: str | None = None) -> None:
        self.told.append(Told(began, time.monotonic(), what, status, retry_after))
