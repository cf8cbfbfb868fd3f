"""Descriptors of blobs that are pulled again and again, kept open within a bound. Knows keys and files, no registry.

A file leaves when there is no room and it was used longest ago, when nobody used it for some turns, or when it is not
what it was: removed, or of another size. Whoever sends from it has it pinned, and it is closed after the last of
them. All on the event loop, but for closing files that were removed: that frees their blocks, which takes long.
"""

import os
from collections import OrderedDict
from contextlib import suppress
from typing import Final

from storage import Pool

_IDLE_TURNS: Final = 10
_DOOMED: Final = 32
"""Removed files that wait for a thread to close them; beyond it they are closed at once."""


class HeldFile:
    """One open file. `release` once for each time that it was taken."""

    __slots__ = ("_files", "descriptor", "kept", "pins", "turn")

    def __init__(self, files: "OpenFiles", descriptor: int) -> None:
        self._files = files
        self.descriptor = descriptor
        self.kept = True
        self.pins = 0
        self.turn = 0

    def release(self) -> None:
        """What was sent from it is sent, or has failed."""
        self.pins -= 1
        if not (self.kept or self.pins):
            self._files.close(self.descriptor)


class OpenFiles:
    """At most `limit` files (besides those that are being sent); 0 keeps none."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[str, HeldFile] = OrderedDict()
        self._doomed: list[int] = []
        self._turn = 0
        self._pool = Pool("lane", 1)

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, key: str, descriptor: int) -> None:
        """Keep a copy of the caller's descriptor under a key that never names another file."""
        if key in self._held or not self._limit:
            return
        try:
            copy = os.dup(descriptor)
        except OSError:  # no descriptor is left: connections need them more
            return
        self._held[key] = HeldFile(self, copy)
        self._held[key].turn = self._turn
        while len(self._held) > self._limit:
            self._drop(next(iter(self._held)))

    def take(self, key: str, size_bytes: int) -> HeldFile | None:
        """The file, pinned, if it is kept, still in its directory and exactly this long."""
        held = self._held.get(key)
        if held is None:
            return None
        found = os.fstat(held.descriptor)
        if found.st_size != size_bytes or not found.st_nlink:
            self._drop(key)
            return None
        self._held.move_to_end(key)
        held.turn = self._turn
        held.pins += 1
        return held

    async def tidy(self) -> None:
        """One turn: let go of what was removed or not used for some turns; call it every half minute or so."""
        self._turn += 1
        for key, held in list(self._held.items()):
            if held.turn + _IDLE_TURNS < self._turn or not os.fstat(held.descriptor).st_nlink:
                self._drop(key)
        doomed, self._doomed = self._doomed, []
        if doomed:
            try:
                await self._pool.run(_close_all, doomed)
            except BaseException:  # cancelled before a thread was free
                self._doomed += doomed
                raise

    def clear(self) -> None:
        """Let go of everything; what is being sent is closed when it is sent."""
        for key in list(self._held):
            self._drop(key)
        doomed, self._doomed = self._doomed, []
        _close_all(doomed)

    def close(self, descriptor: int) -> None:
        """Close a file that is not kept any more, in a thread if that may take long."""
        if os.fstat(descriptor).st_nlink or len(self._doomed) >= _DOOMED:
            _close_all([descriptor])
        else:
            self._doomed.append(descriptor)

    def _drop(self, key: str) -> None:
        held = self._held.pop(key)
        held.kept = False
        if not held.pins:
            self.close(held.descriptor)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        with suppress(OSError):  # the descriptor is gone whatever close says; it was only read from
            os.close(descriptor)
