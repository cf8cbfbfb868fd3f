"""One fill per blob, any number of readers: a blob on its way into a hot set or a store, read while it grows.

An intake is owned by the nursery of `Intakes`, which the worker's services host; none of its readers can slow, stop or
cancel it. In this process there is one per key; over all processes of the machine one of them fills (who holds the
growing file's lock) and the others follow the file, and take over from where it ends if the filler dies.

What readers may rely on: bytes come in order, the last chunk (256 KiB) only after size and digest were found right; if
they are not, everybody gets `Damaged` before that and nothing is kept. States, each reached once:

    growing -> whole       verified; also the file is whole for `file` now
            -> homeless    no room, no disk, or the file was given up: each reader goes on at the source by itself
            -> failed      the source said so, or the digest

Where the file lies and what becomes of it is the business of an `intake_area.Area`.

When the last reader leaves, the fill goes on to its end if no more than `FINISH_BYTES` are missing (the blob is kept,
and whoever left often comes back); otherwise it stops after `LINGER_S` and what came stays for some minutes, to be gone
on with. So an abandoned pull costs a bounded number of bytes. Where the area wants all blobs, it goes on as long as the
source gives more than `CRAWL_BYTES_S`.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from storage.background import open_background
from storage.blobstore import CHUNK_BYTES, Span
from storage.errors import Damaged, StorageError, Unavailable
from storage.filesystem_reading import CLOSE_DEADLINE_S, close_descriptor
from storage.hotset_files import Entry, GrowingFile
from storage.intake_area import Area
from storage.intake_filling import Filling, Homeless
from storage.intake_source import Source, deliver

FINISH_BYTES: Final = 256 * 1024 * 1024
"""What a fill without readers still fetches."""
LINGER_S: Final = 10.0
"""How long a larger one waits for a reader to come back."""
CRAWL_BYTES_S: Final = 16 * 1024
"""What comes slower than this in a minute that nobody reads is put off, whatever its area wants: a source that gives a
byte now and then would otherwise hold a connection and room on the disk for ever."""
_CRAWL_S: Final = 60.0
_LOOK_S: Final = 0.005
"""Between two looks at a file that another process fills, while it grows: 1.5 MiB at 300 MiB/s, 2 % of a core."""
_LONGEST_LOOK_S: Final = 0.025
"""The same while it does not grow."""
_STALLED_S: Final = 45.0
"""How long a file may rest while its filler lives: longer than a source is waited for. Then readers help themselves."""
_TIDY_DEADLINE_S: Final = 5.0

OnDamage = Callable[[], Awaitable[None]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IntakesStatistics:
    """Now: `intakes` and their `readers`. Since the start: `source_bytes` fetched, `followed` from other processes."""

    intakes: int
    readers: int
    source_bytes: int
    followed: int


class _Deserted(Exception):
    """Nobody reads, and too much is missing to fetch it for nobody."""


class Intake:
    """One blob on its way; made by `Intakes.join`. See the module docstring."""

    def __init__(self, area: Area, entry: Entry, source: Source, *, on_damage: OnDamage | None) -> None:
        self.entry = entry
        self.source = source
        self.descriptor = -1
        """The file that it grows in; valid while it is joined, if any byte is released."""
        self.released_bytes = 0
        """How many bytes readers may have, from the first one on."""
        self.is_whole = False
        self.is_homeless = False
        self.is_wanted = True
        """False: the blob was removed meanwhile, so it is not kept."""
        self.fetched_bytes = 0
        self.followed_bytes = 0
        self.readers = 0
        self.has_ended = False
        self._area = area
        self._on_damage = on_damage
        self._failure: StorageError | None = None
        self._growing: GrowingFile | None = None
        self._deserted_at = 0.0
        self._deserted_bytes = 0
        self._changed = trio.lowlevel.ParkingLot()

    # --- for readers ------------------------------------------------------------------------------------------------

    async def begun(self) -> None:
        """Wait until there is something to read, or nothing will be; raises what it failed with."""
        while not (self.released_bytes or self.is_homeless or self.is_whole):
            self._check()
            await self._changed.park()
        await trio.lowlevel.checkpoint()

    async def wait_beyond(self, position: int) -> int:
        """Wait until more than `position` bytes are released; gives how many. Not more: it is homeless.

        Raises what it failed with, whatever is there to read: a damaged blob is to be broken off at once.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while True:
            self._check()
            if self.released_bytes > position or self.is_homeless:
                return max(self.released_bytes, position)
            await self._changed.park()

    async def wait_right(self) -> bool:
        """Wait until the blob was found right; False: it is homeless. Raises what it failed with."""
        await trio.lowlevel.checkpoint()
        while not (self.is_whole or self.is_homeless):
            self._check()
            await self._changed.park()
        return self.is_whole

    async def wait_ended(self) -> None:
        """Wait until nothing is done for it any more; raises what it failed with."""
        await trio.lowlevel.checkpoint()
        while not self.has_ended:
            await self._changed.park()
        self._check()

    @property
    def is_over(self) -> bool:
        """Whether it has failed with something that may go better the next time."""
        return self._failure is not None and self._failure.retryable

    def _check(self) -> None:
        """Raise what it failed with: each reader gets one of its own, as a traceback belongs to one task.

        Its `__cause__` is what the source's own error came from, if it said so.
        """
        failure = self._failure
        if failure is not None:
            raise type(failure)(*failure.args) from failure.__cause__ or failure

    # --- the fill ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Bring it in; ends in one of the states, with everything let go but the descriptor, which readers may use."""
        try:
            await self._gather()
        except StorageError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # a source's own kinds of trouble must not end the service
            self._fail(foreign(error, self.source))
        finally:
            if not (self.is_whole or self.is_homeless):
                self._fail(Unavailable(f"fetching from {self.source.name} was stopped"))
            if self._growing is not None and self._growing.is_ours:
                self._growing.unlock()
            self.has_ended = True
            self._changed.unpark_all()

    async def _gather(self) -> None:
        found = await self._area.claim(self.entry)
        if found is None:
            self._give_up()
        elif isinstance(found, int):
            self.descriptor = found
            self._complete()
        else:
            self._growing, self.descriptor = found, found.descriptor
            if not found.is_ours:
                await self._follow(found)
            if found.is_ours:
                await self._take_over(found)
            elif self.is_whole:
                await self._area.keep(found)

    async def _take_over(self, growing: GrowingFile) -> None:
        async with self._area.hold(growing) as is_needed:
            if is_needed:
                await self._finish(growing)
            else:
                self._give_up()

    async def _follow(self, growing: GrowingFile) -> None:
        """Watch the file that another process fills, until it has ended or is ours."""
        pause_s, moved_at, changed_ns = _LOOK_S, trio.current_time(), 0
        while not self._has_state():
            look = growing.look()
            if look.changed_ns != changed_ns:
                moved_at, changed_ns = trio.current_time(), look.changed_ns
            if look.is_verified:
                self._complete()
            elif look.is_damaged:
                self._fail(self._wrong())
            elif look.is_given_up:
                self._give_up()
            elif self._advance(look.size_bytes):
                self.followed_bytes = self.released_bytes
                pause_s = _LOOK_S
            elif growing.try_lock():
                return
            elif trio.current_time() > moved_at + _STALLED_S:
                self._give_up()
            else:
                pause_s = min(pause_s * 1.5, _LONGEST_LOOK_S)
            await trio.sleep(pause_s)

    async def _finish(self, growing: GrowingFile) -> None:
        """Our growing file, from wherever it stands."""
        look = growing.look()
        if look.is_verified:  # its filler died before it could give it its kept name
            self._complete()
            await self._keep(growing)
        elif look.is_damaged or look.size_bytes > self.entry.size_bytes:
            await self._condemn(growing, self._wrong(), blame=False)
        elif look.is_given_up:
            self._give_up()
        else:
            await self._fill(growing, look.size_bytes)

    async def _fill(self, growing: GrowingFile, inherited: int) -> None:
        filling = Filling(self._area, growing, self.entry, advance=self._advance)
        try:
            self._advance(inherited)
            await filling.adopt(inherited)
            await deliver(self.source, Span(inherited, self.entry.size_bytes), _Taker(self, filling).take)
            is_right = await filling.end()
        except (_Deserted, Unavailable) as error:
            self._fail(error if isinstance(error, Unavailable) else Unavailable(str(error)))
            with suppress(Homeless):
                await filling.flush()
            await self._put_off(growing, filling.written_bytes)
            return
        except Homeless:
            self._give_up()
            with suppress(StorageError):
                await self._area.give_up(growing)
            return
        except Damaged as error:
            await self._condemn(growing, error, blame=True)
            return
        except StorageError:
            await self._put_off(growing, 0)
            raise
        if is_right:
            self._complete()
            await self._keep(growing)
        else:  # what another filler wrote is not blamed on the source: the next fill begins anew and knows
            await self._condemn(growing, self._wrong(), blame=not inherited)

    def check_wanted(self) -> None:
        """Raises `_Deserted` when nobody is left for whom to go on; see the module docstring."""
        if self.readers:
            return
        missing = self.entry.size_bytes - self.released_bytes
        for_s = trio.current_time() - self._deserted_at
        if self._area.wants_all:
            is_too_much = for_s > _CRAWL_S and self.fetched_bytes - self._deserted_bytes < for_s * CRAWL_BYTES_S
        else:
            is_too_much = for_s > LINGER_S and missing > FINISH_BYTES
        if is_too_much or not self.is_wanted:
            raise _Deserted(f"nobody reads {self.source.name} any more")

    async def _put_off(self, growing: GrowingFile, written: int) -> None:
        """Leave what is there to whoever comes for it, if that is anything, or all that the area wants."""
        if not self.is_wanted or not (written or self._area.wants_all):
            await self._area.give_up(growing)

    async def _keep(self, growing: GrowingFile) -> None:
        if self.is_wanted:
            await self._area.keep(growing)
        else:
            await self._area.give_up(growing)
        await self._forget_removed()

    async def _forget_removed(self) -> None:
        """What was removed while the disk was waited for is not kept."""
        if not self.is_wanted:
            await self._area.forget(self.entry.key)

    async def _condemn(self, growing: GrowingFile, error: StorageError, *, blame: bool) -> None:
        self._fail(error)
        with trio.move_on_after(_TIDY_DEADLINE_S, shield=True):
            await self._area.condemn(growing)
        if blame and self._on_damage is not None:
            with suppress(StorageError):  # whoever fetches it next finds it again
                await self._on_damage()

    def _wrong(self) -> Damaged:
        return Damaged(f"{self.source.name} does not have the bytes of {self.entry.digest}")

    # --- states: no await in between --------------------------------------------------------------------------------

    def _has_state(self) -> bool:
        return self.is_whole or self.is_homeless or self._failure is not None

    def _advance(self, written: int) -> bool:
        """So many bytes are in the file; all but the last chunk of the blob are released. False: that is no news."""
        released = min(written, max(0, self.entry.size_bytes - CHUNK_BYTES))
        if released <= self.released_bytes:
            return False
        self.released_bytes = released
        self._changed.unpark_all()
        return True

    def _complete(self) -> None:
        self.is_whole = True
        self.released_bytes = self.entry.size_bytes
        self._changed.unpark_all()

    def _give_up(self) -> None:
        self.is_homeless = True
        self._changed.unpark_all()

    def _fail(self, error: StorageError) -> None:
        if not self._has_state():
            self._failure = error
            self._changed.unpark_all()

    # --- who is here ------------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """One more reader."""
        self.readers += 1

    def leave(self) -> None:
        """One reader less."""
        self.readers -= 1
        if not self.readers:
            self._deserted_at, self._deserted_bytes = trio.current_time(), self.fetched_bytes

    async def close_unused(self) -> None:
        """Close the file if nobody reads and the fill has ended; call it shielded, whenever one of the two ends."""
        if self.readers or not self.has_ended:
            return
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            await close_descriptor(descriptor, self._area.pool)


