"""A gateway whose lane is compared with its application, request by request; also as a process of its own.

Whoever drives it gives commands, which are JSON objects with a name in `do`; `perform` carries one out. As a process it
reads commands from its standard input, one a line, and writes what each gave:

    python -m tests.gateway.v2.lane_gateway
"""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa
import trio

from gateway.logs import configure
from gateway.wire.recall import Asked, FileSpan, Recalled
from storage import BlobRecord, BlobUnknown, Digest, SqliteDatabase, Transaction
from storage.metadata import blobs, garbage
from storage.metadata.accounts import find as find_account
from storage.metadata.tables import accounts, signing_keys
from tests.gateway.access.house import Clock
from tests.gateway.registry import Registry
from tests.gateway.v2.told_late import ToldLate

Fields = list[tuple[bytes, bytes]]
PEER = ("192.0.2.7", 50000)
_ROOT = Path(__file__).resolve().parents[3]
_ID = re.compile(rb"[0-9a-f]{16}")


@dataclass(frozen=True)
class Seen:
    """An answer as far as it must be the same: the request's id and the separator of parts are its own each time."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, status: int, fields: Fields, body: bytes) -> "Seen":
        """Check what differs, and leave it out."""
        ids = [value for name, value in fields if name == b"x-request-id"]
        assert len(ids) == 1
        assert _ID.fullmatch(ids[0])
        rest = [field for field in fields if field[0] != b"x-request-id"]
        kind = dict(rest).get(b"content-type", b"")
        if kind.startswith(b"multipart/byteranges; boundary="):
            boundary = kind.partition(b"=")[2]
            rest = [(name, value.replace(boundary, b"BOUNDARY")) for name, value in rest]
            body = body.replace(b"--" + boundary, b"--BOUNDARY")
        return cls(status, tuple(sorted(rest)), body)


class _Held:
    """An open registry in a task of its own: its nurseries end where they began, whoever gives the commands."""

    def __init__(self) -> None:
        self._changed = trio.Event()
        self._registry: Registry | None = None
        self._failure: Exception | None = None
        self._leave = trio.Event()
        self._left = trio.Event()

    async def hold(self, opening: AbstractAsyncContextManager[Registry]) -> None:
        """The task."""
        try:
            async with opening as self._registry:
                self._changed.set()
                await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - `opened` or `close` raises it
            self._failure = error
        finally:
            self._changed.set()
            self._left.set()

    async def opened(self) -> Registry:
        """Wait for it."""
        await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        assert self._registry is not None
        return self._registry

    async def close(self) -> None:
        """End it."""
        self._leave.set()
        await self._left.wait()
        if self._failure is not None:
            raise self._failure


class LaneGateway:
    """One process's worth of a gateway, on a data directory that others may use too."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry: Registry
        self.hits = 0
        self._held: _Held | None = None

    async def open_told_late(self, data: Path, **sections: Any) -> ToldLate:
        """As `open`, with a lane that hears of changes as over a network; gives what decides when it does."""
        embedded = SqliteDatabase.changes
        told: list[ToldLate] = []

        def late(database: SqliteDatabase) -> ToldLate:
            if not told:
                told.append(ToldLate(embedded(database)))
            return told[0]

        SqliteDatabase.changes = late  # type: ignore[assignment, method-assign]  # for the opening
        try:
            await self.open(data, **sections)
        finally:
            SqliteDatabase.changes = embedded  # type: ignore[method-assign]
        return told[0]

    async def open(self, data: Path, **sections: Any) -> None:
        """Open the data directory, after closing the one before."""
        await self.close()
        self.hits = 0
        self._held = _Held()
        trio.lowlevel.spawn_system_task(self._held.hold, Registry.open(data, clock=self.clock, **sections))
        self.registry = await self._held.opened()

    async def close(self) -> None:
        """Close what is open."""
        if self._held is not None:
            await self._held.close()

    # --- comparing ------------------------------------------------------------------------------------------------

    async def compare(self, method: str, target: str, fields: Fields) -> tuple[int, str | None]:
        """The status the application gives at this instant, and what is wrong with the lane's answer, if anything is.

        The lane learns the application's answer then.
        """
        recalled = self.recall(method, target, fields)
        answered = await self.ask(method, target, fields)
        if (fetching := self.registry.services.fetching) is not None:
            await fetching.turns.wait_idle()  # questions that go on behind an answer change what is right
        if recalled is None:
            return answered.status, None
        self.hits += 1
        if recalled == answered:
            return answered.status, None
        return answered.status, f"{method} {target} {fields}: the lane gave {recalled}, the application {answered}"

    def recall(self, method: str, target: str, fields: Fields) -> Seen | None:
        """What the lane gives."""
        sent = [(b"host", b"registry.test:8080"), *fields]
        recalled = self.registry.services.lane.recall(Asked(method.encode(), target.encode(), sent, PEER, "http"))
        if recalled is None:
            return None
        try:
            body = _body(recalled)
        finally:
            recalled.release()
        assert len(body) == recalled.size_bytes
        line, *texts = recalled.head.removesuffix(b"\r\n").split(b"\r\n")
        assert line.startswith(b"HTTP/1.1 %d " % recalled.status)
        named = [text.partition(b": ") for text in texts]
        return Seen.of(recalled.status, [(name, value) for name, _, value in named], body)

    async def ask(self, method: str, target: str, fields: Fields, body: bytes = b"") -> Seen:
        """What the application gives."""
        path, _, query = target.partition("?")
        scope: Any = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"host", b"registry.test:8080"), *fields, (b"content-length", b"%d" % len(body))],
            "client": PEER,
            "server": ("127.0.0.1", 8080),
            "extensions": {},
            "state": {},
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.registry.app(scope, receive, send)
        start, *rest = sent
        return Seen.of(start["status"], list(start["headers"]), b"".join(each.get("body", b"") for each in rest))

    # --- acts -----------------------------------------------------------------------------------------------------

    async def perform(self, command: dict[str, Any]) -> Any:
        """Carry out a command; gives what JSON can say."""
        arguments = {name: value for name, value in command.items() if name != "do"}
        act: Callable[..., Awaitable[Any]] = getattr(self, f"do_{command['do']}")
        return await act(**arguments)

    async def do_open(self, data: str) -> str:
        """Open a data directory; gives its administrator's Authorization header."""
        await self.open(Path(data))
        return self.registry.admin

    async def do_close(self) -> None:
        """Close it."""
        await self.close()

    async def do_time(self, now: float) -> None:
        """Set the clock."""
        self.clock.now = now

    async def do_request(
        self, method: str, target: str, fields: list[list[str]], body: str = ""
    ) -> tuple[int, list[tuple[str, str]], str]:
        """Any request, to the application. The body is in base 64."""
        seen = await self.ask(method, target, _raw(fields), base64.b64decode(body))
        texts = [(name.decode(), value.decode("latin-1")) for name, value in seen.fields]
        return seen.status, texts, seen.body.decode("latin-1")

    async def do_compare(
        self, requests: list[tuple[str, str, list[list[str]]]]
    ) -> tuple[list[tuple[int, str | None]], int]:
        """Compare these requests one after the other (see `compare`), and tell how often the lane answered so far."""
        return [await self.compare(method, target, _raw(fields)) for method, target, fields in requests], self.hits

    async def do_personal_token(self, account: str) -> tuple[int, str]:
        """A personal token of that user: its id, and its text."""
        found = await self.registry.services.database.read(find_account, account)
        assert found is not None
        minted = await self.registry.services.accounts.create_personal_token(found.id, label="")
        return minted.credential.id, minted.text

    async def do_damage(self, digest: str) -> None:
        """What `sluice fsck` does when it finds wrong bytes: mark the row, then put the file aside."""
        services = self.registry.services

        def mark(tx: Transaction) -> BlobRecord | None:
            found = blobs.find(tx, services.content.storage_id("default"), Digest.parse(digest))
            if found is None or not garbage.mark_damaged(tx, found, now=int(self.clock())):
                return None
            return found

        found = await services.database.transaction(mark)
        if found is not None:
            with suppress(BlobUnknown):
                await services.content.store(found.storage_id).quarantine(found.stored.key)

    async def do_sweep(self) -> None:
        """Collect garbage."""
        await self.registry.services.sweep.run()

    async def do_flush(self) -> None:
        """What the jobs write behind."""
        await self.registry.services.content.flush_touches()
        await self.registry.services.authenticator.flush_usage()

    async def do_expire(self, account: str, at: int | None) -> None:
        """Set an account's expiry."""

        def expire(tx: Transaction) -> None:
            tx.execute(sa.update(accounts).where(accounts.c.name == account).values(expires_at=at))

        await self.registry.services.database.transaction(expire)

    async def do_withdraw_keys(self) -> None:
        """Remove all signing keys from the database; whoever knows them still does until the next refresh."""

        def withdraw(tx: Transaction) -> None:
            tx.execute(sa.delete(signing_keys))

        await self.registry.services.database.transaction(withdraw)

    async def do_refresh_keys(self) -> None:
        """Load the signing keys anew, as a job does every minute."""
        await self.registry.services.keyring.refresh()


