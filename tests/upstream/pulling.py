"""Clients that pull blobs as people and machines do: patiently, slowly, in parts, and not to the end.

Each says exactly what came. Plain sockets below `http.client`, a token instead of a password, nothing tried again.
"""

import contextlib
import http.client
import random
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Literal

from tests.served import Served, authorization

Manner = Literal["whole", "killed", "slow", "range", "tail"]
_PIECE: Final = 64 * 1024
_PAUSE_S: Final = 0.004
PATIENCE_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came. `is_complete`: the answer was a success and its framing was fulfilled: a client would take it.

    `start`: where in the blob it was to begin. `status` is 0 where there was no answer.
    """

    status: int
    body: bytes
    is_complete: bool
    start: int = 0
    code: str = ""
    retry_after: str | None = None

    def is_part_of(self, content: bytes) -> bool:
        """Whether every byte that came is the right one, also of what broke off."""
        return content.startswith(self.body, self.start)


@dataclass(frozen=True, slots=True)
class Client:
    """One who pulls `path`; `leave_at`: after so many bytes, with a reset; `span`: first and last byte asked for."""

    gateway: Served
    path: str
    token: str
    manner: Manner = "whole"
    leave_at: int | None = None
    span: tuple[int, int] | None = None

    def pull(self) -> Pulled:
        """Ask once."""
        connection = self.gateway.connection(timeout_s=PATIENCE_S)
        try:
            ranged = {} if self.span is None else {"Range": f"bytes={self.span[0]}-{self.span[1]}"}
            connection.request("GET", self.path, headers={**authorization(self.token), **ranged})
            return self._take(connection, connection.getresponse())
        except (OSError, http.client.HTTPException):
            return Pulled(0, b"", is_complete=False)
        finally:
            connection.close()

    def _take(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Pulled:
        retry_after = answer.getheader("Retry-After")
        if answer.status not in {200, 206}:
            return Pulled(answer.status, b"", is_complete=False, code=_code(answer), retry_after=retry_after)
        start = 0 if self.span is None or answer.status == 200 else self.span[0]
        parts, count, left = [], 0, int(answer.headers["Content-Length"])
        with contextlib.suppress(OSError, http.client.IncompleteRead):
            while left and (piece := answer.read(min(_PIECE, left))):
                parts.append(piece)
                count, left = count + len(piece), left - len(piece)
                if self.leave_at is not None and count >= self.leave_at:
                    _reset(connection)
                    break
                if self.manner == "slow":
                    threading.Event().wait(_PAUSE_S)
        return Pulled(answer.status, b"".join(parts), is_complete=left == 0, start=start)


def crowd(gateway: Served, path: str, token: str, size_bytes: int, *, clients: int, seed: int) -> list[Client]:
    """So many who pull the same blob, each in a manner of its own."""
    dice = random.Random(seed)
    manners: tuple[Manner, ...] = ("whole", "whole", "killed", "slow", "range", "tail")
    found = []
    for _ in range(clients):
        manner = dice.choice(manners)
        start = dice.randrange(size_bytes)
        spans = {"range": (start, min(size_bytes - 1, start + 500_000)), "tail": (size_bytes - 70_000, size_bytes - 1)}
        leave_at = dice.randrange(1, size_bytes) if manner == "killed" else None
        found.append(Client(gateway, path, token, manner, leave_at, spans.get(manner)))
    return found


def at_random_times(clients: list[Client], within_s: float, *, seed: int) -> list[Pulled]:
    """Let them all pull, each beginning at some moment of these seconds; what came, in their order."""
    dice = random.Random(seed)
    delays = [dice.uniform(0, within_s) for _ in clients]

    def late(client: Client, delay_s: float) -> Pulled:
        threading.Event().wait(delay_s)  # people come when they come
        return client.pull()

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(late, clients, delays))


def _reset(connection: http.client.HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()


def _code(answer: http.client.HTTPResponse) -> str:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return answer.read(2000).decode(errors="replace")
    return ""
