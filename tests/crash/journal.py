"""What was sent and what was acknowledged, kept outside the gateway, so that a killed one can be held to it."""

import threading
from dataclasses import dataclass, field

from tests.served import Reply, Served


@dataclass(slots=True)
class Journal:
    """Acknowledged content by path, and the history of one tag that moves all the time. Safe for threads."""

    content: dict[str, bytes] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    hot_sent: list[str] = field(default_factory=list)
    hot_acknowledged: int = -1
    open_uploads: dict[str, bytes] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self, path: str, content: bytes) -> None:
        """The gateway said that this content is there."""
        with self.lock:
            self.content[path] = content
            self.fresh.append(path)

    def send_hot(self, digest: str) -> int:
        """The tag is about to be moved there; gives the move's number."""
        with self.lock:
            self.hot_sent.append(digest)
            return len(self.hot_sent) - 1

    def acknowledge_hot(self, number: int) -> None:
        """The gateway said that the tag moved."""
        with self.lock:
            self.hot_acknowledged = max(self.hot_acknowledged, number)

    def note(self, reply: Reply, *expected: int) -> bool:
        """Whether the answer is one of those expected; anything else is a failure of the run."""
        if reply.status in expected:
            return True
        with self.lock:
            self.failures.append(f"{reply.status} {reply.body[:200]!r}")
        return False


def verify(gateway: Served, journal: Journal, paths: list[str]) -> list[str]:
    """What is not, byte by byte, what was acknowledged."""
    wrong = []
    for path in paths:
        reply = gateway.admin("GET", path)
        if reply.status != 200 or reply.body != journal.content[path]:
            wrong.append(f"{path}: {reply.status}, {len(reply.body)} of {len(journal.content[path])} bytes")
    return wrong


def verify_hot(gateway: Served, journal: Journal, path: str) -> list[str]:
    """The moving tag is at its last acknowledged place, or at one that was sent after it."""
    if journal.hot_acknowledged < 0:
        return []
    reply = gateway.admin("HEAD", path)
    allowed = journal.hot_sent[journal.hot_acknowledged :]
    found = reply.headers.get("docker-content-digest")
    return [] if reply.status == 200 and found in allowed else [f"{path}: {reply.status} {found}, not in {allowed}"]
