"""Pushes images and deletes the ones before, over and over: a registry that makes garbage while it works.

Each turn pushes a layer and a configuration that nobody has seen, then a manifest under a tag, makes sure that the
image is there (its blobs must not go before their manifest comes, or while it stays), and deletes the manifest of the
turn before. Spec: OCI distribution 1.1, "Pushing", "Deleting Manifests".
"""

from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final
from urllib.parse import quote, urlsplit

import trio

from bench.client import Connection, Reply, Request
from bench.content import Blob, Image, Layer, image
from bench.load import Load

_TAG: Final = "latest"
BLOBS_PER_IMAGE: Final = 2


async def drive(
    load: Load, name: str, *, authorization: str, pushers: int, layer_bytes: int, seconds: float, seed: str
) -> None:
    """Go on for `seconds` with so many pushers, each with an image of its own below `name`.

    Recordings: `push`, from the first request of an image to the answer to its manifest. Extras: `images_pushed`. Moved
    bytes are those of blobs. A pusher ends with the first answer that is not right, which is an error.
    """
    connections = [await Connection.open(load.endpoint) for _ in range(pushers)]
    await load.ready()
    until_ns = perf_counter_ns() + int(seconds * 1e9)
    async with trio.open_nursery() as nursery:
        for number, connection in enumerate(connections):
            pusher = _Pusher(load, connection, f"{name}-{number}", authorization)
            nursery.start_soon(pusher.work, until_ns, layer_bytes, f"{seed}-{number}")


@dataclass(slots=True)
class _Pusher:
    """One client."""

    load: Load
    connection: Connection
    name: str
    authorization: str
    before: Image | None = None

    async def work(self, until_ns: int, layer_bytes: int, seed: str) -> None:
        """Turn after turn until it is time."""
        turn = 0
        async with self.connection:
            try:
                while perf_counter_ns() < until_ns:
                    await self._turn(image(f"{seed}-{turn}", Layer(f"{seed}-{turn}", layer_bytes)))
                    turn += 1
            except OSError as error:
                self.load.failed(str(error))
        self.load.extra["images_pushed"] = self.load.extra.get("images_pushed", 0) + turn

    async def _turn(self, made: Image) -> None:
        start_ns = perf_counter_ns()
        for blob in made.blobs:
            await self._push(blob)
        manifest = made.manifest
        await self._ask(201, "PUT", f"manifests/{_TAG}", manifest, **{"Content-Type": manifest.media_type})
        self.load.samples("push").add(perf_counter_ns() - start_ns)
        await self._ask(200, "GET", f"manifests/{_TAG}")
        for blob in made.blobs:
            await self._ask(200, "HEAD", f"blobs/{blob.digest}")
        if self.before is not None:
            await self._ask(202, "DELETE", f"manifests/{self.before.manifest.digest}")
        self.before = made

    async def _push(self, blob: Blob) -> None:
        begun = await self._ask(202, "POST", "blobs/uploads/")
        place = urlsplit(begun.headers["location"])
        query = "&".join(filter(None, (place.query, f"digest={quote(blob.digest)}")))
        await self._ask(201, "PUT", f"{place.path}?{query}", blob)
        self.load.answered(0, blob.size_bytes)

    async def _ask(self, status: int, method: str, what: str, body: Blob | None = None, **headers: str) -> Reply:
        """One request for something of the image, or for a whole path. Raises OSError when it is not answered so."""
        target = what if what.startswith("/") else f"/v2/{self.name}/{what}"
        request = Request(method, target, {"Authorization": self.authorization, **headers})
        if body is not None:
            reply = await self.connection.request(request, body.chunks(), length=body.size_bytes, keep=True)
        else:
            reply = await self.connection.request(request, length=0 if method == "POST" else None, keep=True)
        if reply.status != status:
            raise OSError(f"{method} {target} gave {reply.status}, not {status}: {reply.body[:200]!r}")
        self.load.answered(1, 0)
        return reply
