"""Blocks of ports belong to one holder at a time, and nothing listens on any of theirs."""

import socket

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
    """One that the kernel gave away a moment ago."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
