"""Blocks of ports belong to one holder at a time, and nothing listens on any of theirs."""

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from bench.contenders import ports
from bench.contenders.ports import BLOCK, free_port, port_block


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> int:
    """The only block that there is, for this test."""
    with port_block() as found:
        monkeypatch.setattr(ports, "_FIRST", found)
        monkeypatch.setattr(ports, "_STOP", found + BLOCK)
    return found


def test_a_block_is_held_until_it_is_left(first: int) -> None:
    """Nobody else gets it meanwhile, and then somebody does."""
    with port_block() as held:
        assert held == first
        with pytest.raises(OSError, match="in a row are free"), port_block():
            pass
    with port_block() as again:
        assert again == first


def test_a_block_in_which_somebody_listens_is_passed_over(first: int) -> None:
    """On any of its ports; the holder itself is in no server's way."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", first + BLOCK - 1))
        listening.listen()
        with pytest.raises(OSError, match="in a row are free"), port_block():
            pass
    with port_block() as held, socket.socket() as server:
        server.bind(("127.0.0.1", held))


def test_a_free_port_can_be_taken() -> None:
    """Nothing listens on it."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_no_port_is_named_twice_before_its_server_started() -> None:
    """Neither to this process, nor to another one, nor by the kernel to whoever asks for any."""
    program = "from bench.contenders.ports import free_port\nprint(*(free_port() for _ in range(50)))"
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    named = [free_port() for _ in range(50)] + [int(port) for port in elsewhere.split()]

    assert len(set(named)) == 100
    assert max(named) < 32_768  # from there on Linux names them by itself


def test_a_port_on_which_somebody_listens_is_passed_over() -> None:
    """Also when its turn comes again; and when all are taken, that is told."""
    with ExitStack() as stack:
        for port in {free_port() for _ in range(150)}:
            server = stack.enter_context(socket.socket())
            server.bind(("127.0.0.1", port))
            server.listen()

        with pytest.raises(OSError, match="every port"):
            free_port()
