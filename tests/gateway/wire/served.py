"""A small application behind the real server, run as a process of its own: `python -m tests.gateway.wire.served JSON`.

It has one handler per behaviour that the server's tests need, and tells about itself at /state. Not a test.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import fields
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from socket import socket
from typing import Any

import psutil
import trio
from quart import Response, request
from quart_trio import QuartTrio

from gateway import logs
from gateway.edge.streams import (
    BodyTooLarge,
    ClientGone,
    ClientStalled,
    blob_response,
    install,
    read_chunks,
    read_whole,
)
from gateway.wire.census import Census
from gateway.wire.heartbeat import SILENCE_S, Heartbeats
from gateway.wire.settings import WireSettings
from gateway.wire.supervisor import supervise
from gateway.wire.worker import census_for, serve, stop_on_signals

BLOCK = bytes(range(256)) * 1024
"""256 KiB of a pattern; every download consists of it."""
DEFAULTS: dict[str, Any] = {
    "header_timeout_s": 5.0,
    "idle_timeout_s": 5.0,
    "send_idle_timeout_s": 5.0,
    "drain_timeout_s": 5.0,
    "max_connections": 1000,
}


class SourceFailed(Exception):
    """What a broken source raises."""


class Pattern:
    """A source of `size_bytes`, which may wait between blocks and may fail at some block."""

    def __init__(self, size_bytes: int, *, pause_s: float = 0, fail_at: int | None = None) -> None:
        self.size_bytes = size_bytes
        self.pause_s = pause_s
        self.fail_at = fail_at

    async def chunks(self) -> AsyncIterator[bytes]:
        """The pattern in blocks."""
        left = self.size_bytes
        number = 0
        while left:
            if number == self.fail_at:
                raise SourceFailed
            chunk = BLOCK[:left]
            yield chunk
            left -= len(chunk)
            number += 1
            await trio.sleep(self.pause_s)


class State:
    """What the process tells about itself."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0
        self.gone = 0
        self.received_bytes = 0
        self.largest_chunk_bytes = 0

    @asynccontextmanager
    async def source(self, size_bytes: int, **how: Any) -> AsyncIterator[Pattern]:
        """A pattern whose opening and closing are counted."""
        self.opened += 1
        try:
            yield Pattern(size_bytes, **how)
        finally:
            self.closed += 1


def build(census: Census) -> QuartTrio:
    """The application."""
    app = QuartTrio(__name__)
    install(app)
    state = State()
    _add_downloads(app, state)
    _add_uploads(app, state)

    @app.get("/hello")
    async def hello() -> Response:
        return Response(b"hello", content_type="text/plain")

    @app.get("/crash")
    async def crash() -> Response:
        raise RuntimeError("a defect")

    @app.get("/hang")
    async def hang() -> Response:
        threading.Event().wait()  # what a defect does that never gives the loop back
        raise AssertionError

    @app.get("/state")
    async def tell() -> dict[str, Any]:
        counted = census.statistics()
        return {
            "pid": os.getpid(),
            "rss_bytes": psutil.Process().memory_info().rss,
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            **{field.name: getattr(counted, field.name) for field in fields(counted)},
            **vars(state),
        }

    @app.errorhandler(SourceFailed)
    async def failed(error: SourceFailed) -> tuple[str, int]:
        return "the source failed", 503

    @app.errorhandler(ClientStalled)
    async def stalled(error: ClientStalled) -> tuple[str, int]:
        return str(error), 408

    @app.errorhandler(BodyTooLarge)
    async def large(error: BodyTooLarge) -> tuple[str, int]:
        return str(error), 413

    @app.errorhandler(ClientGone)
    async def gone(error: ClientGone) -> tuple[str, int]:
        state.gone += 1
        return str(error), 400

    return app


def _add_downloads(app: QuartTrio, state: State) -> None:
    @app.get("/blob/<int:size_bytes>")
    async def blob(size_bytes: int) -> Response:
        return blob_response(state.source(size_bytes), size_bytes=size_bytes, content_type="application/octet-stream")

    @app.get("/drip/<int:blocks>/<float:pause_s>")
    async def drip(blocks: int, pause_s: float) -> Response:
        size = blocks * len(BLOCK)
        return blob_response(state.source(size, pause_s=pause_s), size_bytes=size, content_type="a/b")

    @app.get("/fail/<int:at>")
    async def fail(at: int) -> Response:
        size = 4 * len(BLOCK)
        return blob_response(state.source(size, fail_at=at), size_bytes=size, content_type="a/b")

    @app.get("/promise/<int:promised>/<int:given>")
    async def promise(promised: int, given: int) -> Response:
        return blob_response(state.source(given), size_bytes=promised, content_type="a/b")

    @app.get("/unframed")
    async def unframed() -> Response:
        return Response(Pattern(2 * len(BLOCK), fail_at=1).chunks(), content_type="a/b")


def _add_uploads(app: QuartTrio, state: State) -> None:
    @app.put("/sink")
    async def sink() -> dict[str, Any]:
        rate = int(request.args.get("rate", 0))
        idle_s = float(request.args.get("idle", 5))
        digest = hashlib.sha256()
        async with read_chunks(request, idle_s=idle_s) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                state.received_bytes += len(chunk)
                state.largest_chunk_bytes = max(state.largest_chunk_bytes, len(chunk))
                if rate:
                    await trio.sleep(len(chunk) / rate)
        return {"bytes": chunks.received_bytes, "sha256": digest.hexdigest()}

    @app.put("/early")
    async def early() -> tuple[str, int]:
        return "who are you?", 401

    @app.put("/whole/<int:limit_bytes>")
    async def whole(limit_bytes: int) -> dict[str, Any]:
        return {"bytes": len(await read_whole(request, limit_bytes=limit_bytes, idle_s=5))}

    @app.post("/json")
    async def parsed() -> dict[str, Any]:
        return {"parsed": await request.get_json()}


def main() -> int:
    """Serve as the JSON on the command line says, until SIGTERM."""
    options = json.loads(sys.argv[1])
    logs.configure(level="info", form="text")
    workers = options.pop("workers", 1)
    stop_timeout_s = options.pop("stop_timeout_s", 10.0)
    broken = options.pop("broken", False)
    heartbeats = Heartbeats(workers, silence_s=options.pop("silence_s", SILENCE_S))
    for name in ("tls_certificate", "tls_key"):
        if name in options:
            options[name] = Path(options[name])
    networks = tuple(ip_network(each) for each in options.pop("unlimited_networks", ()))
    settings = WireSettings(**{**DEFAULTS, **options}, unlimited_networks=networks)

    def run_worker(number: int, sockets: Sequence[socket]) -> None:
        if broken:
            raise SystemExit(3)
        trio.run(_worker, settings, sockets, partial(heartbeats.beating, number))

    return supervise(
        run_worker, listen="127.0.0.1:0", workers=workers, stop_timeout_s=stop_timeout_s, heartbeats=heartbeats
    )


async def _worker(
    settings: WireSettings, sockets: Sequence[socket], beating: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    def ready(addresses: Sequence[str]) -> None:
        os.write(1, f"READY {addresses[0]} {os.getpid()}\n".encode())  # in one piece: several workers write here

    census = census_for(settings)
    async with stop_on_signals() as stop, beating():
        await serve(build(census), settings=settings, sockets=sockets, stop=stop, on_ready=ready, census=census)


if __name__ == "__main__":
    sys.exit(main())
