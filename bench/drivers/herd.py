"""Many connections in one task: the hot loop of closed-loop load, some ten microseconds of CPU per request.

A task per connection costs more than a fast server spends on the request. So all sockets stand in one epoll set, Trio
waits for the set, and each turn works off what is ready with plain calls. Plain HTTP with Content-Length only: what
else comes counts as an error.
"""

import math
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import trio

from bench.client import raise_for_socket
from bench.jobs import Shot
from bench.load import Load

_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)\r\n")
_READ_BYTES: Final = 1 << 15
_HEAD_BYTES: Final = 1 << 12  # of larger answers: the kernel need not copy the rest
_BULK_BYTES: Final = 4 << 20
_WAKE_BYTES: Final = 256 << 10
"""Bulk wakes us when so much is there (SO_RCVLOWAT): halves our CPU, and what wake-ups cost servers varies less."""
_TURNS: Final = 64  # so many rounds of the loop without waiting, then other tasks get a turn
_GIVE_UP_AFTER: Final = 100  # errors in a row: the server is gone


class Shots(Protocol):
    """Where the next request comes from."""

    def next(self) -> Shot | None:
        """The next shot; None when there is none left."""


class _Member:
    """One connection and the request that it waits for."""

    __slots__ = ("answered", "connecting", "first_ns", "head", "lazy", "left", "shot", "socket", "start_ns")

    def __init__(self) -> None:
        self.socket = _closed()
        self.connecting = False
        self.lazy = False
        self.answered = 0
        self.reset(None, 0)

    def reset(self, shot: Shot | None, start_ns: int) -> None:
        self.shot = shot
        self.start_ns = start_ns
        self.first_ns = 0
        self.head = b""
        self.left = 0

    def wake_at(self, count: int) -> None:
        """Become readable only when so many bytes are there, or the end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
        self.lazy = count > 1


def _closed() -> socket.socket:
    never = socket.socket()
    never.close()
    return never


class _Latecomers:
    """The members that have not begun yet."""

    def __init__(self, members: Sequence[_Member], spread_s: float) -> None:
        now = trio.current_time()
        step_s = spread_s / len(members)
        self._waiting = deque((now + number * step_s, member) for number, member in enumerate(members))

    @property
    def pause_s(self) -> float:
        """Until the next one begins."""
        return max(0.0, self._waiting[0][0] - trio.current_time()) if self._waiting else math.inf

    def fire(self, begin: Callable[[_Member], None]) -> bool:
        """Let those begin whose time has come; whether others are left."""
        while self._waiting and self._waiting[0][0] <= trio.current_time():
            begin(self._waiting.popleft()[1])
        return bool(self._waiting)


class Herd:
    """`connections` clients in step with what the server gives. `with Herd(...) as herd:`; used by one task."""

    def __init__(self, load: Load, connections: int, *, reconnect: bool) -> None:
        self._load = load
        self._reconnect = reconnect
        self._members = [_Member() for _ in range(connections)]
        self._by_fd: dict[int, _Member] = {}
        self._epoll = select.epoll()
        self._heads: dict[int, bytes] = {}
        self._bulk = memoryview(bytearray(_BULK_BYTES))
        self._busy = 0
        self._failures = 0
        self._answers = 0
        self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for member in self._members:
            self._drop(member)
        self._epoll.close()

    async def connect(self) -> None:
        """Open all connections, unless each request is to have one of its own. Raises OSError."""
        if self._reconnect:
            return
        for member in self._members:
            self._open(member)
        for member in self._members:
            await trio.lowlevel.wait_writable(member.socket)
            raise_for_socket(member.socket)
            self._connected(member)

    async def run(self, shots: Shots, *, spread_s: float = 0.0) -> None:
        """Fire until there are no more shots and all answers are there. Counts and records into the load.

        `spread_s`: the members begin one after the other, evenly within this time, instead of all at once.
        """
        self._shots = shots
        self._first_byte = self._load.samples("first_byte")
        self._whole = self._load.samples("whole")
        self._answers = self._bytes = 0
        late = _Latecomers(self._members, spread_s)
        turns = 0
        while late.fire(self._fire) or self._busy:
            events = self._epoll.poll(0)
            turns += 1
            if not events:
                with trio.move_on_after(late.pause_s):
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
            elif turns % _TURNS == 0:
                await trio.lowlevel.checkpoint()
            for descriptor, _ in events:
                self._work(self._by_fd[descriptor])
        self._load.answered(self._answers, self._bytes)

    def _fire(self, member: _Member) -> None:
        """Send the next request, if there is one."""
        shot = self._shots.next()
        if shot is None:
            member.reset(None, 0)
            return
        self._busy += 1
        member.reset(shot, time.perf_counter_ns())
        if member.socket.fileno() < 0:
            self._open(member)
        else:
            self._send(member, shot)

    def _send(self, member: _Member, shot: Shot) -> None:
        head = self._heads.get(id(shot))
        if head is None:
            head = self._heads[id(shot)] = self._written(shot)
        try:
            sent = member.socket.send(head)
        except (BrokenPipeError, ConnectionResetError):
            self._closed(member)
        except OSError as error:
            self._broken(member, str(error))
        else:
            if sent < len(head):
                self._broken(member, "the socket did not take a whole request head")

    def _work(self, member: _Member) -> None:
        """Something happened on this connection."""
        if member.shot is None:
            self._drop(member)  # closed by the server while nothing was asked for
            return
        try:
            if member.connecting:
                raise_for_socket(member.socket)
                self._connected(member)
                self._send(member, member.shot)
            elif member.left:
                self._take_body(member)
            else:
                self._take_head(member, member.shot)
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._closed(member)
        except OSError as error:
            self._broken(member, str(error))

    def _take_head(self, member: _Member, shot: Shot) -> None:
        data = member.socket.recv(_READ_BYTES if shot.size_bytes < _READ_BYTES else _HEAD_BYTES)
        if not data:
            self._closed(member)
            return
        if not member.first_ns:
            member.first_ns = time.perf_counter_ns()
        head = member.head + data if member.head else data
        end = head.find(b"\r\n\r\n")
        if end < 0:
            member.head = head
            return
        found = _LENGTH.search(head, 0, end + 2)
        if head[9:12] != b"%d" % shot.status or found is None or int(found[1]) != shot.size_bytes:
            self._broken(member, f"{shot.method} {shot.path} was answered {bytes(head[: end + 2])!r}")
            return
        here = len(head) - end - 4
        member.left = (0 if shot.method == "HEAD" else shot.size_bytes) - here
        self._bytes += here
        if member.left > _WAKE_BYTES:
            member.wake_at(_WAKE_BYTES)
        if not member.left:
            self._done(member)
        elif member.left < 0:
            self._broken(member, f"{shot.method} {shot.path}: more came than Content-Length says")

    def _take_body(self, member: _Member) -> None:
        # The kernel drops the bytes instead of copying them; their number is what counts (tcp(7)).
        count = member.socket.recv_into(self._bulk, min(member.left, _BULK_BYTES), socket.MSG_TRUNC)
        if not count:
            self._broken(member, f"the body ended {member.left} bytes early")
            return
        self._bytes += count
        member.left -= count
        if member.lazy and member.left <= _WAKE_BYTES:
            member.wake_at(1)
        if not member.left:
            self._done(member)

    def _done(self, member: _Member) -> None:
        now_ns = time.perf_counter_ns()
        self._first_byte.add(member.first_ns - member.start_ns)
        self._whole.add(now_ns - member.start_ns)
        self._answers += 1
        self._failures = 0
        self._busy -= 1
        member.answered += 1
        if self._reconnect:
            self._drop(member)
        self._fire(member)

    def _closed(self, member: _Member) -> None:
        """The server closed a connection that had served before: open another for the same request, and count that."""
        if not member.answered or member.head or member.left:
            self._broken(member, "closed before the answer was whole")
            return
        self._load.extra["reconnects"] = self._load.extra.get("reconnects", 0) + 1
        self._drop(member)
        self._open(member)

    def _broken(self, member: _Member, why: str) -> None:
        self._load.failed(why)
        self._failures += 1
        self._busy -= 1
        self._drop(member)
        if self._failures < _GIVE_UP_AFTER:
            self._fire(member)

    def _open(self, member: _Member) -> None:
        endpoint = self._load.endpoint
        family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        member.socket = sock
        member.connecting = True
        member.lazy = False
        member.answered = 0
        self._by_fd[sock.fileno()] = member
        sock.connect_ex((endpoint.host, endpoint.port))
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _connected(self, member: _Member) -> None:
        member.connecting = False
        self._epoll.modify(member.socket.fileno(), select.EPOLLIN)

    def _drop(self, member: _Member) -> None:
        self._by_fd.pop(member.socket.fileno(), None)
        member.socket.close()  # which also takes it out of the epoll set
        member.connecting = False

    def _written(self, shot: Shot) -> bytes:
        headers = {"Host": self._load.endpoint.address, **shot.headers}
        if self._reconnect:
            headers["Connection"] = "close"
        lines = [f"{shot.method} {shot.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join((*lines, "", "")).encode()
