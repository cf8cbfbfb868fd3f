"""What upload sessions promise, as a model that a reader can check by eye: bytes in memory, no server, no files.

It says what a request on a session is answered and what is kept. It shares no code with the gateway.
"""

import hashlib
import random
from dataclasses import dataclass, field
from typing import Self


class Piece(bytes):
    """Bytes that a failing example shows as two numbers."""

    shown: str

    @classmethod
    def of(cls, seed: int, size_bytes: int) -> Self:
        """That many bytes, always the same for the same seed."""
        made = cls(random.Random(seed).randbytes(size_bytes))
        made.shown = f"Piece.of({seed}, {size_bytes})"
        return made

    def __repr__(self) -> str:
        return self.shown


def digest(content: bytes, algorithm: str) -> str:
    """The digest of some bytes, as text."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@dataclass(frozen=True)
class Answer:
    """What an answer must be: its status, the code of a refusal, and the Range where one is due."""

    status: int
    code: str | None = None
    range: str | None = None


@dataclass(frozen=True)
class Chunk:
    """A body and the first and last byte that its Content-Range says; a text for what nobody can read, or no header."""

    body: bytes
    said: tuple[int, int] | str | None
    form: str = "{}-{}"

    @property
    def header(self) -> dict[str, str]:
        """The header to send."""
        if self.said is None:
            return {}
        return {"Content-Range": self.said if isinstance(self.said, str) else self.form.format(*self.said)}


@dataclass
class Session:
    """One upload session: whose, on which image, and the bytes that it holds."""

    upload_id: str
    image: str
    owner: int
    content: bytes = b""

    @property
    def range(self) -> str:
        """What `Range` says: never negative, so nothing and one byte look alike (row UP-07)."""
        return f"0-{max(len(self.content) - 1, 0)}"


@dataclass
class Model:
    """All sessions of one example, open and ended, and what each image may read by which digest."""

    open: list[Session] = field(default_factory=list)
    ended: list[Session] = field(default_factory=list)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    absent: set[tuple[str, str]] = field(default_factory=set)

    def store(self, image: str, name: str, content: bytes) -> Answer:
        """The image may read this from now on."""
        self.blobs[image, name] = content
        self.absent.discard((image, name))
        return Answer(201)

    def refuse(self, image: str, name: str, answer: Answer) -> Answer:
        """The image has nothing new under that digest."""
        if (image, name) not in self.blobs:
            self.absent.add((image, name))
        return answer

    def end(self, session: Session) -> None:
        """Nobody can use the session any more."""
        self.open.remove(session)
        self.ended.append(session)

    def append(self, session: Session, chunk: Chunk) -> Answer:
        """PATCH."""
        refused = _judge(chunk, session)
        if refused is None:
            session.content += chunk.body
            return Answer(202, range=session.range)
        return refused

    def finish(self, session: Session, chunk: Chunk, claimed: str | None) -> Answer:
        """PUT; `claimed` is None for a digest that is missing or malformed."""
        if claimed is None:
            return Answer(400, "DIGEST_INVALID")
        refused = _judge(chunk, session)
        if refused is not None:
            return self.refuse(session.image, claimed, refused)
        self.end(session)
        return self.push(session.image, session.content + chunk.body, claimed)

    def push(self, image: str, content: bytes, claimed: str) -> Answer:
        """All bytes and the digest that they should have (POST with digest=, or the end of a session)."""
        if digest(content, claimed.partition(":")[0]) != claimed:
            return self.refuse(image, claimed, Answer(400, "DIGEST_INVALID"))
        return self.store(image, claimed, content)

    def push_at_once(self, image: str, chunk: Chunk, claimed: str) -> Answer:
        """POST with digest=: as a session of its own that ends with its only request."""
        refused = _judge(chunk, Session("", image, 0))
        if refused is not None:
            return self.refuse(image, claimed, Answer(refused.status, refused.code))
        return self.push(image, chunk.body, claimed)

    def mount(self, image: str, name: str, source: str | None) -> bool:
        """Whether POST with mount= links the blob; if not, it opens a session."""
        holders = {image for image, known in self.blobs if known == name} if source is None else {source}
        content = next((self.blobs[each, name] for each in holders if (each, name) in self.blobs), None)
        if content is None:
            return False
        self.store(image, name, content)
        return True

    def cancel(self, session: Session) -> Answer:
        """DELETE."""
        self.end(session)
        return Answer(204)

    def delete_blob(self, image: str, name: str) -> Answer:
        """DELETE of a blob in one image."""
        if self.blobs.pop((image, name), None) is None:
            return Answer(404, "BLOB_UNKNOWN")
        return self.refuse(image, name, Answer(202))


def _judge(chunk: Chunk, session: Session) -> Answer | None:
    """Why a chunk is refused; nothing of it is kept then, and the session goes on."""
    if chunk.said is None:
        return None
    if isinstance(chunk.said, str):
        return Answer(400, "SIZE_INVALID")
    first, last = chunk.said
    if last < first:
        return Answer(400, "SIZE_INVALID")
    if first != len(session.content):
        return Answer(416, "BLOB_UPLOAD_INVALID", session.range)
    if last - first + 1 != len(chunk.body):
        return Answer(400, "SIZE_INVALID")
    return None
