"""The list of image names that the caller may pull from (rows CT).

Images of virtual repositories are listed under the names that these give them, as far as the caller may read the
members that have them. Behind a door that leads to one repository its images are listed alone, by their names there.
"""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, islice

from quart import Response
from quart.wrappers import Request

from gateway.access.principal import Principal
from gateway.access.rights import readable_repositories
from gateway.edge.call import Caller, Visit
from gateway.oci.listing import catalog_document, cursor, next_link, page_size
from gateway.repositories import routing
from gateway.repositories.views import image_names
from gateway.v2.answers import entity
from gateway.v2.services import V2
from storage import RepositoryRecord, Transaction
from storage.metadata import images, members


async def get(v2: V2, visit: Visit, principal: Principal, request: Request) -> Response:
    """Names in bytewise order beyond `last`, filtered before they are counted (security row A20)."""
    limit = page_size(request.args.get("n"), cap=v2.limits.tags_page)
    after = cursor(request.args.get("last"))

    def page(tx: Transaction) -> list[str]:
        one = routing.behind(tx, visit.door)
        if one is None and routing.names_decide(visit.door):
            return _of_all(tx, principal, after=after, limit=limit + 1)
        return _of_one(tx, one, principal, after=after, limit=limit + 1)

    names = await v2.database.survey(page)
    shown, more = names[:limit], len(names) > limit > 0
    headers = {"Link": next_link(visit.path("/v2/_catalog"), last=shown[-1], n=limit)} if more else {}
    return entity(catalog_document(shown), "application/json", headers)


def _of_one(
    tx: Transaction, record: RepositoryRecord | None, principal: Principal, *, after: str, limit: int
) -> list[str]:
    """Nothing of one that the caller may not read, as of one that does not exist."""
    if record is None or not _is_readable(record, _readable(tx, principal)):
        return []
    return list(image_names(tx, record, Caller(principal).may_pull, after=after, limit=limit))


def _of_all(tx: Transaction, principal: Principal, *, after: str, limit: int) -> list[str]:
    """Images where they are, and those of the views that may come before the last of these."""
    readable = _readable(tx, principal)
    stored = images.page(tx, after=after, limit=limit, repository_ids=readable)
    until = stored[-1] if len(stored) == limit else None
    views = [view for view in members.virtuals(tx) if _is_readable(view, readable) and _is_within(view, after, until)]
    # The names of each view begin with its own: one view after the other they are in order, and none is read too early.
    views.sort(key=lambda view: f"{view.full_name}/")
    names = chain.from_iterable(_of_view(tx, view, principal, after=after, limit=limit) for view in views)
    return list(islice(_once(merge(stored, names)), limit))


def _of_view(tx: Transaction, view: RepositoryRecord, principal: Principal, *, after: str, limit: int) -> Iterator[str]:
    """The full names of a view's images beyond `after`."""
    prefix = f"{view.full_name}/"
    beyond = after.removeprefix(prefix) if after.startswith(prefix) else ""
    names = image_names(tx, view, Caller(principal).may_pull, after=beyond, limit=limit)
    return (prefix + name for name in names)


def _is_within(view: RepositoryRecord, after: str, until: str | None) -> bool:
    """Whether names that begin with the view's can be on a page of names beyond `after` up to `until`."""
    prefix = f"{view.full_name}/"
    return (after < prefix or after.startswith(prefix)) and (until is None or prefix <= until)


def _readable(tx: Transaction, principal: Principal) -> frozenset[int] | None:
    readable = readable_repositories(tx, principal)
    return None if readable is None else frozenset(readable)


def _is_readable(record: RepositoryRecord, readable: frozenset[int] | None) -> bool:
    return readable is None or record.id in readable


def _once(ordered: Iterable[str]) -> Iterator[str]:
    before = None
    for name in ordered:
        if name != before:
            yield name
        before = name
