"""What a scripted upstream does wrong, as values, and which requests it befalls. Knows no sockets.

Positions count bytes of the body that goes out, from 0; `BEFORE` means: not even the head goes out. All faults that
fit a request act together, in the order in which they were scripted; any object with `befall` is a fault.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

BEFORE: Final = -1
Fields = list[tuple[str, str]]
Kind = Literal["base", "manifests", "blobs", "tags", "referrers", "token", "other"]
_KINDS: Final[dict[str, Kind]] = {"manifests": "manifests", "blobs": "blobs", "tags": "tags", "referrers": "referrers"}


@dataclass(slots=True, eq=False)
class Seen:
    """A request as it came, and what became of its answer. `status` is 0 until it is answered."""

    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, values as they came."""
    body: bytes = b""
    status: int = 0
    sent_bytes: int = 0
    """How much of the body went out so far, or was about to when the client left."""
    is_complete: bool = False
    """Whether all of the answer went out; set a moment after the client has it."""

    @property
    def path(self) -> str:
        """The decoded path, without its query."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, list[str]]:
        """The query's fields."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    def header(self, name: str) -> str | None:
        """The first field of this lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def kind(self) -> Kind:
        """What is asked for, by the path."""
        if self.path == "/token":
            return "token"
        if self.path in {"/v2", "/v2/"}:
            return "base"
        return _KINDS.get(self._parts()[1], "other")

    @property
    def name(self) -> str:
        """The image's name in the path; empty without one."""
        return self._parts()[0]

    @property
    def reference(self) -> str:
        """The tag or digest at the end of the path."""
        return self._parts()[2]

    def _parts(self) -> tuple[str, str, str]:
        name, what, reference = ["", "", *self.path.removeprefix("/v2/").rsplit("/", 2)][-3:]
        return (name, what, reference) if self.path.startswith("/v2/") else ("", "", "")

    def __str__(self) -> str:
        return f"{self.method} {self.target} -> {self.status} ({self.sent_bytes} bytes)"


When = Callable[[Seen], bool]


def on(kind: Kind, *, method: str | None = None, reference: str | None = None, name: str | None = None) -> When:
    """The requests for this kind of thing, narrowed by what is named."""

    def fits(seen: Seen) -> bool:
        named = ((method, seen.method), (reference, seen.reference), (name, seen.name))
        return seen.kind == kind and all(wanted in {None, actual} for wanted, actual in named)

    return fits


def with_range(seen: Seen) -> bool:
    """The requests that ask for a range."""
    return seen.header("range") is not None


def with_credentials(seen: Seen) -> bool:
    """The requests that carry any Authorization."""
    return seen.header("authorization") is not None


@dataclass(slots=True)
class Delivery:
    """An answer about to go out; faults change it. `whole`: all of the object of which `body` may be a range."""

    status: int
    fields: Fields
    body: bytes
    whole: bytes = b""
    start: int = 0
    """Where in `whole` the body begins."""
    claimed_bytes: int | None = None
    """The Content-Length if it is not the body's; negative: none at all, the body comes in chunks."""
    wait_s: float = 0.0
    bytes_s: float | None = None
    stop_at: int | None = None
    stop: Literal["stall", "cut", "reset"] = "cut"
    repeat_bytes: int = 0
    """The body comes again and again until so many bytes have gone out."""

    def set(self, name: str, value: str) -> None:
        """Let this field have only this value."""
        self.fields = [(key, old) for key, old in self.fields if key.lower() != name.lower()] + [(name, value)]


class Fault(Protocol):
    """Something that changes an answer."""

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """Change what goes out to this request."""


@dataclass(slots=True, eq=False)
class Rule:
    """One fault and whom it befalls: those that `when` chooses, not the first `skip` of them, then `times` of them."""

    fault: Fault
    when: When
    times: int | None
    skip: int
    hits: int = 0
    """How many it has befallen so far."""

    def fits(self, seen: Seen) -> bool:
        """Whether it befalls this one, which is counted."""
        if not self.when(seen):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.hits >= self.times:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Wait:
    """The head comes so much later."""

    seconds: float

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.wait_s += self.seconds


