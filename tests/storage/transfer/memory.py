"""A channel without a network: what the server says is written down before. Not a test."""

from itertools import pairwise

from storage.transfer.channel import Channel, ChannelFailed


class Memory:
    """Its server has said everything already, in these pieces, and then closes."""

    encrypted = False

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.is_open = True
        self.sent = b""

    def says(self, piece: bytes) -> None:
        """One piece more."""
        self._pieces.append(piece)

    def receive_nowait(self, max_bytes: int) -> bytes | None:
        """A piece, or a part of it."""
        if not self._pieces:
            return b""
        piece = self._pieces.pop(0)
        if len(piece) > max_bytes:
            self._pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]

    def send_nowait(self, data: bytes | memoryview, *, more: bool = False) -> int:
        """All of it."""
        if not self.is_open:
            raise ChannelFailed
        self.sent += bytes(data)
        return len(data)

    async def wait_readable(self) -> None:
        """Never needed."""

    async def wait_writable(self) -> None:
        """Never needed."""

    def is_quiet(self) -> bool:
        """Whether all was read."""
        return not self._pieces

    def close(self) -> None:
        """Remember it."""
        self.is_open = False


def as_channel(memory: Memory) -> Channel:
    """What a connection asks for; nobody needs its socket."""
    return memory  # type: ignore[return-value]


def pieces_of(raw: bytes, cuts: set[int]) -> list[bytes]:
    """The bytes, cut there."""
    places = [0, *sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    return [raw[start:stop] for start, stop in pairwise(places)]
