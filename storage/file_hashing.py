"""Hashes a local file turn by turn, each short enough for a thread of a pool; knows nothing of what the file is for."""

import os
from typing import Final

from storage.digest import Hasher

TURN_BYTES: Final = 16 * 1024 * 1024
"""Bytes hashed in one turn of a thread: about 10 ms, so that others get the thread and cancelling is quick."""
_READ_BYTES: Final = 1024 * 1024


def hash_turn(descriptor: int, hasher: Hasher, stop: int) -> bool:
    """Feed `hasher` what follows in the file on the bytes it has seen, up to offset `stop`, at most `TURN_BYTES`.

    False if the file ends before. Blocks, and does not move the file's position. Raises OSError.
    """
    stop = min(stop, hasher.size_bytes + TURN_BYTES)
    while (start := hasher.size_bytes) < stop:
        chunk = os.pread(descriptor, min(_READ_BYTES, stop - start), start)
        if not chunk:
            return False
        hasher.update(chunk)
    return True
