"""What an upstream registry said, once it was checked. Values only: nothing here asks, reads rows or decides.

Whoever gets one of these may rely on it: digests are those of the bytes, names follow the grammar, sizes are not
negative. What could not be checked is None.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.oci.manifest import Manifest
from storage import Digest


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What HEAD told of a manifest; `digest` is the upstream's word and nothing is stored for it.

    Each is None where the upstream does not say it. `etag` is for the next question.
    """

    digest: Digest | None
    media_type: str | None
    size_bytes: int | None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class NotModified:
    """The upstream has the same as at the time of the `etag` that was sent."""


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest whose bytes have this digest, and what they say. `content` is exactly what came, at most 4 MiB.

    `digest`: the one that was asked for; for a tag sha256, or what the upstream names it by if that is true.
    """

    content: bytes
    media_type: str
    digest: Digest
    manifest: Manifest
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class TagListing:
    """Tags in bytewise order, each once. `is_complete`: there were not more than we take, nor did it take too long."""

    names: tuple[str, ...]
    is_complete: bool


class BreakerState(StrEnum):
    """Whether an address is asked: always, not at all, or once to see whether it is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is left of counted pulls at one address with one credential. Times are Unix seconds.

    `account`: the name of the user, or None for anonymous pulls. `allowed` pulls in `window_s` seconds, `remaining` of
    them as of `observed_at`; each is None where the upstream never said so. `retry_at`: it wants no question before.
    """

    url: str
    account: str | None
    allowed: int | None = None
    remaining: int | None = None
    window_s: int | None = None
    observed_at: int | None = None
    retry_at: int | None = None


@dataclass(frozen=True, slots=True)
class AddressStatus:
    """One address of the upstream. `troubles`: in a row, until now; `last_trouble` names no secrets."""

    url: str
    state: BreakerState
    troubles: int
    last_trouble: str | None
    last_trouble_at: float | None


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """How an upstream is, as this process sees it."""

    addresses: tuple[AddressStatus, ...]
    budgets: tuple[BudgetState, ...]
    is_offline: bool
