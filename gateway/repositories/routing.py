"""From the address and the name that a client used to a repository and the image in it; and what lies behind a view.

Every image has one name inside its repository, whichever way leads there: that name, with the repository's, is what
rights and tokens speak of (`full_name`). Knows rows only; whom a repository may serve is asked of the caller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.upstream.naming import allows, upstream_name
from gateway.upstream.settings import upstream_of
from storage import FRONT_DOOR, AddressKind, Door, MemberRecord, RepositoryRecord, Transaction
from storage.metadata import addresses, members, repositories

HOSTED: Final = "hosted"
PROXY: Final = "proxy"
VIRTUAL: Final = "virtual"

MayPull = Callable[[Transaction, RepositoryRecord], bool]


@dataclass(frozen=True, slots=True)
class Place:
    """An image in a repository: the one that a name leads to, or one of those that a view consists of."""

    record: RepositoryRecord
    image: str

    @property
    def full_name(self) -> str:
        """`project/repository/image`, by which every client can find it."""
        return f"{self.record.full_name}/{self.image}"


def find(tx: Transaction, name: str, door: Door = FRONT_DOOR) -> Place | None:
    """What the client means by `name` where it came in; None where nobody serves that name.

    With a namespace the repository that mirrors it is meant, and only that: under its full name, too, which clients
    send that put the repository's path before every name. A path to another repository contradicts it.
    """
    routed = repositories.route(tx, name, door)
    if routed is None:
        return None
    record, image = routed
    if door.namespace is not None:
        if door.repository not in (None, record.full_name):
            return None
        image = name.removeprefix(f"{record.full_name}/")
    return Place(record, image_in(record, image))


def behind(tx: Transaction, door: Door) -> RepositoryRecord | None:
    """The one repository that everything behind this door belongs to; None where names decide."""
    if door.namespace is not None:
        return addresses.find(tx, AddressKind.NAMESPACE, door.namespace)
    if door.repository is not None:
        return repositories.find(tx, *door.repository.split("/", 1))
    return None if door.host is None else addresses.find(tx, AddressKind.HOST, door.host)


def names_decide(door: Door) -> bool:
    """Whether a door leads to everything, unless its host belongs to one repository."""
    return door.namespace is None and door.repository is None


def by_full_name(tx: Transaction, name: str) -> Place | None:
    """What `name` means as `project/repository/image`, whatever else it may mean."""
    project, _, rest = name.partition("/")
    repository, _, image = rest.partition("/")
    record = repositories.find(tx, project, repository) if image else None
    return None if record is None else Place(record, image_in(record, image))


def image_in(record: RepositoryRecord, image: str) -> str:
    """The one name of an image inside a repository: a proxy of Docker Hub has `nginx` as `library/nginx`."""
    if record.repository_type != PROXY or "/" in image:
        return image
    try:
        upstream = upstream_of(record.settings)
    except ValueError:  # a newer version wrote them: whoever opens the repository says so
        return image
    return image if upstream is None else upstream_name(upstream.urls, image)


def destination(tx: Transaction, view: RepositoryRecord, image: str | None) -> Place | None:
    """Where pushes to a virtual repository go: its default member, or that one's; None if there is none.

    None as well for an image that a default member does not take by its patterns; `image` None asks for any.
    """
    record, inside = view, image or ""
    while record.repository_type == VIRTUAL:
        default = next((member for member in members.of(tx, record.id) if member.is_default), None)
        if default is None or (image is not None and not takes(default, inside)):
            return None
        record = default.repository
    return Place(record, image_in(record, inside))


def sources(tx: Transaction, view: RepositoryRecord, image: str, may_pull: MayPull) -> list[Place]:
    """Where a virtual repository looks for an image, in this order, as far as the caller may read there.

    Nothing of the others is looked at, so that nothing of them can be told, not by the time it takes either.
    """
    found: dict[int, Place] = {}
    views = {view.id}

    def walk(inside: RepositoryRecord) -> None:
        for member in members.of(tx, inside.id):
            record = member.repository
            if record.id in views or record.id in found or not takes(member, image) or not may_pull(tx, record):
                continue
            if record.repository_type == VIRTUAL:
                views.add(record.id)
                walk(record)
            else:
                found[record.id] = Place(record, image_in(record, image))

    walk(view)
    return list(found.values())


def takes(member: MemberRecord, image: str) -> bool:
    """Whether the member is asked for images of that name: no pattern keeps it out, and one lets it in if any is given.

    An image has two names at Docker Hub (`nginx`, `library/nginx`), and patterns mean the image, whichever is used.
    """
    names = _names(member.repository, image)
    if not all(allows(name, include=(), exclude=member.exclude) for name in names):
        return False
    return any(allows(name, include=member.include, exclude=()) for name in names)


def _names(record: RepositoryRecord, image: str) -> set[str]:
    """All that the image is called there."""
    whole = image_in(record, image)
    short = whole.rpartition("/")[2]
    return {image, whole, short} if image_in(record, short) == whole else {image, whole}
