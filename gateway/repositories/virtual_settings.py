"""What a virtual repository's settings say: the part of the row's JSON that only these have. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal, Self

from gateway.upstream.settings import NewerSettings

VIRTUAL: Final = "virtual"
"""The key of these settings within a repository's."""


@dataclass(frozen=True, slots=True)
class VirtualSettings:
    """`on_member_failure`: what a member that cannot answer does to a search.

    `stop` ends it with 503: or a member further down could answer for a name that is not its own, just because the
    right one is out of order. `skip` goes on without it; then the members must be trusted alike.
    """

    on_member_failure: Literal["stop", "skip"] = "stop"

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """From the JSON object; `NewerSettings` for anything not understood."""
        if document.keys() - {"on_member_failure"}:
            raise NewerSettings("settings of a virtual repository that this version does not know")
        wanted = document.get("on_member_failure", "stop")
        if wanted not in ("stop", "skip"):
            raise NewerSettings(f"on_member_failure is stop or skip, not {wanted!r}")
        return cls(wanted)

    def to_json(self) -> dict[str, Any]:
        """The object for a row's JSON; the default is left out, so that a later version's applies."""
        return {} if self.on_member_failure == "stop" else {"on_member_failure": self.on_member_failure}


@lru_cache(maxsize=4096)
def virtual_of(settings: str) -> VirtualSettings:
    """The part of a repository's settings (the row's JSON text); defaults where it has none. `NewerSettings` too."""
    return VirtualSettings.of(json.loads(settings).get(VIRTUAL, {}))
