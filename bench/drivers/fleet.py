"""CI runners that pull images when they are due, whether or not the others are through: an open loop.

Each runner does as docker and containerd do: it asks for `/v2/`, is sent for a token, asks what the tag names, gets
the index and the manifest if they are new to it, then the configuration and the layers that it has not, three at a
time; over connections of its own, which it keeps until it is done. Spec: OCI distribution 1.1, "Pulling manifests".
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import trio

from bench.alarm import Alarm
from bench.client import Connection, Reply, Request
from bench.content import OCI_INDEX, OCI_MANIFEST
from bench.fleet import Pull
from bench.load import Load

_AT_ONCE: Final = 500
"""Pulls under way, at most; what is due meanwhile waits, and its latency says so."""
_BLOBS_AT_ONCE: Final = 3  # docker's max-concurrent-downloads and containerd's default
_ACCEPT: Final = f"{OCI_INDEX}, {OCI_MANIFEST}"
_PARAMETER: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What runners have: a login that buys tokens from the registry, or finished headers by image."""

    basic: str | None
    headers: Mapping[str, str | None]


async def drive(
    load: Load,
    pulls: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[str, str],
    tag: str,
    basic: str | None,
    headers: Mapping[str, str | None],
) -> None:
    """Pull everything when it is due; `names` are images as clients name them.

    With `basic` each runner asks the realm of the registry's challenge for a token; else it has one from `headers`.
    Recordings, each from when the pull was due: `first_byte` of the first blob (of the tag, when the runner has all),
    `token` when it was there, `whole` when all was; and `late`, how late the pull was begun.
    Requests are those for content: the way to a token is work for the server, but other registries go other ways.
    """
    planned = [_pull(each) for each in pulls]
    site = _Site(load, names, tag, _Credentials(basic, headers))
    await load.ready()
    with Alarm() as alarm:
        async with trio.open_nursery() as nursery:
            start_ns = perf_counter_ns()
            for pull in planned:
                due_ns = start_ns + int(pull.at_s * 1e9)
                await alarm.wait_until(due_ns)
                nursery.start_soon(site.pull, pull, due_ns)


def _pull(value: Mapping[str, Any]) -> Pull:
    pairs = {name: tuple((digest, size) for digest, size in value[name]) for name in ("documents", "blobs")}
    return Pull(value["at_s"], value["image"], value["tag_bytes"], **pairs)


class _Site:
    """Where the runners are."""

    def __init__(self, load: Load, names: Mapping[str, str], tag: str, credentials: _Credentials) -> None:
        self._load = load
        self._names = names
        self._tag = tag
        self._credentials = credentials
        self._slots = trio.CapacityLimiter(_AT_ONCE)

    async def pull(self, pull: Pull, due_ns: int) -> None:
        """One pull; whatever goes wrong is counted as one error."""
        async with self._slots:
            self._load.samples("late").add(max(perf_counter_ns() - due_ns, 0))
            try:
                async with await Connection.open(self._load.endpoint) as connection:
                    await self._run(connection, pull, due_ns)
            except* OSError as group:
                self._load.failed(f"pull of {pull.image}: {group.exceptions[0]}")

    async def _run(self, connection: Connection, pull: Pull, due_ns: int) -> None:
        name = self._names[pull.image]
        header = await self._token(connection, name)
        self._load.samples("token").add(perf_counter_ns() - due_ns)
        given = {"Authorization": header} if header else {}
        asking = {**given, "Accept": _ACCEPT}
        place = f"/v2/{name}/manifests"
        first_ns = (await self._ask(connection, "HEAD", f"{place}/{self._tag}", asking, pull.tag_bytes)).first_byte_ns
        for digest, size_bytes in pull.documents:
            await self._ask(connection, "GET", f"{place}/{digest}", asking, size_bytes)
        if pull.blobs:
            fetch = _Fetch(self, f"/v2/{name}/blobs", given, list(pull.blobs))
            first_ns = await fetch.all(connection)
        self._load.samples("first_byte").add(first_ns - due_ns)
        self._load.samples("whole").add(perf_counter_ns() - due_ns)

    async def open(self) -> Connection:
        """One more connection."""
        return await Connection.open(self._load.endpoint)

    async def get(self, connection: Connection, path: str, headers: Mapping[str, str], size_bytes: int) -> Reply:
        """A GET that must bring so many bytes. Raises OSError."""
        return await self._ask(connection, "GET", path, headers, size_bytes)

    async def _token(self, connection: Connection, name: str) -> str | None:
        """The Authorization header for this image, as a client comes by it. Raises OSError."""
        greeting = await connection.request(Request("GET", "/v2/", {}))
        if self._credentials.basic is None or greeting.status != 401:
            return self._credentials.headers[name]
        challenge = dict(_PARAMETER.findall(greeting.headers.get("www-authenticate", "")))
        asked = urlencode({"service": challenge.get("service", ""), "scope": f"repository:{name}:pull"})
        target = f"{urlsplit(challenge['realm']).path}?{asked}"
        reply = await connection.request(Request("GET", target, {"Authorization": self._credentials.basic}), keep=True)
        if reply.status != 200:
            raise OSError(f"{target} gave {reply.status}: {reply.body[:200]!r}")
        return f"Bearer {json.loads(reply.body)['token']}"

    async def _ask(
        self, connection: Connection, method: str, path: str, headers: Mapping[str, str], size_bytes: int
    ) -> Reply:
        reply = await connection.request(Request(method, path, headers))
        expected = 0 if method == "HEAD" else size_bytes
        if reply.status != 200 or reply.size_bytes != expected or reply.headers["content-length"] != str(size_bytes):
            raise OSError(f"{method} {path} gave {reply.status} with {reply.size_bytes} bytes")
        self._load.answered(1, reply.size_bytes)
        return reply


class _Fetch:
    """The blobs of one pull, some at a time."""

    def __init__(self, site: _Site, place: str, headers: Mapping[str, str], left: list[tuple[str, int]]) -> None:
        self._site = site
        self._place = place
        self._headers = headers
        self._left = left[::-1]
        self._first_ns = 0

    async def all(self, connection: Connection) -> int:
        """Get them all, over this connection and some more; when the first byte came. Raises OSError (in groups)."""
        more = min(_BLOBS_AT_ONCE, len(self._left)) - 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._over, connection)
            for _ in range(more):
                nursery.start_soon(self._over_another)
        return self._first_ns

    async def _over_another(self) -> None:
        async with await self._site.open() as connection:
            await self._over(connection)

    async def _over(self, connection: Connection) -> None:
        while self._left:
            digest, size_bytes = self._left.pop()
            reply = await self._site.get(connection, f"{self._place}/{digest}", self._headers, size_bytes)
            self._first_ns = min(self._first_ns or reply.first_byte_ns, reply.first_byte_ns)
