"""A process of its own that pulls a blob through from an upstream, and the upstream: for tests of several processes.

    arrivals_process.py DATABASE STORE ARRIVALS PORT IMAGE DIGEST SIZE LIFETIME_S

DATABASE is a path or a URL, STORE and ARRIVALS are directories; LIFETIME_S is how long the lease of a dead machine
holds others off, 0 if there are no other machines. It says "ready", pulls after a line on stdin, says "first" when it
has the first bytes, and then the digest of what it got, once that is published, as a line of JSON.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Self

import trio

from storage import (
    Arrivals,
    BlobUnknown,
    Content,
    Digest,
    FilesystemStore,
    Hasher,
    Intakes,
    Place,
    Pool,
    Span,
    Unavailable,
    leasing,
)
from storage.metadata import repositories
from tests.storage.database_process import database_at

CHUNK_BYTES = 64 * 1024


class Server:
    """One blob on a socket: a line `START STOP` is answered by these bytes. Stalls at `stall_at` until `go_on`."""

    def __init__(self, content: bytes, *, stall_at: int) -> None:
        self.asked: list[tuple[int, int]] = []
        self.sent_bytes = 0
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self._content = memoryview(content)
        self._stall_at = stall_at
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            start, stop = map(int, lines.readline().split())
            self.asked.append((start, stop))
            is_first = len(self.asked) == 1
            for position in range(start, stop, CHUNK_BYTES):
                if is_first and position + CHUNK_BYTES > self._stall_at and not self.go_on.is_set():
                    self.stalled.set()
                    self.go_on.wait()
                chunk = self._content[position : min(position + CHUNK_BYTES, stop)]
                try:
                    connection.sendall(chunk)
                except OSError:  # the client is gone
                    return
                self.sent_bytes += len(chunk)


class Worker:
    """A process that pulls the blob when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def _output(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def go(self) -> None:
        """Let it pull."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def wait_for(self, line: str) -> None:
        """Read what it says until it says this."""
        while (said := self._output.readline()) != f"{line}\n":
            assert said, f"it ended before it said {line}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def result(self) -> dict[str, object]:
        """What it says at its end."""
        while not (said := self._output.readline()).startswith("{"):
            assert said, "it ended without a result"
        found: dict[str, object] = json.loads(said)
        return found


@contextmanager
def worker(*arguments: object) -> Iterator[Worker]:
    """A process that is ready to pull, and gone when the test ends."""
    pipe = subprocess.PIPE
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()


# --- in the process -------------------------------------------------------------------------------------------------


class Socket:
    """The upstream as a source."""

    name = "blob of an upstream"

    def __init__(self, port: int) -> None:
        self._port = port

    @asynccontextmanager
    async def read(self, span: Span) -> AsyncIterator[AsyncIterator[bytes]]:
        """One connection for each reading."""
        async with await trio.open_tcp_stream("127.0.0.1", self._port) as stream:
            await stream.send_all(b"%d %d\n" % (span.start, span.stop))
            async with aclosing(_chunks(stream)) as chunks:
                yield chunks


async def _chunks(stream: trio.SocketStream) -> AsyncGenerator[bytes, None]:
    try:
        while chunk := bytes(await stream.receive_some(CHUNK_BYTES)):
            yield chunk
    except trio.BrokenResourceError as error:
        raise Unavailable("the upstream is gone") from error


async def pull(arguments: list[str]) -> None:
    """What the process does."""
    place, store_root, root, port, image, digest, size, lifetime = arguments
    leasing.LIFETIME_S, leasing._RENEW_S = int(lifetime), int(lifetime) / 4  # type: ignore[misc]
    store = FilesystemStore(Path(store_root), pool=Pool("disk", 2))
    await store.prepare()
    async with database_at(place) as database, Intakes.open() as intakes:
        content = Content(database, {"main": store})
        await content.prepare()
        repository = await database.read(repositories.find, "common", "hosted")
        assert repository is not None
        arrivals = Arrivals(
            Path(root),
            content=content,
            database=database,
            intakes=intakes,
            pool=Pool("arrivals", 2),
            is_shared=bool(int(lifetime)),
            reserve_bytes=0,
        )
        await arrivals.prepare()
        print("ready", flush=True)
        await Pool("stdin", 1).run(sys.stdin.readline)
        wanted, hasher = (Place(repository, image), Digest.parse(digest), int(size), Socket(int(port))), Hasher()
        async with arrivals.open(*wanted, Span(0, int(size))) as reader:
            async for chunk in reader.chunks():
                if not hasher.size_bytes:
                    print("first", flush=True)
                hasher.update(chunk)
        await intakes.wait_idle()
        try:
            found = await content.share(wanted[1], repository=repository, image=image, may_read=lambda *_: False)
        except BlobUnknown:
            found = None
        state = arrivals.statistics()
    print(json.dumps({"got": str(hasher.digest()), "stored": found is not None, "waited": state.waited}), flush=True)


if __name__ == "__main__":
    trio.run(pull, sys.argv[1:])
