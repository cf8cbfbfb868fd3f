"""The images of a repository by name; of a virtual one as its members have them. Rows only, for a long read.

A name belongs to a view if a member that the caller may read has it, and every pattern on a way there lets it through.
"""

from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from typing import Final

from gateway.repositories.routing import VIRTUAL, MayPull, takes
from storage import MemberRecord, RepositoryRecord, Transaction
from storage.metadata import images, members

_FEWEST: Final = 100
_MOST: Final = 1000
"""Rows read at once from one member: about a page, as patterns may leave some of them out."""
Graph = Mapping[int, Sequence[MemberRecord]]


def image_names(
    tx: Transaction, record: RepositoryRecord, may_pull: MayPull, *, after: str, limit: int
) -> Iterator[str]:
    """Up to `limit` names in bytewise order beyond `after`, each once. Reads as it is taken, within the transaction."""
    at_once = min(max(limit, _FEWEST), _MOST)
    if record.repository_type == VIRTUAL:
        names = _of_view(tx, record, may_pull, after=after, at_once=at_once)
    else:
        names = _names(tx, record.id, after, at_once)
    return islice((name for name, _ in names), limit)


def _of_view(
    tx: Transaction, view: RepositoryRecord, may_pull: MayPull, *, after: str, at_once: int
) -> Iterator[tuple[str, int]]:
    graph = _graph(tx, view, may_pull)
    before = None
    for name, place in merge(*(_names(tx, place, after, at_once) for place in _places(graph))):
        if name != before and place in _reach(graph, view.id, name):
            before = name
            yield name, place


def _graph(tx: Transaction, view: RepositoryRecord, may_pull: MayPull) -> Graph:
    """The members of the view and of all views in it, those that the caller may read."""
    graph: dict[int, Sequence[MemberRecord]] = {}
    waiting = [view]
    while waiting:
        each = waiting.pop()
        if each.id in graph:
            continue
        graph[each.id] = [member for member in members.of(tx, each.id) if may_pull(tx, member.repository)]
        waiting += [one.repository for one in graph[each.id] if one.repository.repository_type == VIRTUAL]
    return graph


def _places(graph: Graph) -> list[int]:
    found = {member.repository.id for members_of in graph.values() for member in members_of}
    return sorted(found - graph.keys())


def _reach(graph: Graph, view_id: int, name: str) -> set[int]:
    """All repositories that the patterns let the name through to."""
    seen: set[int] = set()
    waiting = [view_id]
    while waiting:
        for member in graph.get(waiting.pop(), ()):
            if member.repository.id not in seen and takes(member, name):
                seen.add(member.repository.id)
                waiting.append(member.repository.id)
    return seen


def _names(tx: Transaction, repository_id: int, after: str, at_once: int) -> Iterator[tuple[str, int]]:
    while page := images.page_of_repository(tx, repository_id, after=after, limit=at_once):
        for image in page:
            yield image.name, repository_id
        after = page[-1].name
