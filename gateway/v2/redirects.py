"""Which pulls of blobs are answered with the address of the bucket, so that their bytes do not pass through here.

Only GET of a blob that lies in a bucket as it is, for a repository that allows it, and for clients of networks that the
operator names, as clients must reach the bucket. Never HEAD (clients do not follow it alike), never manifests, never
several ranges at once (S3 gives one), never from https to http. A single range is repeated by the client where it is
sent to. The address is a bearer of the right to read that one blob for a while, whoever has it: that is why the
operator says for whom.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol

from quart import Response

from gateway.edge.address import Network, is_within
from gateway.edge.call import Call
from gateway.edge.pulls import Pulled, Pulls, Way
from gateway.repositories.routing import VIRTUAL
from gateway.v2.answers import empty
from gateway.v2.plans import Plan
from storage import FoundBlob, StoredObject

_STATUSES: Final = frozenset({HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT})


class Addressed(Protocol):
    """A store whose objects clients can be sent to."""

    async def redirect_url(self, stored: StoredObject) -> str:
        """An address from which anybody may GET the object for a while. Raises `Unavailable` without credentials."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """One such store, and the networks whose clients reach it."""

    store: Addressed
    networks: tuple[Network, ...]


class Redirects:
    """See the module docstring. One per process; `places` by the ids of their storages."""

    def __init__(self, places: Mapping[int, Place], *, pulls: Pulls) -> None:
        self._places = dict(places)
        self._pulls = pulls

    def look_at_clients(self, call: Call, found: FoundBlob) -> bool:
        """Whether an answer about this blob depends on where the client is, so that it is nobody else's.

        Never through a virtual repository: whether clients may be sent away is for the repository that has the blob.
        """
        record = call.repository
        return record.redirect_pulls and record.repository_type != VIRTUAL and found.record.storage_id in self._places

    async def answer(self, call: Call, found: FoundBlob, plan: Plan, *, method: str, pulled: Pulled) -> Response | None:
        """307 to the bucket, noted as a pull; None where the gateway is to send the bytes itself."""
        place = self._places.get(found.record.storage_id)
        if place is None or not self.look_at_clients(call, found) or method != "GET":
            return None
        if plan.status not in _STATUSES or len(plan.body) != 1 or not found.size_bytes:
            return None
        if not is_within(call.visit.client, place.networks):
            return None
        url = await place.store.redirect_url(found.record.stored)
        if call.visit.external.scheme == "https" and not url.startswith("https:"):
            return None  # who came over TLS is not sent over a wire that others read: the address is the right to read
        self._pulls.note(pulled, way=Way.REDIRECT)
        # The address ends, and it is for this client: nobody may keep the answer.
        return empty(
            HTTPStatus.TEMPORARY_REDIRECT,
            {"Location": url, "Cache-Control": "no-store", "Docker-Content-Digest": str(pulled.digest)},
        )
