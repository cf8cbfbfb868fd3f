"""The registry that proxies fetch from: nginx with static files, as fast as a client is allowed to read from it.

One for each contender, so that what it was asked for is that contender's doing. It tells so from its own log of
requests: nothing stands between the two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.contenders.contender import Endpoint, Server, Start
from bench.contenders.nginx import ASKED, Nginx
from bench.content import Blob, Document
from bench.processes import Cores


@dataclass(frozen=True, slots=True)
class Asked:
    """What an upstream was asked for in an interval: requests for blobs by GET, and the bytes sent in answer."""

    blob_gets: int
    sent_bytes: int


class Upstream:
    """A running one; stop it when done."""

    def __init__(self, server: Server, log: Path) -> None:
        self._server = server
        self._log = log

    @classmethod
    def start(cls, how: Start, *, bytes_per_s: int | None = None) -> Self:
        """Start it beside the contender's directory, on the load's cores. Raises ContenderFailed."""
        directory = how.directory / "upstream"
        directory.mkdir()
        cores = Cores(server=how.cores.load, load=how.cores.load)
        recipe = Nginx("upstream", is_logging=True, bytes_per_s=bytes_per_s)
        server = recipe.start(Start(directory, cores))
        return cls(server, directory / "asked")

    @staticmethod
    def missing() -> str | None:
        """Why it cannot be started here, or None."""
        return Nginx().missing()

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens."""
        return self._server.endpoint

    def put_blob(self, image: str, blob: Blob) -> None:
        """Make it hold a blob."""
        self._server.put_blob(image, blob)

    def put_manifest(self, image: str, manifest: Document, *tags: str) -> None:
        """Make it hold a manifest."""
        self._server.put_manifest(image, manifest, *tags)

    def mark(self) -> int:
        """A point in time to ask for what came since; everything answered before lies before it."""
        return self._log.stat().st_size

    def asked(self, since: int) -> Asked:
        """What it was asked for since a mark. An answer that was broken off counts with what was sent of it."""
        with self._log.open("rb") as log:
            log.seek(since)
            text = log.read().decode(errors="replace")
        found = [int(sent) for method, path, _, sent in ASKED.findall(text) if method == "GET" and "/blobs/" in path]
        return Asked(len(found), sum(found))

    def stop(self) -> None:
        """Stop it and wait."""
        self._server.stop()
