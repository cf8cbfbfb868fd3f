"""Walking a list: every page once in its order, round and round, and a list that is not whole or not in order shows."""

import json
import re
from collections.abc import Sequence

import pytest
import trio

from bench.contenders.contender import Endpoint
from bench.drivers import pages
from bench.jobs import Result
from bench.load import Load
from tests.bench.scripted import Handler, head_of, serving

NAMES = [f"v{number}" for number in range(7)]


def listing(names: Sequence[str], heard: list[str], *, status: int = 200) -> Handler:
    """A registry that lists these names by pages, and notes what it was asked."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while (head := await head_of(stream, pending)) is not None:
            target = head.split()[1].decode()
            heard.append(target)
            last, count = re.search(r"last=(\w+)", target), int(target.partition("n=")[2].partition("&")[0])
            left = [name for name in names if last is None or name > last[1]]
            body = json.dumps({"tags": left[:count]}).encode()
            link = f'Link: </list?n={count}&last={left[count - 1]}>; rel="next"\r\n' if len(left) > count else ""
            await stream.send_all(f"HTTP/1.1 {status} X\r\n{link}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    return handle


async def walked(endpoint: Endpoint, *, entries: int = len(NAMES), starts: Sequence[str] = ("",)) -> Result:
    """What walkers in pages of three find in a twentieth of a second."""
    load = Load(endpoint)
    load.go()
    await pages.drive(
        load, "/list", key="tags", page=3, entries=entries, starts=starts, headers={"X": "y"}, seconds=0.05
    )
    load.finish()
    return load.result()


async def test_links_are_followed_to_the_end_and_then_from_the_beginning() -> None:
    """The pages come in their order, again and again, and every one counts."""
    heard: list[str] = []
    async with serving(listing(NAMES, heard)) as endpoint:
        result = await walked(endpoint)
    assert heard[:4] == ["/list?n=3", "/list?n=3&last=v2", "/list?n=3&last=v5", "/list?n=3"]
    assert result.errors == 0
    assert result.requests == len(heard) - 1  # the first is asked before the measurement


async def test_a_walker_may_begin_anywhere() -> None:
    """One that begins in the middle is content with the rest of the list, and then walks the whole."""
    heard: list[str] = []
    async with serving(listing(NAMES, heard)) as endpoint:
        result = await walked(endpoint, starts=["v4"])
    assert heard[:3] == ["/list?n=3&last=v4", "/list?n=3", "/list?n=3&last=v2"]
    assert result.errors == 0


async def test_an_entry_too_few_is_an_error() -> None:
    """A whole walk must find everything."""
    async with serving(listing(NAMES, [])) as endpoint:
        result = await walked(endpoint, entries=8)
    assert result.errors == 1
    assert "had 7 entries, not 8" in result.complaints[0]


async def test_a_page_out_of_order_is_an_error() -> None:
    """A registry that knows no pages, and so begins at the beginning whatever is asked for, is found out."""

    async def handle(stream: trio.SocketStream) -> None:
        pending = bytearray()
        while await head_of(stream, pending) is not None:
            await stream.send_all(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"tags":["v0"]}')

    async with serving(handle) as endpoint:
        result = await walked(endpoint, entries=1, starts=["", "v4"])
    assert result.errors == 1
    assert "v0, which does not come after v4" in result.complaints[0]


async def test_a_refusal_stops_everything() -> None:
    """When the very first page is refused nothing is measured."""
    async with serving(listing(NAMES, [], status=500)) as endpoint:
        with pytest.raises(OSError, match="gave 500"):
            await walked(endpoint)
