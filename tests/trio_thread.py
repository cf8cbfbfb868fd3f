"""A Trio run that stays open over the rules of a hypothesis state machine. Not a test."""

import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class TrioThread:
    """A Trio run in a thread of its own, so that one database stays open over the rules of a machine."""

    def __init__(self) -> None:
        started = threading.Event()
        self._end = trio.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main, started))
        self._thread.start()
        started.wait()

    async def _main(self, started: threading.Event) -> None:
        self._token = trio.lowlevel.current_trio_token()
        started.set()
        await self._end.wait()

    def run(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run the call there and give its result."""
        return trio.from_thread.run(call, *args, trio_token=self._token)

    def close(self) -> None:
        """End the run and wait for it."""
        self._token.run_sync_soon(self._end.set)
        self._thread.join()
