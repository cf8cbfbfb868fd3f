"""Pushes layers, several at once, the way docker (streamed) or containerd (monolithic) does. Digests are known before.

Spec: OCI distribution 1.1, "Pushing blobs": POST, then PUT with the whole body; or POST, PATCH, and PUT, where the
body goes in one chunked PATCH, or in many of a fixed size as clients do that resume.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit

import trio

from bench.client import Connection, Reply, Request
from bench.content import Layer
from bench.load import Load


async def drive(
    load: Load,
    layers: Sequence[Mapping[str, Any]],
    *,
    name: str,
    authorization: str | None,
    streamed: bool,
    chunk_bytes: int | None = None,
    again: bool = False,
) -> None:
    """Push all layers at the same time, each over a connection of its own, once; streamed ones perhaps in chunks.

    With `again` (in the background) the same layers until the job is stopped: work for the server, hardly for the
    disk.
    Moved bytes are those of the layers; the latency `whole` is from the POST to the answer to the PUT, `last_byte` from
    the last byte of the body to that, `commit` from the beginning of the request that names the digest, where that has
    no body.
    """
    stack = [Layer(**each) for each in layers]
    for layer in stack:
        _ = layer.digest  # made here, so that the measurement does not contain it
    connections = [await Connection.open(load.endpoint) for _ in stack]
    push_one = partial(push, name=name, authorization=authorization, streamed=streamed, chunk_bytes=chunk_bytes)
    await load.ready()
    async with trio.open_nursery() as nursery:
        for layer, connection in zip(stack, connections, strict=True):
            nursery.start_soon(_pusher, load, connection, layer, partial(push_one, connection, layer), again)


async def _pusher(
    load: Load,
    connection: Connection,
    layer: Layer,
    push_it: Callable[[], Awaitable["Times"]],
    again: bool,  # noqa: FBT001 - start_soon has no keywords
) -> None:
    async with connection:
        while True:
            start_ns = time.perf_counter_ns()
            try:
                times = await push_it()
            except OSError as error:
                load.failed(f"push of {layer}: {error}")
                return
            load.answered(1, layer.size_bytes)
            load.samples("whole").add(times.end_ns - start_ns)
            load.samples("last_byte").add(times.end_ns - times.last_byte_ns)
            if times.commit_ns is not None:
                load.samples("commit").add(times.end_ns - times.commit_ns)
            if not again or load.stopped:
                return


@dataclass(frozen=True, slots=True)
class Times:
    """Moments of one push, of `time.perf_counter_ns`."""

    last_byte_ns: int
    commit_ns: int | None
    """When the request began that names the digest; None where it carries the body too."""
    end_ns: int


async def push(
    connection: Connection,
    layer: Layer,
    *,
    name: str,
    authorization: str | None,
    streamed: bool = False,
    chunk_bytes: int | None = None,
) -> Times:
    """Push one layer. Raises OSError when the connection breaks, or when an answer is not the right one."""
    headers = {"Authorization": authorization} if authorization else {}
    begun = await connection.request(Request("POST", f"/v2/{name}/blobs/uploads/", headers), length=0, keep=True)
    _expect(begun, 202)
    place = begun.headers["location"]
    bulky = {**headers, "Content-Type": "application/octet-stream"}
    if not streamed:
        last = _Last()
        request = Request("PUT", _target(place, layer.digest), bulky)
        done = await connection.request(request, last.noted(layer.chunks()), length=layer.size_bytes, keep=True)
        _expect(done, 201)
        return Times(last.at_ns, None, done.end_ns)
    if chunk_bytes is None:
        last = _Last()
        patched = await connection.request(
            Request("PATCH", _target(place), bulky), last.noted(layer.chunks()), chunked=True, keep=True
        )
        _expect(patched, 202)
        place, last_byte_ns = patched.headers["location"], last.at_ns
    else:
        place, last_byte_ns = await _in_chunks(connection, layer, place, bulky, chunk_bytes)
    commit_ns = time.perf_counter_ns()
    done = await connection.request(Request("PUT", _target(place, layer.digest), headers), length=0, keep=True)
    _expect(done, 201)
    return Times(last_byte_ns, commit_ns, done.end_ns)


async def _in_chunks(
    connection: Connection, layer: Layer, place: str, headers: Mapping[str, str], chunk_bytes: int
) -> tuple[str, int]:
    """A PATCH per chunk; where to go on, and when the last byte was sent."""
    start = 0
    last = _Last()
    for chunk in layer.chunks(chunk_bytes):
        stop = start + len(chunk)
        fields = {**headers, "Content-Range": f"{start}-{stop - 1}"}
        patched = await connection.request(
            Request("PATCH", _target(place), fields), last.noted(iter((chunk,))), length=len(chunk), keep=True
        )
        _expect(patched, 202)
        place, start = patched.headers["location"], stop
    return place, last.at_ns


class _Last:
    """When the last of the pieces had been sent: the sender asks for another one then."""

    def __init__(self) -> None:
        self.at_ns = 0

    def noted(self, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
        yield from pieces
        self.at_ns = time.perf_counter_ns()


def _target(location: str, digest: str | None = None) -> str:
    """The path and query of a Location, with the digest added."""
    parts = urlsplit(location)
    query = "&".join(each for each in (parts.query, f"digest={quote(digest)}" if digest else "") if each)
    return f"{parts.path}?{query}" if query else parts.path


def _expect(reply: Reply, status: int) -> None:
    if reply.status != status:
        raise OSError(f"answered {reply.status}, not {status}: {reply.body[:300]!r}")
