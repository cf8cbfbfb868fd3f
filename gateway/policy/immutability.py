"""Tag immutability: globs over tag names; a tag that matches one is never moved or deleted.

One exception exists, and it is a client's way of pushing one image: docker 26 with the containerd store PUTs every
child manifest to the tag and then the index that contains them, all within some 40 ms (protocol row MP-22).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from gateway.oci.errors import RegistryError, denied
from gateway.oci.media_types import is_index_type
from storage import Digest, TagRecord

# Docker's own PUTs of one push were 40 ms apart; a slow link and a large index stay far below this.
ONE_PUSH_S: Final = 10
# Announced by dockerd and nobody else; it wins nothing but the exception above, for a tag of the same account's making.
_DOCKER_AGENT: Final = "docker/"


@dataclass(frozen=True, slots=True)
class Move:
    """A tag about to be pointed at `digest` by an account. `children` are those of an index, else empty."""

    digest: Digest
    children: Collection[Digest]
    by: int | None
    user_agent: str
    now: int


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


def matching_rule(patterns: Sequence[str], tag: str) -> str | None:
    """The first glob that makes the tag immutable."""
    return next((pattern for pattern in patterns if _compiled(pattern).match(tag)), None)


def admit_move(patterns: Sequence[str], tag: TagRecord | None, name: str, move: Move) -> None:
    """Let the tag be made or moved, or raise `RegistryError` DENIED naming the rule."""
    rule = matching_rule(patterns, name)
    if rule is None or tag is None or tag.digest == move.digest or _is_one_push(tag, move):
        return
    raise _refusal(name, rule, "points at", tag.digest)


def admit_delete(patterns: Sequence[str], names: Sequence[str], digest: Digest) -> None:
    """Let these tags of one manifest be deleted, or raise `RegistryError` DENIED naming the rule."""
    for name in names:
        if (rule := matching_rule(patterns, name)) is not None:
            raise _refusal(name, rule, "protects", digest)


def _is_one_push(tag: TagRecord, move: Move) -> bool:
    # A tag made in the future, by a clock that was wrong, must not stay movable until then.
    if tag.moved_by is None or tag.moved_by != move.by or abs(move.now - tag.created_at) > ONE_PUSH_S:
        return False
    if tag.digest in move.children:
        return True
    # A child after a child. Once the index is there, the push is over.
    return not (move.children or is_index_type(tag.media_type)) and move.user_agent.startswith(_DOCKER_AGENT)


def _refusal(name: str, rule: str, verb: str, digest: Digest) -> RegistryError:
    return denied(f"tag {name} is immutable by rule {rule!r} and {verb} {digest}: push another tag")