class OtherProcess:
    """A `LaneGateway` in a process of its own; waiting for its answers holds the loop, as nothing else is to run."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running

    @classmethod
    @contextmanager
    def started(cls) -> Iterator["OtherProcess"]:
        """A process that is gone afterwards."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [sys.executable, "-m", "tests.gateway.v2.lane_gateway"], cwd=_ROOT, stdin=pipe, stdout=pipe, text=True
        ) as running:
            try:
                yield cls(running)
            finally:
                running.kill()

    async def perform(self, command: dict[str, Any]) -> Any:
        """See `LaneGateway.perform`."""
        assert self._running.stdin is not None
        assert self._running.stdout is not None
        self._running.stdin.write(json.dumps(command) + "\n")
        self._running.stdin.flush()
        line = self._running.stdout.readline()
        assert line, "the other process has ended; its error stands above"
        return json.loads(line)


def _raw(fields: list[list[str]]) -> Fields:
    return [(name.encode(), value.encode("latin-1")) for name, value in fields]


def _body(recalled: Recalled) -> bytes:
    parts = [recalled.body] if isinstance(recalled.body, bytes | FileSpan) else recalled.body
    return b"".join(
        os.pread(part.descriptor, part.stop - part.start, part.start) if isinstance(part, FileSpan) else part
        for part in parts
    )


async def _main() -> None:
    gateway = LaneGateway()
    for line in sys.stdin:
        result = await gateway.perform(json.loads(line))
        print(json.dumps(result), flush=True)
    await gateway.close()


if __name__ == "__main__":
    configure(level="error", form="text")  # to standard error: standard output is for results
    trio.run(_main)