@dataclass(frozen=True, slots=True)
class Slow:
    """No more than so many bytes of the body in a second."""

    bytes_s: float

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.bytes_s = self.bytes_s


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing after that many bytes: `stall` until `release` or `heal`, `cut` closes in order, `reset` does not."""

    how: Literal["stall", "cut", "reset"]
    after_bytes: int = BEFORE

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.stop, delivery.stop_at = self.how, self.after_bytes


def Stall(after_bytes: int = BEFORE) -> Stop:  # noqa: N802  # reads as the others do
    """From there on nothing goes out until `release` or `heal`; then it goes on."""
    return Stop("stall", after_bytes)


def Cut(after_bytes: int = BEFORE) -> Stop:  # noqa: N802
    """There the connection is closed in order."""
    return Stop("cut", after_bytes)


def Reset(after_bytes: int = BEFORE) -> Stop:  # noqa: N802
    """There the connection is reset."""
    return Stop("reset", after_bytes)


@dataclass(frozen=True, slots=True)
class WrongByte:
    """One byte of the body is another one; all else stays."""

    at: int

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        if self.at < len(delivery.body):
            changed = bytearray(delivery.body)
            changed[self.at] ^= 0xFF
            delivery.body = bytes(changed)


@dataclass(frozen=True, slots=True)
class Truncated:
    """The last bytes are missing, and Content-Length agrees with that."""

    by_bytes: int

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.body = delivery.body[: max(0, len(delivery.body) - self.by_bytes)]


@dataclass(frozen=True, slots=True)
class TooLong:
    """There is more at the end, and Content-Length agrees with that."""

    more: bytes = b"and more"

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.body += self.more


@dataclass(frozen=True, slots=True)
class WrongLength:
    """Content-Length claims so many bytes more (or fewer) than come; then the connection is closed."""

    by_bytes: int

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.claimed_bytes = len(delivery.body) + self.by_bytes


@dataclass(frozen=True, slots=True)
class Chunked:
    """No Content-Length: the body comes in chunks."""

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.claimed_bytes = -1


@dataclass(frozen=True, slots=True)
class Gzipped:
    """The body is gzip, although nobody asked for that; `is_named`: the field Content-Encoding says so."""

    is_named: bool = True

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.body = gzip.compress(delivery.body)
        if self.is_named:
            delivery.set("Content-Encoding", "gzip")


@dataclass(frozen=True, slots=True)
class IgnoresRange:
    """A range is answered with 200 and everything."""

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        if delivery.status == 206:
            delivery.status, delivery.body = 200, delivery.whole
            delivery.fields = [each for each in delivery.fields if each[0] != "Content-Range"]


@dataclass(frozen=True, slots=True)
class WrongRange:
    """206 with bytes that begin elsewhere. `is_named`: Content-Range admits it; else it names the range asked for."""

    shift: int
    is_named: bool = True

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        if delivery.status != 206 and not seen.header("range"):
            return
        start = max(0, delivery.start + self.shift)
        delivery.status, delivery.body = 206, delivery.whole[start:][: len(delivery.body)]
        if self.is_named:
            end = start + len(delivery.body) - 1
            delivery.set("Content-Range", f"bytes {start}-{end}/{len(delivery.whole)}")


@dataclass(frozen=True, slots=True)
class Other:
    """Another object's bytes under the same name; the fields about digest and type stay as they were."""

    content: bytes

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.body = delivery.whole = self.content


@dataclass(frozen=True, slots=True)
class Says:
    """Another answer instead: status, body and fields."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.status, delivery.body, delivery.whole = self.status, self.body, self.body
        delivery.fields = list(self.fields)


HTML: Final = Says(200, b"<html><body>Please sign in to this network.</body></html>", (("Content-Type", "text/html"),))


def Busy(retry_after_s: int | str | None = 30) -> Says:  # noqa: N802
    """429, with Retry-After unless it is None; a text stands there as it is (an HTTP date)."""
    fields = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    return Says(429, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}', fields)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Sent to another place: `to` is a URL, or gives one for the request."""

    to: str | Callable[[Seen], str]
    status: int = 307

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        where = self.to if isinstance(self.to, str) else self.to(seen)
        Says(self.status, b"", (("Location", where),)).befall(delivery, seen)


@dataclass(frozen=True, slots=True)
class With:
    """These fields in place of those of the same names; an empty value takes the field away."""

    fields: dict[str, str] = field(default_factory=dict)

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        for name, value in self.fields.items():
            delivery.set(name, value)
        delivery.fields = [each for each in delivery.fields if each[1]]


@dataclass(frozen=True, slots=True)
class Endless:
    """The body comes again and again, in chunks, until so many bytes went out or the client leaves."""

    bytes: int = 1 << 30

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        delivery.claimed_bytes, delivery.repeat_bytes = -1, self.bytes


@dataclass(slots=True)
class EndlessPages:
    """A list of tags that always has a next page; `is_loop`: it is always the same one."""

    is_loop: bool = False
    names_per_page: int = 1
    pages: int = 0

    def befall(self, delivery: Delivery, seen: Seen) -> None:
        """See `Fault`."""
        self.pages += 1
        number = 0 if self.is_loop else self.pages
        names = ",".join(f'"t{number:06}-{each:04}"' for each in range(self.names_per_page))
        delivery.status, delivery.body = 200, f'{{"name":"{seen.name}","tags":[{names}]}}'.encode()
        delivery.set("Link", f'</v2/{seen.name}/tags/list?n={self.names_per_page}&last=t{number:06}>; rel="next"')
