"""Pushes layers, several at once, the way docker (streamed) or containerd (monolithic) does. Digests are known before.

Spec: OCI distribution 1.1, "Pushing blobs": POST, then PUT with the whole body; or POST, a chunked PATCH, and PUT.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    again: bool = False,
) -> None:
    """Push all layers at the same time, each over a connection of its own, once.

    With `again` (in the background) the same layers until the job is stopped: work for the server, hardly for the
    disk.
    Moved bytes are those of the layers; the latency `whole` is from the POST to the answer to the PUT.
    """
    stack = [Layer(**each) for each in layers]
    for layer in stack:
        _ = layer.digest  # made here, so that the measurement does not contain it
    connections = [await Connection.open(load.endpoint) for _ in stack]
    push_one = partial(push, name=name, authorization=authorization, streamed=streamed)
    await load.ready()
    async with trio.open_nursery() as nursery:
        for layer, connection in zip(stack, connections, strict=True):
            nursery.start_soon(_pusher, load, connection, layer, partial(push_one, connection, layer), again)


async def _pusher(
    load: Load,
    connection: Connection,
    layer: Layer,
    push_it: Callable[[], Awaitable[None]],
    again: bool,  # noqa: FBT001 - start_soon has no keywords
) -> None:
    async with connection:
        while True:
            start_ns = time.perf_counter_ns()
            try:
                await push_it()
            except OSError as error:
                load.failed(f"push of {layer}: {error}")
                return
            load.answered(1, layer.size_bytes)
            load.samples("whole").add(time.perf_counter_ns() - start_ns)
            if not again or load.stopped:
                return


async def push(
    connection: Connection, layer: Layer, *, name: str, authorization: str | None, streamed: bool = False
) -> None:
    """Push one layer. Raises OSError when the connection breaks, or when an answer is not the right one."""
    headers = {"Authorization": authorization} if authorization else {}
    begun = await connection.request(Request("POST", f"/v2/{name}/blobs/uploads/", headers), length=0, keep=True)
    _expect(begun, 202)
    place = begun.headers["location"]
    bulky = {**headers, "Content-Type": "application/octet-stream"}
    if streamed:
        patched = await connection.request(
            Request("PATCH", _target(place), bulky), layer.chunks(), chunked=True, keep=True
        )
        _expect(patched, 202)
        place = patched.headers["location"]
        done = await connection.request(Request("PUT", _target(place, layer.digest), headers), length=0, keep=True)
    else:
        request = Request("PUT", _target(place, layer.digest), bulky)
        done = await connection.request(request, layer.chunks(), length=layer.size_bytes, keep=True)
    _expect(done, 201)


def _target(location: str, digest: str | None = None) -> str:
    """The path and query of a Location, with the digest added."""
    parts = urlsplit(location)
    query = "&".join(each for each in (parts.query, f"digest={quote(digest)}" if digest else "") if each)
    return f"{parts.path}?{query}" if query else parts.path


def _expect(reply: Reply, status: int) -> None:
    if reply.status != status:
        raise OSError(f"answered {reply.status}, not {status}: {reply.body[:300]!r}")
