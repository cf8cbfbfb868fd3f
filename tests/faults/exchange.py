"""A request on its way through a proxy, and the rules by which faults befall it. Knows no sockets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from tests.faults.fault import Fault
from tests.faults.messages import Head

WHOLE_CONNECTION = Head(b"", ("", "", ""), ())
"""Stands for the request where the proxy reads no HTTP."""


@dataclass(slots=True, eq=False)
class Exchange:
    """A request and its answer as they passed, or a whole connection. `status` is 0 until answered."""

    connection: int
    head: Head = WHOLE_CONNECTION
    faults: list[Fault] = field(default_factory=list)
    status: int = 0
    body_bytes: int = 0
    answer_bytes: int = 0

    @property
    def method(self) -> str:
        """Of the request."""
        return self.head.method

    @property
    def path(self) -> str:
        """The decoded path, without its query."""
        return unquote(urlsplit(self.head.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields."""
        return parse_qs(urlsplit(self.head.target).query, keep_blank_values=True)

    def __str__(self) -> str:
        return f"{self.method} {self.head.target} -> {self.status} ({self.body_bytes} up, {self.answer_bytes} down)"


@dataclass(slots=True, eq=False)
class Rule:
    """One fault and whom it befalls: those that `when` chooses, not the first `skip` of them, then `times` of them."""

    fault: Fault
    when: Callable[[Exchange], bool]
    times: int | None
    skip: int
    hits: int = 0
    """How many it has befallen so far."""

    def fits(self, exchange: Exchange) -> bool:
        """Whether it befalls this one, which is counted."""
        if not self.when(exchange):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True
