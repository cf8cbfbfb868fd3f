"""What one S3 service can do beyond the least, found out by trying, with small objects below `probe/`.

A service that lacks something is used without it: `notes` say what that costs. Only a bucket that cannot be written at
all is refused. Knows nothing of blobs.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from storage.digest import Digest
from storage.s3.bucket_objects import DataPlane
from storage.s3.failures import WRONG_DIGEST, Refused, retried
from storage.s3.keys import PROBE

_CONTENT: Final = b"probe"
_PRECONDITION_FAILED: Final = 412


@dataclass(frozen=True, slots=True)
class Abilities:
    """What was probed; all False before. `notes` say what is missing and what that costs, one per line of a log."""

    conditional_put: bool = False
    verifies_sha256: bool = False
    lifecycle: bool = False
    batch_delete: bool = False
    notes: tuple[str, ...] = ()


async def probe(
    plane: DataPlane,
    delete_batch: Callable[[Sequence[str]], Awaitable[None]],
    delete: Callable[[str], Awaitable[None]],
    *,
    root: str,
) -> Abilities:
    """Try everything once. Raises `Trouble` when the bucket cannot be reached or written.

    `root` is the prefix of all keys. Where objects may not be removed, three of at most 5 bytes stay behind.
    """
    place = f"{root}{PROBE}{uuid.uuid4().hex}/"
    keys = [f"{place}{what}" for what in ("written", "conditional", "verified")]
    await retried(lambda: plane.put(keys[0], b""))
    notes = []
    if not (conditional_put := await _refuses_to_overwrite(plane, keys[1])):
        notes.append("the store overwrites in spite of If-None-Match: equal pushes at one time may write twice")
    if not (verifies_sha256 := plane.verifies and await _refuses_wrong_digest(plane, keys[2])):
        notes.append("the store does not verify x-amz-content-sha256: pushes of known digest are hashed here")
    batch_delete, note = await _removes(keys, delete_batch=delete_batch, delete=delete)
    return Abilities(
        conditional_put=conditional_put,
        verifies_sha256=verifies_sha256,
        batch_delete=batch_delete,
        notes=(*notes, *note),
    )


async def _refuses_to_overwrite(plane: DataPlane, key: str) -> bool:
    """Whether the second of two conditional writes fails; the first may fail too where the condition is unknown."""
    try:
        await retried(lambda: plane.put(key, _CONTENT, if_absent=True))
        await retried(lambda: plane.put(key, _CONTENT, if_absent=True))
    except Refused as refused:
        return refused.status == _PRECONDITION_FAILED
    return False


async def _refuses_wrong_digest(plane: DataPlane, key: str) -> bool:
    wrong = Digest.of(b"something else").hex
    try:
        await retried(lambda: plane.put(key, _CONTENT, sha256=wrong))
    except Refused as refused:
        if refused.code not in WRONG_DIGEST:
            return False
    else:
        return False
    return await _takes_right_digest(plane, key)


async def _takes_right_digest(plane: DataPlane, key: str) -> bool:
    try:
        await retried(lambda: plane.put(key, _CONTENT, sha256=Digest.of(_CONTENT).hex))
    except Refused:
        return False
    return True


async def _removes(
    keys: Sequence[str],
    *,
    delete_batch: Callable[[Sequence[str]], Awaitable[None]],
    delete: Callable[[str], Awaitable[None]],
) -> tuple[bool, tuple[str, ...]]:
    """Whether many are removed at once; clean up in any case, as far as that is allowed."""
    try:
        await retried(lambda: delete_batch(keys))
    except Refused:
        pass
    else:
        return True, ()
    try:
        for key in keys:
            await retried(partial(delete, key))
    except Refused as refused:
        return False, (f"objects cannot be removed ({refused}): what is collected as garbage stays in the bucket",)
    return False, ("the store does not remove many objects at once: it is asked for each",)
