"""The fast lane: a memo of answers that the application gave to pulls, replayed while they would come out the same.

It decides nothing. An answer is found by everything of a request that the application's decision reads (`_key`), and
replayed as long as the caller's authentication, and what the answer itself says of its end, have not run out and none
of the scopes that the decision depended on has changed in the database, which is asked anew each time, over all
processes. What is not known here gives None, and the application is asked; only answers that grant are learned, so
whoever is refused always meets the application.

Where changes by other processes are told of a little late (`Changes.exact`), answers to pulls by tag are not learned
unless the operator allows it. While such a database is away, pulls by digest go on for a while on what was last
certain: bytes of a digest never change, only the right to them may, and that the operator bounds (`outage_s`). Where
only word of changes does not come, the application is asked, which asks the database.

Among the answers for one known object (range, "you have it", HEAD) `plans` chooses, here as in the handlers. What else
happens at a pull goes through the same calls as there: `Pulls.note`, `Authenticator.note_use`, `Content.renew_nowait`.

Bounded in bytes, entries and open files. Holds digests of Authorization headers, never the headers.
"""

import hashlib
import re
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

from quart.wrappers import Request

from gateway.access.authenticate import Authenticator
from gateway.access.principal import Principal
from gateway.edge.pulls import Pulled, Pulls, Way
from gateway.edge.streams import watch
from gateway.logs import get_logger
from gateway.oci.errors import RegistryError
from gateway.v2.open_files import HeldFile, OpenFiles
from gateway.v2.plans import CHOOSING, Known, Plan, Wishes, wishes_of
from gateway.wire.recall import Asked, FileSpan, Recalled
from storage import Changes, Content, FoundBlob, OpenFile, Span
from storage.metadata.changes import ACCESS, blob_scope, image_scope

Key = tuple[Any, ...]

