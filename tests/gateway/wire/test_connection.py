"""The guard around a connection: what happens in it ends with it, and a full worker refuses aloud."""

from contextlib import suppress
from typing import Any

import pytest
import structlog
import trio

from gateway.wire.census import Census
from tests.gateway.wire.loopback import SETTINGS, Gateway, read_until_closed

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The smallest application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Nasty:
    """Applications that end in every way that Python offers."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Raise what it was made with."""
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("defect"),
        ExceptionGroup("several", [ValueError(), ExceptionGroup("deep", [KeyError()])]),
        RecursionError(),
        MemoryError(),
        SystemExit(1),
        StopAsyncIteration(),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_application_s_error_is_logged_and_stays_inside(
    error: BaseException, nursery: trio.Nursery, events: list[structlog.typing.EventDict]
) -> None:
    """Whatever is raised, the client gets 500, the log the error, and the next connection its answer."""
    gateway = Gateway(Nasty(error), nursery)
    for _ in range(2):
        async with gateway.connect() as client:
            await client.send_all(GET)
            await client.send_eof()
            assert (await read_until_closed(client)).startswith(b"HTTP/1.1 500 ")

    assert [event["event"] for event in events] == ["application_failed"] * 2
    assert gateway.census.statistics().open == 0


async def test_a_defect_of_the_server_itself_stays_inside(
    nursery: trio.Nursery, events: list[structlog.typing.EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even an error in our own protocol code ends one connection only, and is logged."""

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a defect of ours")

    gateway = Gateway(hello, nursery)
    with monkeypatch.context() as patch:
        patch.setattr("gateway.wire.http1.judge", broken)
        async with gateway.connect() as client:
            await client.send_all(GET)
            with suppress(trio.BrokenResourceError):  # a reset: nothing sensible could be said
                assert await read_until_closed(client) == b""
    async with gateway.connect() as client:
        await client.send_all(GET)
        assert (await client.receive_some()).startswith(b"HTTP/1.1 200 ")

    assert [event["event"] for event in events] == ["connection_failed"]


async def test_a_client_that_leaves_is_not_logged(
    nursery: trio.Nursery, events: list[structlog.typing.EventDict]
) -> None:
    """Leaving in the middle of an answer is the client's right."""
    left = trio.Event()

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            async with trio.open_nursery():  # what is raised inside arrives in a group
                while True:
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        finally:
            left.set()

    gateway = Gateway(endless, nursery)
    async with gateway.connect() as client:
        await client.send_all(GET)
        await client.receive_some()
    await left.wait()
    await trio.testing.wait_all_tasks_blocked()

    assert events == []
    assert gateway.census.statistics().open == 0


async def test_a_full_worker_turns_newcomers_away(nursery: trio.Nursery) -> None:
    """With every connection busy the next gets 503 with Retry-After; when one leaves, there is room again."""
    go_on = trio.Event()

    async def busy(scope: Any, receive: Any, send: Any) -> None:
        await go_on.wait()
        await hello(scope, receive, send)

    gateway = Gateway(busy, nursery, max_connections=1)
    async with gateway.connect() as first:
        await first.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        async with gateway.connect() as second:
            refusal = await read_until_closed(second)
        go_on.set()
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200 ")
        async with gateway.connect() as third:  # the first rests now, and makes room
            await third.send_all(GET)
            assert (await third.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert await first.receive_some() == b""

    assert refusal.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in refusal
    assert gateway.census.statistics().turned_away_total == 1


async def test_cancelling_cuts_a_running_answer() -> None:
    """At the end of the drain everything is cancelled: the answer is cut, never ended."""

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, Gateway(endless, nursery).connect() as client:
        await client.send_all(GET)
        said = await client.receive_some()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            said += await read_until_closed(client)

    assert said.endswith(b"5\r\nhello\r\n")


def test_the_census_is_as_large_as_the_settings_say() -> None:
    """The limit that the operator sets is the one that admits."""
    census = Census(SETTINGS.max_connections)

    assert [census.admit("::1") for _ in range(SETTINGS.max_connections + 1)].count(None) == 1
