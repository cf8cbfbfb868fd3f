"""Where an intake's file grows, and what becomes of it: a hot set's copy, or a blob of a store. The protocol only."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from storage.blocking import Pool
from storage.hotset_files import Entry, GrowingFile


class Area(Protocol):
    """A directory of growing files that all processes of a machine share; see `hotset_files` for the files themselves.

    Implementations: `hotset.HotSet`, and one `arrival.Arrival` per blob that comes from an upstream.
    """

    @property
    def pool(self) -> Pool:
        """For work on the files."""
        ...

    @property
    def wants_all(self) -> bool:
        """Whether every blob is to come, whoever waits for it.

        A fill that nobody reads any more goes on to its end then, however much is missing; and one that its source has
        failed leaves its file, even an empty one: who follows it takes it over, in place of each asking by itself.
        """
        ...

    async def claim(self, entry: Entry) -> int | GrowingFile | None:
        """A descriptor of the blob if it is whole here; else its growing file, ours or another's; None: no room.

        Whatever it gives is to be closed by the caller. Trouble with the directory is None.
        """
        ...

    def hold(self, growing: GrowingFile) -> AbstractAsyncContextManager[bool]:
        """Hold what else must be held while our file is filled, verified and kept; may wait for long.

        False: there is nothing to fill, and the file is removed; what is wanted may be found where it is kept.
        """
        ...

    def append(self, growing: GrowingFile, parts: list[bytes], position: int) -> None:
        """Write to our file, in a thread of the caller. Raises `StorageFull` or `Unavailable`: nothing added."""
        ...

    def mark_verified(self, growing: GrowingFile) -> None:
        """See `GrowingFile.mark_verified`; in a thread of the caller. Raises `Unavailable`."""
        ...

    async def keep(self, growing: GrowingFile) -> bool:
        """Its bytes are right: keep them for good; False if that did not work now, or is another process' business.

        Called once by each process in which the blob became whole; ours or not is in `growing.is_ours`.
        """
        ...

    async def condemn(self, growing: GrowingFile) -> None:
        """Remove our file and tell all who follow it that its bytes are wrong."""
        ...

    async def give_up(self, growing: GrowingFile) -> None:
        """Remove our file; who follows it has to go on by other means."""
        ...

    async def forget(self, key: str) -> None:
        """The blob was removed while its file was being kept: undo that, where it is this area's business."""
        ...
