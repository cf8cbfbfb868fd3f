"""Pulls blobs that the registry does not send itself: it answers 307, and the client goes where that leads.

As docker and containerd do it: the credentials of the registry are not shown to whoever is there.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from bench.client import Connection, get
from bench.contenders.contender import Endpoint
from bench.content import Layer
from bench.load import Load


async def drive(load: Load, layers: Sequence[Mapping[str, Any]], *, name: str, authorization: str | None) -> None:
    """Pull each layer once, one after the other; the first one is checked down to its digest before that.

    Moved bytes are those that came; the latency `whole` is from the request to the last byte, `first_byte` to the
    registry's answer.
    """
    wanted = [Layer(**each) for each in layers]
    async with await Connection.open(load.endpoint) as connection:
        size, digest, _ = await _pull(connection, wanted[0], name, authorization, hashed=True)
        await load.ready()
        if (size, digest) != (wanted[0].size_bytes, wanted[0].digest):
            load.failed(f"{size} bytes of digest {digest} came for {wanted[0]}")
        for layer in wanted:
            start_ns = time.perf_counter_ns()
            try:
                size, _, told_ns = await _pull(connection, layer, name, authorization)
            except OSError as error:
                load.failed(f"pull of {layer}: {error}")
                return
            if size != layer.size_bytes:
                load.failed(f"{size} bytes came for {layer}")
                continue
            load.answered(1, size)
            load.samples("whole").add(time.perf_counter_ns() - start_ns)
            load.samples("first_byte").add(told_ns - start_ns)


async def _pull(
    connection: Connection, layer: Layer, name: str, authorization: str | None, *, hashed: bool = False
) -> tuple[int, str | None, int]:
    """How many bytes came, their digest if asked for, and when it was told where they are. Raises OSError."""
    told = await connection.request(get(f"/v2/{name}/blobs/{layer.digest}", authorization=authorization))
    if told.status != 307:
        raise OSError(f"answered {told.status}, not 307")
    parts = urlsplit(told.headers["location"])
    place = Endpoint(parts.hostname or "", parts.port or 80)
    async with await Connection.open(place) as there:
        reply = await there.request(get(f"{parts.path}?{parts.query}"), hashed=hashed)
    if reply.status != 200:
        raise OSError(f"the bucket answered {reply.status}")
    return reply.size_bytes, reply.digest, told.end_ns
