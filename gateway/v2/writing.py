"""Who takes writes: everything in /v2 that changes a repository asks here for it."""

from gateway.edge.call import Call
from gateway.oci.errors import unsupported
from gateway.repositories.contract import WritableRepository
from gateway.repositories.routing import VIRTUAL
from gateway.v2.services import V2


def writable(v2: V2, call: Call) -> WritableRepository:
    """The repository that the call is about; UNSUPPORTED (405) where its kind takes no writes, and where they go then.

    Pushes to a virtual repository have come to the member that takes them by now, if there is one.
    """
    repository = v2.open_repository(call.repository, call.caller)
    if isinstance(repository, WritableRepository):
        return repository
    name = call.repository.full_name
    if call.repository.repository_type == VIRTUAL:
        message = f"repository {name} is virtual: push to one of its members, and delete where it was pushed"
    else:
        message = f"repository {name} is a proxy: push and delete at its upstream; the management API clears its cache"
    raise unsupported(message, ("GET", "HEAD"))
