"""Request bodies that go to a sink in the server's worker threads, without passing the event loop.

The server offers it as the ASGI extension `sluice.request.absorb`; where it does not (test clients), bodies come in
chunks (`streams.read_chunks`). What the client does wrong is told as there.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import trio
from quart.wrappers import Request

from gateway.edge.streams import ClientGone, ClientStalled

_EXTENSION: Final = "sluice.request.absorb"

Sink = Callable[[Sequence[memoryview]], None]
"""Takes the next bytes of a body, 1 byte to 1 MiB in parts; called in a thread, one call at a time, and may block. The
parts are gone when it returns."""


class Gate(Protocol):
    """What a sink may have to wait for: asked in the thread after about every 512 KiB, awaited on the loop."""

    @property
    def is_full(self) -> bool:
        """Whether `room` has to be awaited before the sink takes more."""
        ...

    async def room(self) -> None:
        """Wait until the sink takes more; what it raises ends the body."""
        ...


def can_absorb(request: Request) -> bool:
    """Whether the server of this request can give its body to a sink."""
    return _EXTENSION in _extensions(request)


async def absorb_body(request: Request, sink: Sink, *, idle_s: float, gate: Gate | None = None) -> None:
    """Give the whole body to `sink`, in order, only as fast as it takes it. Ask `can_absorb` first; call it once.

    When the `gate` is full, no thread waits for it, and the client is not held to be stalled.

    Raises `ClientStalled` when the client sent too little while it was waited for, for `idle_s`, and `ClientGone`; both
    after the sink had everything that came before. What the sink raises ends it and is raised as it is: the server
    deals with the rest of the body. When cancelled it waits for the call of the sink that runs; what the sink was given
    it had once, and nothing behind it.
    """
    absorb = _extensions(request)[_EXTENSION]["absorb"]
    try:
        await absorb(sink, idle_s=idle_s, gate=gate)
    except trio.TooSlowError as error:
        raise ClientStalled(f"too little of the request's body came in {idle_s:g} s") from error
    except ConnectionError as error:
        raise ClientGone("the client left before its request was complete") from error


def _extensions(request: Request) -> dict[str, dict[str, Any]]:
    return request.scope.get("extensions") or {}
