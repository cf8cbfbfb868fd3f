"""By which address a request came in: the path of one repository, a mirror's namespace, or a host.

One look at the raw path and query, before anything is decided; what a door leads to, `repositories.routing` says.
"""

from dataclasses import dataclass
from typing import Final

from quart.wrappers import Request

from gateway.oci.paths import Entrance, enter
from storage import Door

NAMESPACE: Final = "OCI-Namespace"
"""The header that tells for which registry a mirror has answered."""
_MOST_BYTES: Final = 255
_NOWHERE: Final = ""  # no row has this name


@dataclass(frozen=True, slots=True)
class Doorway:
    """What path and query say of the way in. `namespace` is in small letters; empty where it cannot be anybody's."""

    entrance: Entrance
    namespace: str | None = None

    def door(self, host: str) -> Door:
        """The door, once it is known which host the client named.

        A client that asks for a mirror of this very host means what it says: it is here.
        """
        namespace = None if self.namespace == host else self.namespace
        return Door(host=host, repository=self.entrance.repository, namespace=namespace)


FRONT: Final = Doorway(Entrance(b""))
"""Of requests to whatever is no registry API."""


def doorway(request: Request) -> Doorway:
    """The way in of a request to the registry API; NAME_INVALID (400) for a path that no name can stand in.

    containerd sends `ns` to every mirror. Several of them, and what is too long to be one, are nobody's.
    """
    given = request.args.getlist("ns")
    if not given:
        return Doorway(enter(request.scope["raw_path"]))
    is_one = len(given) == 1 and len(given[0]) <= _MOST_BYTES and given[0].isascii()
    return Doorway(enter(request.scope["raw_path"]), given[0].lower() if is_one else _NOWHERE)
