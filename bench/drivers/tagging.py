"""Puts a great many tags: one small manifest, named again and again, several tags at a time where that is taken.

The manifest is an index of nothing, which needs no blobs. Spec: OCI distribution 1.1, "Pushing Manifests"; `tag=` in
the query names more tags (opencontainers/distribution-spec, "Pushing manifests by digest with tags").
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter_ns
from typing import Final

import trio

from bench.client import Connection, Request
from bench.content import OCI_INDEX
from bench.load import Load

TAGS_PER_PUT: Final = 80
"""Registries take up to 100, and name each in a header of the answer; many clients take no more than 100 headers."""
_BODY: Final = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
_CONNECTIONS: Final = 4


def tag(number: int) -> str:
    """Tags in their order."""
    return f"v{number:07d}"


async def drive(load: Load, images: Sequence[tuple[str, int]], *, authorization: str | None, several: bool) -> None:
    """Make sure that each of these images (name, count) has the tags 0 to count - 1.

    `several`: whether the registry takes `tag=`. A wrong answer is an error, and ends the work.
    """
    await load.ready()
    puts = _puts(images, TAGS_PER_PUT if several else 1)
    headers = {"Content-Type": OCI_INDEX} | ({"Authorization": authorization} if authorization else {})
    async with trio.open_nursery() as nursery:
        for _ in range(_CONNECTIONS):
            nursery.start_soon(_work, load, puts, headers)


def _puts(images: Sequence[tuple[str, int]], at_once: int) -> Iterator[str]:
    for name, count in images:
        for start in range(0, count, at_once):
            first, *more = (tag(number) for number in range(start, min(start + at_once, count)))
            query = "&".join(f"tag={each}" for each in more)
            yield f"/v2/{name}/manifests/{first}" + (f"?{query}" if query else "")


async def _work(load: Load, puts: Iterator[str], headers: Mapping[str, str]) -> None:
    async with await Connection.open(load.endpoint) as connection:
        for target in puts:
            start_ns = perf_counter_ns()
            reply = await connection.request(Request("PUT", target, headers), (_BODY,), length=len(_BODY), keep=True)
            if reply.status != 201:
                load.failed(f"PUT {target[:100]} gave {reply.status}: {reply.body[:200]!r}")
                return
            load.answered(1, len(_BODY))
            load.samples("whole").add(perf_counter_ns() - start_ns)