_LOOKED: Final = "gateway.lane"
_ENTRY_BYTES: Final = 2048
"""What an entry takes besides its texts: objects and places in tables, measured with tracemalloc and rounded up."""
_METHODS: Final = frozenset({b"GET", b"HEAD"})
_FORWARDED: Final = b"x-forwarded-"
_NAMESPACED: Final = re.compile(rb"[^?]*\?ns=[A-Za-z0-9.:_-]{1,255}")
_VARYING: Final = frozenset({b"content-type", b"content-length", b"content-range", b"x-request-id"})
"""Fields of an answer that differ among the answers for one object: the plan's, and the request's id."""
_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode("ascii")
    for status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_MODIFIED)
}
_IDS: Final = 1 << 64
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an answer of the application was made of.

    `image_id` is where it was found, None for what depends on more than the lane looks at; `blob` what was found of a
    blob. `content` is a manifest's bytes, None for what must not be held. From the Unix second `fresh_until` on the
    application may answer otherwise although nothing has changed here: a tag of another registry is asked for again.
    """

    pulled: Pulled
    principal: Principal
    known: Known
    image_id: int | None
    blob: FoundBlob | None = None
    content: bytes | None = None
    fresh_until: float | None = None


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """`misses`: asked and not answered. `forgotten`: entries by reason. `unsure`: changes could not be told.

    `outage`: answered on what was last certain, while the database was away; these are hits, too.
    """

    hits: int
    misses: int
    unsure: int
    outage: int
    forgotten: Mapping[str, int]
    entries: int
    held_bytes: int
    open_files: int


class _Memo:
    """One remembered answer. `seen`: the newest change at which it is known to be good."""

    __slots__ = (
        "blob",
        "content",
        "cost_bytes",
        "credential_id",
        "head",
        "is_by_digest",
        "known",
        "linked_at",
        "pulled",
        "scopes",
        "seen",
        "stable",
        "valid_until",
    )

    def __init__(self, lesson: Lesson, *, seen: int, stable: bytes, key: Key) -> None:
        self.seen = seen
        self.scopes = _scopes(lesson)
        self.valid_until = lesson.principal.valid_until
        if lesson.fresh_until is not None:
            self.valid_until = min(self.valid_until, lesson.fresh_until)
        self.credential_id = lesson.principal.credential_id if lesson.principal.came_by_secret else None
        self.pulled = lesson.pulled
        self.is_by_digest = _is_by_digest(lesson.pulled)
        self.known = lesson.known
        self.content = lesson.content
        self.blob = lesson.blob
        self.linked_at = lesson.blob.linked_at if lesson.blob is not None else 0
        self.stable = stable
        self.head = _head(lesson.known.plan(Wishes("HEAD")), stable)
        self.cost_bytes = _ENTRY_BYTES + len(self.content or b"") + len(stable) + len(self.head) + _length(key)


class Lane:
    """See the module docstring; a `wire.recall.Recall`. One per process, on the event loop only."""

    def __init__(
        self,
        changes: Changes,
        *,
        authenticator: Authenticator,
        content: Content,
        pulls: Pulls,
        withdrawn: Callable[[], int],
        memory_bytes: int,
        open_files: int,
        is_away: Callable[[], bool],
        outage_s: float,
        notified_tags: bool,
        clock: Callable[[], float],
    ) -> None:
        """`withdrawn` counts the signing keys that are not known any more; `memory_bytes` 0 remembers nothing.

        `is_away` (whether nobody can ask the database), `outage_s` and `notified_tags` are for changes that are not
        exact; see the module docstring.
        """
        self._changes = changes
        self._authenticator = authenticator
        self._content = content
        self._pulls = pulls
        self._withdrawn = withdrawn
        self._memory_bytes = memory_bytes
        self._learns_tags = changes.exact or notified_tags
        self._is_away = is_away
        self._outage_s = 0 if changes.exact else outage_s
        self._clock = clock
        self._memos: OrderedDict[Key, _Memo] = OrderedDict()
        self._files = OpenFiles(limit=open_files)
        self._held_bytes = 0
        self._known_withdrawn = withdrawn()
        self._salt = secrets.token_bytes(32)
        self._id = secrets.randbits(64)
        self._step = secrets.randbits(64) | 1  # odd: every id comes once in 2 ** 64
        self._hits = self._misses = self._unsure = self._outage = 0
        self._forgotten: Counter[str] = Counter()

    # --- replaying ------------------------------------------------------------------------------------------------

    def recall(self, asked: Asked) -> Recalled | None:
        """See `wire.recall.Recall`."""
        try:
            recalled = self._recall(asked)
        except Exception as error:  # noqa: BLE001  # a defect here costs the short way, never the answer
            _log.error("lane_failed", exc_info=error)
            recalled = None
        if recalled is None:
            self._misses += 1
        else:
            self._hits += 1
        return recalled

    def _recall(self, asked: Asked) -> Recalled | None:
        key, chooses = self._key(asked.target, asked.headers, asked.client)
        if key is None or asked.method not in _METHODS:
            return None
        memo = self._memos.get(key)
        if memo is None or not self._holds(key, memo):
            return None
        self._memos.move_to_end(key)
        if not chooses:
            return self._answer(memo, None, sends=asked.method == b"GET")
        try:
            plan = memo.known.plan(wishes_of(asked.method.decode("ascii"), asked.headers))
        except RegistryError:  # the application says how it is refused
            return None
        return self._answer(memo, plan, sends=asked.method == b"GET")

    def _holds(self, key: Key, memo: _Memo) -> bool:
        """Whether the application would come to the same result now."""
        seen = self._changes.look()
        away = seen is None
        if seen is None and (seen := self._last_certain(memo)) is None:
            self._unsure += 1
            return False
        if self._withdrawn() != self._known_withdrawn:
            self._known_withdrawn = self._withdrawn()
            self._forget_all("keys")
            return False
        if self._clock() >= memo.valid_until:
            self._forget(key, "expired")
            return False
        if seen != memo.seen:
            changed_at = self._changes.changed_at
            for scope in memo.scopes:
                if changed_at(scope) > memo.seen:
                    self._forget(key, "changed")
                    return False
            memo.seen = seen
        self._outage += away
        return True

    def _last_certain(self, memo: _Memo) -> int | None:
        """The newest change that was known before the database went away, if that is not too long ago for this answer.

        None where the database can be asked: it knows better.
        """
        if not (self._outage_s and memo.is_by_digest and self._is_away()):
            return None
        certain = self._changes.last_certain()
        if certain is None or certain[1] > self._outage_s:
            return None
        return certain[0]

    def _answer(self, memo: _Memo, plan: Plan | None, *, sends: bool) -> Recalled | None:
        """The answer as planned (None: the whole object), with all that happens at a pull; None if it cannot be."""
        status = 200 if plan is None else plan.status
        file: HeldFile | None = None
        if memo.blob is not None:
            if sends and status != HTTPStatus.NOT_MODIFIED:
                file = self._files.take(memo.blob.record.stored.key, memo.known.size_bytes)
                if file is None:
                    return None
            renewed = self._content.renew_nowait(memo.blob.image_id, memo.pulled.digest, linked_at=memo.linked_at)
            if renewed is None:
                if file is not None:
                    file.release()
                return None
            memo.linked_at = renewed
        if memo.credential_id is not None:
            self._authenticator.note_use(memo.credential_id)
        self._pulls.note(memo.pulled, way=Way.LANE)
        self._id = (self._id + self._step) % _IDS
        head = b"%bx-request-id: %016x\r\n" % (memo.head if plan is None else _head(plan, memo.stable), self._id)
        size_bytes = memo.known.size_bytes if plan is None else plan.size_bytes
        if not sends or status == HTTPStatus.NOT_MODIFIED:
            return Recalled(status, head, b"", 0)
        if file is None:
            return Recalled(status, head, memo.content or b"", size_bytes)
        return Recalled(status, head, _body(memo, plan, file.descriptor), size_bytes, file.release)

    # --- learning -------------------------------------------------------------------------------------------------

    def look(self, request: Request) -> None:
        """Note where the changes stand; to be called before anything is read for the answer to this pull."""
        if not self._memory_bytes:
            return
        scope = cast("dict[str, Any]", request.scope)  # servers and frameworks add keys, too
        target = scope["raw_path"]
        if scope["query_string"]:
            target += b"?" + scope["query_string"]
        key, _ = self._key(target, scope["headers"], scope.get("client"))
        if key is not None and (seen := self._changes.look()) is not None:
            scope[_LOOKED] = key, seen, self._withdrawn()

    def witness(self, request: Request, lesson: Lesson) -> None:
        """Learn from the answer to this pull when it begins to be sent; the pull is noted then."""
        # An object of the scope: it is gone with the request.
        looked = cast("tuple[Key, int, int] | None", request.scope.get(_LOOKED))
        watch(request, partial(self._learn, looked, lesson))

    def _learn(
        self,
        looked: tuple[Key, int, int] | None,
        lesson: Lesson,
        status: int,
        fields: Sequence[tuple[bytes, bytes]],
        file: OpenFile | None,
    ) -> None:
        if status not in _STATUS_LINES:
            return
        self._pulls.note(lesson.pulled, way=Way.APPLICATION)
        if looked is None or lesson.image_id is None or (lesson.blob is None and lesson.content is None):
            return
        if not self._learns_tags and not _is_by_digest(lesson.pulled):
            return
        if lesson.fresh_until is not None and lesson.fresh_until <= self._clock():
            return
        key, seen, withdrawn = looked
        if withdrawn != self._withdrawn():
            return
        stable = b"".join(b"%b: %b\r\n" % field for field in fields if field[0] not in _VARYING)
        memo = _Memo(lesson, seen=seen, stable=stable, key=key)
        before = self._memos.get(key)
        if before is not None:
            if before.seen > seen:  # a slower answer, of an older state
                return
            self._forget(key, "replaced")
        self._memos[key] = memo
        self._held_bytes += memo.cost_bytes
        if file is not None and lesson.blob is not None:
            self._files.keep(lesson.blob.record.stored.key, file.descriptor)
        while self._held_bytes > self._memory_bytes:
            self._forget(next(iter(self._memos)), "room")

    # --- housekeeping ---------------------------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Let go of files that nobody asks for or that were removed; for a job, every half minute."""
        await self._files.tidy()

    def close(self) -> None:
        """Forget everything and close the files that are not being sent."""
        self._forget_all("closed")
        self._files.clear()

    def statistics(self) -> LaneStatistics:
        """A snapshot for metrics."""
        return LaneStatistics(
            hits=self._hits,
            misses=self._misses,
            unsure=self._unsure,
            outage=self._outage,
            forgotten=dict(self._forgotten),
            entries=len(self._memos),
            held_bytes=self._held_bytes,
            open_files=len(self._files),
        )

    def _forget(self, key: Key, reason: str) -> None:
        self._held_bytes -= self._memos.pop(key).cost_bytes
        self._forgotten[reason] += 1

    def _forget_all(self, reason: str) -> None:
        for key in list(self._memos):
            self._forget(key, reason)

    def _key(
        self, target: bytes, fields: Sequence[tuple[bytes, bytes]], client: tuple[str, int] | None
    ) -> tuple[Key | None, bool]:
        """All of a request that the application's decision to grant reads, and whether it has fields that choose.

        None for what is left to the application: a query (but a mirror's namespace, which is part of where the request
        leads, like the host), several Authorization or Host fields, or no Host.
        Forwarded fields count only from peers that are trusted, so the peer is a part of the key where there are any.
        """
        authorization = host = None
        several = chooses = False
        others: list[bytes] = []
        forwarded = False
        for name, value in fields:
            if name == b"authorization":
                several |= authorization is not None
                authorization = value
            elif name == b"host":
                several |= host is not None
                host = value
            elif name == b"accept":
                others += (name, value)
            elif name in CHOOSING:
                chooses = True
            elif name == b"forwarded" or name.startswith(_FORWARDED):
                forwarded = True
                others += (name, value)
        if several or host is None or (b"?" in target and not _NAMESPACED.fullmatch(target)):
            return None, False
        caller = None if authorization is None else hashlib.sha256(self._salt + authorization).digest()
        peer = client[0] if forwarded and client else None
        return (target, caller, host, peer, *others), chooses


def _is_by_digest(pulled: Pulled) -> bool:
    """Whether the client named the content itself: no tag has a colon."""
    return ":" in pulled.reference_text


def _scopes(lesson: Lesson) -> tuple[str, ...]:
    """All whose change may change the answer: rights, the image's tags, manifests and links, the blob's bytes."""
    scopes = [ACCESS]
    if lesson.image_id is not None:
        scopes.append(image_scope(lesson.image_id))
    if lesson.blob is not None:
        scopes.append(blob_scope(lesson.blob.record.id))
    return tuple(scopes)


def _head(plan: Plan, stable: bytes) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in plan.fields.items())
    return _STATUS_LINES[plan.status] + stable + fields.encode("latin-1")


def _body(memo: _Memo, plan: Plan | None, descriptor: int) -> bytes | FileSpan | list[bytes | FileSpan]:
    if plan is None:
        return FileSpan(descriptor, 0, memo.known.size_bytes)
    if len(plan.body) == 1 and isinstance(span := plan.body[0], Span):
        return FileSpan(descriptor, span.start, span.stop)
    return [FileSpan(descriptor, part.start, part.stop) if isinstance(part, Span) else part for part in plan.body]


def _length(key: Key) -> int:
    return sum(len(part) for part in key if part is not None)
