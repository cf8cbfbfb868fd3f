"""How long we wait for a peer that hardly moves: a bound on the pause, never on the whole. Knows no sockets."""

from types import TracebackType
from typing import Final, Self

import trio

PROGRESS_BYTES: Final = 64 * 1024
"""What a peer must take or send per idle time: 1 KiB/s with the default of 60 s, below any link that can be used. The
kernel's buffers count as taken, so the first megabytes are quick."""


class Patience:
    """A scope that ends when fewer than `PROGRESS_BYTES` have moved for `idle_s` seconds; `over` tells that it did.

    Made for the waits of one task: enter it around them, and report with `moved`.
    """

    __slots__ = ("_idle_s", "_moved", "_scope")

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._moved = 0
        self._scope = trio.CancelScope()

    def __enter__(self) -> Self:
        self._scope.deadline = trio.current_time() + self._idle_s
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._scope.__exit__(kind, error, trace)

    def moved(self, size_bytes: int) -> None:
        """So many bytes went on their way."""
        self._moved += size_bytes
        if self._moved >= PROGRESS_BYTES:
            self._moved = 0
            self._scope.deadline = trio.current_time() + self._idle_s

    @property
    def over(self) -> bool:
        """Whether the scope ended because nothing moved. Ask after it."""
        return self._scope.cancelled_caught
