"""One question that several wait for, asked by a task of its own, so that nobody's leaving ends it for the others."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

from gateway.logs import get_logger
from gateway.upstream.errors import UpstreamError, UpstreamFailed

T = TypeVar("T")
_log = get_logger(__name__)


class Flight(Generic[T]):
    """Begins at once, as a task of `nursery`, and is kept by whoever wants others to join it.

    `name` is for messages. Whatever `ask` raises is raised to those who wait, and never to the nursery.
    """

    def __init__(self, nursery: trio.Nursery, ask: Callable[[], Awaitable[T]], *, name: str) -> None:
        self._ask = ask
        self._name = name
        self._landed = trio.Event()
        self._results: list[T] = []
        self._error: UpstreamError = UpstreamFailed(f"{name} was cut off by the end of the service")
        nursery.start_soon(self._fly)

    def result_nowait(self) -> T | None:
        """What came of it; None while it is under way, and if nothing did."""
        return self._results[0] if self._results else None

    @property
    def is_over(self) -> bool:
        """Whether nobody has to wait any more."""
        return self._landed.is_set()

    async def result(self) -> T:
        """What came of it, as soon as it has. Raises `UpstreamError`, to everybody another one of the same class."""
        await self._landed.wait()
        if self._results:
            return self._results[0]
        raise type(self._error)(str(self._error), retry_after_s=self._error.retry_after_s) from self._error

    async def _fly(self) -> None:
        try:
            self._results.append(await self._ask())
        except UpstreamError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  # the nursery is everybody's; logged, and raised to who waits
            _log.exception("upstream_question_failed", question=self._name)
            self._error = UpstreamFailed(f"{self._name} met an unexpected error")
            self._error.__cause__ = error
        finally:
            self._landed.set()