@dataclass(frozen=True, slots=True)
class _Taker:
    """What each chunk from the source goes through."""

    intake: Intake
    filling: Filling

    async def take(self, chunk: bytes) -> None:
        self.intake.fetched_bytes += len(chunk)
        self.intake.check_wanted()
        await self.filling.put(chunk)


class Intakes:
    """All intakes of this process. `async with Intakes.open() as intakes` hosts their tasks; leaving it stops them."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._flying: dict[tuple[Area, str], Intake] = {}
        self._running = 0
        self._ended = trio.lowlevel.ParkingLot()
        self._source_bytes = self._followed = 0

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Intakes"]:
        """Host the intakes; when it is left they are cancelled, and other processes take over what they fill."""
        async with open_background() as nursery:
            yield cls(nursery)

    def statistics(self) -> IntakesStatistics:
        """A snapshot for metrics."""
        flying = self._flying.values()
        return IntakesStatistics(
            intakes=len(flying),
            readers=sum(intake.readers for intake in flying),
            source_bytes=self._source_bytes + sum(intake.fetched_bytes for intake in flying),
            followed=self._followed,
        )

    async def wait_idle(self) -> None:
        """Wait until no fill runs, what ran has been kept or removed, and its file is closed unless somebody reads."""
        await trio.lowlevel.checkpoint()
        while self._running:
            await self._ended.park()

    def count(self, is_meant: Callable[[Area], bool]) -> int:
        """How many run whose areas are meant."""
        return sum(is_meant(area) for area, _ in self._flying)

    async def wait_for_an_end(self) -> None:
        """Wait until any of them has ended, and let go of what it held."""
        await self._ended.park()

    def find(self, area: Area, key: str) -> Intake | None:
        """The intake of this process for a key, if there is one."""
        return self._flying.get((area, key))

    def forget(self, area: Area, key: str) -> None:
        """The blob was removed: who reads it reads on, and it is not kept."""
        intake = self._flying.pop((area, key), None)
        if intake is not None:
            intake.is_wanted = False

    @asynccontextmanager
    async def join(
        self, area: Area, entry: Entry, source: Source, *, on_damage: OnDamage | None = None
    ) -> AsyncIterator[Intake]:
        """Read along with everybody else who wants the blob; the first one starts the fill.

        `on_damage` is called once, in the intake's own task, when the source has other bytes than the digest says; it
        is the first reader's that counts. Leaving never stops the fill at once.
        """
        intake = self._flying.get((area, entry.key))
        if intake is None or intake.is_over:
            intake = self._flying[area, entry.key] = Intake(area, entry, source, on_damage=on_damage)
            self._running += 1
            self._nursery.start_soon(self._run, area, intake)
        intake.enter()
        try:
            yield intake
        finally:
            intake.leave()
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await intake.close_unused()

    def run_beside(self, call: Callable[[], Awaitable[object]]) -> None:
        """Run something that no reader may cancel, as `join` does with fills. What it raises of storage is dropped.

        Anything else it raises is a defect: it is logged, and ends nobody else's fill.
        """
        self._nursery.start_soon(_quietly, call)

    async def _run(self, area: Area, intake: Intake) -> None:
        try:
            await intake.run()
        finally:
            if self._flying.get((area, intake.entry.key)) is intake:
                del self._flying[area, intake.entry.key]
            self._source_bytes += intake.fetched_bytes
            self._followed += bool(intake.followed_bytes)
            with trio.move_on_after(CLOSE_DEADLINE_S, shield=True):
                await intake.close_unused()
            self._running -= 1
            self._ended.unpark_all()


def foreign(error: Exception, source: Source) -> Unavailable:
    """What an exception that storage does not know means to who reads: the source's own trouble, or a defect."""
    failure = Unavailable(f"{source.name} failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


async def _quietly(call: Callable[[], Awaitable[object]]) -> None:
    try:
        with suppress(StorageError):
            await call()
    except Exception:  # noqa: BLE001  # the nursery is everybody's
        _log.exception("what ran beside the intakes failed")
