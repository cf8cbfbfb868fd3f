"""Lists in pages: the cursor is the key of the last item shown, so it tells nothing of items that are not shown."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

from pydantic import Field

from gateway.access.actions import Action
from gateway.access.principal import Principal
from gateway.access.rights import rights, visible_to
from gateway.api.fields import Query
from gateway.oci.listing import cursor
from storage import RepositoryRecord, Transaction
from storage.metadata import repositories

MAX_LIMIT: Final = 1000
_MAX_CURSOR_CHARS: Final = 512

T = TypeVar("T")


class Page(Query):
    """Which part of a list: `after` is the `next` of the page before."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 100
    after: Annotated[str, Field(max_length=_MAX_CURSOR_CHARS)] = ""


def shown(found: Sequence[T], limit: int, key: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """The items of one page and the cursor of the next, given one item more than the page holds, if there is one."""
    page = found[:limit]
    return page, key(page[-1]) if len(found) > limit else None


def reach(principal: Principal) -> tuple[int | None, bool]:
    """For listings: the `readable_by` for SQL, and whether each row has to be checked besides.

    SQL filters by the account. What narrows the caller further (a limited credential, a robot's project) is seldom and
    not known to SQL.
    """
    account = principal.account
    is_narrowed = not principal.limits.is_unlimited or (account is not None and account.project_id is not None)
    if is_narrowed and account is not None and (account.is_admin or account.is_auditor):
        return None, True  # they have no grants that SQL could find
    return visible_to(principal), is_narrowed


def visible_repositories(
    tx: Transaction, principal: Principal, *, project: str | None, after: str, limit: int
) -> list[RepositoryRecord]:
    """The next `limit` repositories that the caller can read, beyond the full name `after`.

    Where rows have to be checked, more are read until the page is full.
    """
    readable_by, is_narrowed = reach(principal)
    found: list[RepositoryRecord] = []
    after = cursor(after)
    while batch := repositories.page(tx, project=project, after=after, limit=limit, readable_by=readable_by):
        after = batch[-1].full_name
        found += [each for each in batch if not is_narrowed or Action.PULL in rights(tx, principal, each, None)]
        if len(found) >= limit or len(batch) < limit:
            break
    return found[:limit]
