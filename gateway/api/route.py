"""What one route says of itself: everything that dispatch, documentation and tests want to know."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from gateway.api.fields import Body, Query, View
from gateway.api.needs import Need
from gateway.api.services import Ask, Reply

Handler: TypeAlias = Callable[[Ask], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path. `{name}` in the path is a segment; `act` is unique and names it in audit and documents.

    `body`, `query` and `answer` are None where there is none. The answer to a success has `status`.
    """

    method: str
    path: str
    act: str
    handler: Handler
    need: Need
    body: type[Body] | None = None
    query: type[Query] | None = None
    answer: type[View] | None = None
    status: int = 200

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's parts; those in braces stand for anything."""
        return _split(self.path)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parts that stand for anything."""
        return tuple(each[1:-1] for each in self.segments if is_parameter(each))

    @property
    def changes_state(self) -> bool:
        """Whether a success is an act for the audit."""
        return self.method != "GET"


@cache  # one entry for each path of the table; every request looks at all of them
def _split(path: str) -> tuple[str, ...]:
    return tuple(path.strip("/").split("/"))


def is_parameter(segment: str) -> bool:
    """Whether the segment stands for anything."""
    return segment.startswith("{")
