"""Pages through a long list as clients do: a page, the Link to the next, and so on; from the start again at the end.

A closed loop of a few walkers, each over a connection of its own. Spec: OCI distribution 1.1, "Listing Tags"; the
catalog pages in the same way.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final
from urllib.parse import quote, urlsplit

import trio

from bench.client import Connection, Reply, Request
from bench.load import Load

_NEXT: Final = re.compile(r'<([^>]*)>; *rel="?next"?')


async def drive(
    load: Load,
    path: str,
    *,
    key: str,
    page: int,
    entries: int,
    starts: Sequence[str],
    headers: Mapping[str, str],
    seconds: float,
) -> None:
    """Walk for `seconds` with a walker per start (`last=`; empty for the beginning), `page` entries at a time.

    `key` is where the JSON has the list. A page out of order, or a walk from the beginning to the end that did not
    find `entries` of them, is an error. Moved bytes are those of pages.
    """
    whole = _List(f"{path}?n={page}", key, entries, headers)
    walkers = [_Walker(load, whole, start) for start in starts]
    for walker in walkers[:1]:
        async with await Connection.open(load.endpoint) as connection:
            await walker.step(connection)
    await load.ready()
    until_ns = perf_counter_ns() + int(seconds * 1e9)
    async with trio.open_nursery() as nursery:
        for walker in walkers:
            nursery.start_soon(walker.walk, until_ns)


@dataclass(frozen=True, slots=True)
class _List:
    """What is walked."""

    first: str
    """Path and query of its first page."""
    key: str
    entries: int
    headers: Mapping[str, str]


class _Walker:
    """One client and where it is in the list."""

    def __init__(self, load: Load, whole: _List, start: str) -> None:
        self._load = load
        self._list = whole
        self._target = f"{whole.first}&last={quote(start)}" if start else whole.first
        self._last = start
        self._seen = 0
        self._whole = not start

    async def walk(self, until_ns: int) -> None:
        """Pages until it is time. Ends at the first error, which is counted."""
        try:
            async with await Connection.open(self._load.endpoint) as connection:
                while perf_counter_ns() < until_ns:
                    await self.step(connection)
        except OSError as error:
            self._load.failed(str(error))

    async def step(self, connection: Connection) -> None:
        """One page. Raises OSError when it is not right."""
        start_ns = perf_counter_ns()
        reply = await connection.request(Request("GET", self._target, self._list.headers), keep=True)
        if reply.status != 200:
            raise OSError(f"GET {self._target} gave {reply.status}: {reply.body[:200]!r}")
        self._load.answered(1, reply.size_bytes)
        self._load.samples("first_byte").add(reply.first_byte_ns - start_ns)
        self._load.samples("whole").add(reply.end_ns - start_ns)
        self._take(json.loads(reply.body)[self._list.key])
        self._turn(reply)

    def _take(self, names: Sequence[str]) -> None:
        if names and names[0] <= self._last:
            raise OSError(f"{self._target} begins with {names[0]}, which does not come after {self._last}")
        self._seen += len(names)
        self._last = names[-1] if names else self._last

    def _turn(self, reply: Reply) -> None:
        """Go on to the next page, or to the beginning."""
        found = _NEXT.search(reply.headers.get("link", ""))
        if found:
            parts = urlsplit(found[1])
            self._target = f"{parts.path}?{parts.query}"
            return
        if self._whole and self._seen != self._list.entries:
            raise OSError(f"the pages of {self._list.first} had {self._seen} entries, not {self._list.entries}")
        self._target, self._last, self._seen, self._whole = self._list.first, "", 0, True
