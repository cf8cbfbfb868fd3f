"""The accept loop: every connection gets its task, trouble with one or with room for all does not end it."""

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import structlog
import trio

from gateway.wire.accepting import accept_from
from gateway.wire.sockets import open_listeners, reserve


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket as a worker has it."""
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve("127.0.0.1:0")]
        (opened,) = open_listeners(reserved, user_timeout_s=5)
        yield held.enter_context(opened)


def connect(listener: socket.socket, count: int = 1) -> list[socket.socket]:
    """So many clients, which the kernel has taken in."""
    return [socket.create_connection(listener.getsockname()) for _ in range(count)]


class Guests:
    """Who was attended, in order."""

    def __init__(self) -> None:
        self.socks: list[socket.socket] = []
        self.addresses: list[str] = []

    async def attend(self, sock: socket.socket, address: str) -> None:
        """Keep it open."""
        self.socks.append(sock)
        self.addresses.append(address)
        await trio.lowlevel.checkpoint()

    async def wait(self, count: int) -> None:
        """Until there were so many."""
        while len(self.socks) < count:  # noqa: ASYNC110 - a socket or thread tells, no event
            await trio.sleep(0.001)

    def close(self) -> None:
        """All of them."""
        for sock in self.socks:
            sock.close()


@pytest.fixture
def guests() -> Iterator[Guests]:
    """Closed at the end."""
    with closing(Guests()) as kept:
        yield kept


async def test_each_connection_gets_its_task(nursery: trio.Nursery, listener: socket.socket, guests: Guests) -> None:
    """With a socket that does not block, the options of the listener, and the client's address."""
    nursery.start_soon(accept_from, listener, nursery, guests.attend)
    clients = connect(listener, 100)
    await guests.wait(100)

    assert set(guests.addresses) == {"127.0.0.1"}
    assert {sock.getpeername() for sock in guests.socks} == {client.getsockname() for client in clients}
    for sock in guests.socks:
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000
    for client in clients:
        client.close()


async def test_a_cancelled_loop_closes_its_listener(listener: socket.socket, guests: Guests) -> None:
    """So that newcomers are refused by the kernel, while those that were accepted go on."""
    address = listener.getsockname()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_from, listener, nursery, guests.attend)
        (client,) = connect(listener)
        await guests.wait(1)
        nursery.cancel_scope.cancel()
    with socket.socket() as late:
        assert late.connect_ex(address) == errno.ECONNREFUSED
    guests.socks[0].send(b"x")
    assert client.recv(1) == b"x"
    client.close()


async def test_who_waits_at_the_end_is_still_accepted(listener: socket.socket, guests: Guests) -> None:
    """Clients that the kernel has taken in for us would see a reset when the listener closes."""
    async with trio.open_nursery() as nursery:
        accepting = await nursery.start(accept_within_scope, listener, nursery, guests)
        clients = connect(listener, 100)  # the loop does not see them before it is cancelled
        accepting.cancel()
    assert len(guests.socks) == 100
    for sock in guests.socks:
        sock.send(b"x")
    for client in clients:
        assert client.recv(1) == b"x"
        client.close()


async def accept_within_scope(
    listener: socket.socket,
    nursery: trio.Nursery,
    guests: Guests,
    *,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The loop in a scope of its own, as a worker has it."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await accept_from(listener, nursery, guests.attend)


async def test_without_descriptors_newcomers_wait(
    nursery: trio.Nursery, listener: socket.socket, guests: Guests
) -> None:
    """Said once per try; who leaves makes room, and then they are attended."""
    clients = connect(listener, 2)
    nursery.start_soon(accept_from, listener, nursery, guests.attend)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_free = os.dup(0)
    os.close(next_free)
    try:
        with structlog.testing.capture_logs() as events:
            resource.setrlimit(resource.RLIMIT_NOFILE, (next_free, before[1]))
            while not events:  # noqa: ASYNC110 - a socket or thread tells, no event
                await trio.sleep(0.001)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert not guests.socks
    await guests.wait(2)
    assert events[0]["event"] == "cannot_accept"
    for client in clients:
        client.close()


async def test_who_left_before_we_looked_is_no_trouble(
    nursery: trio.Nursery, listener: socket.socket, guests: Guests
) -> None:
    """A connection that was reset in the queue is attended (and found gone) or forgotten; the next one is served."""
    (client,) = connect(listener)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    nursery.start_soon(accept_from, listener, nursery, guests.attend)
    (served,) = connect(listener)
    while not any(sock.fileno() != -1 and is_peer(sock, served) for sock in guests.socks):  # noqa: ASYNC110 - a socket or thread tells, no event
        await trio.sleep(0.001)
    served.close()


def is_peer(sock: socket.socket, client: socket.socket) -> bool:
    """Whether they are two ends of one connection."""
    try:
        return bool(sock.getpeername() == client.getsockname())
    except OSError:
        return False
