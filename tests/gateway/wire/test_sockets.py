"""Listening: addresses are understood, a taken port is noticed, and a reservation swallows no connection."""

import socket
from contextlib import ExitStack

import pytest

from gateway.wire.sockets import BACKLOG, ListenError, open_listeners, reserve, split_address


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:0", "::1", 0),
        (":5000", "", 5000),
        ("localhost:1", "localhost", 1),
    ],
)
def test_an_address_is_split(listen: str, host: str, port: int) -> None:
    """Host and port, with brackets around IPv6."""
    assert split_address(listen) == (host, port)


@pytest.mark.parametrize("listen", ["8080", "localhost", "x:", "x:y", "x:70000", "::1:80", "x:-1", "x:٤"])
def test_what_is_no_address_is_an_error_with_an_example(listen: str) -> None:
    """The message says what an address looks like."""
    with pytest.raises(ListenError, match=r"\[::"):
        split_address(listen)


def test_port_zero_becomes_a_real_port_that_listeners_share() -> None:
    """The reservation fixes the number; every worker listens on it with a socket of its own."""
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve("127.0.0.1:0")]
        port = reserved[0].getsockname()[1]
        for _ in range(2):
            for listener in open_listeners(reserved, user_timeout_s=7):
                held.enter_context(listener)
                assert listener.getsockname() == ("127.0.0.1", port)
                assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000

        with socket.create_connection(("127.0.0.1", port), timeout=20):
            pass

    assert port > 0


def test_a_reservation_alone_refuses_connections() -> None:
    """Nothing hangs in a socket that nobody accepts from (H17)."""
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve("127.0.0.1:0")]

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(reserved[0].getsockname(), timeout=20)


def test_a_port_that_somebody_listens_on_is_an_error() -> None:
    """Two gateways never share a port by accident, although their workers share theirs."""
    with ExitStack() as held:
        reserved = [held.enter_context(sock) for sock in reserve("127.0.0.1:0")]
        for listener in open_listeners(reserved, user_timeout_s=7):
            held.enter_context(listener)

        with pytest.raises(ListenError, match="in use"):
            reserve(f"127.0.0.1:{reserved[0].getsockname()[1]}")


def test_an_unknown_host_is_an_error() -> None:
    """What does not resolve is named."""
    with pytest.raises(ListenError, match="256"):
        reserve("256.256.256.256:0")


def test_the_backlog_is_large() -> None:
    """A fleet that starts at once does not get refused (the default of 100 is too small)."""
    assert BACKLOG == 2048
