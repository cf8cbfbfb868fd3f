"""What a repository's upstream is like at the moment, and its cache emptied by hand."""

from typing import Final, Self

import trio
from pydantic import Field

from gateway.api.errors import Problem, Refused, invalid
from gateway.api.fields import Moment, Query, View, moment, moment_or_none
from gateway.api.services import Ask, Reply
from gateway.oci.names import is_name, is_tag
from gateway.repositories.clearing import Cleared, clear, clear_tag
from gateway.repositories.furnishing import PROXY
from gateway.upstream.answers import AddressStatus, BudgetState
from gateway.upstream.opening import Upstreams
from gateway.upstream.settings import upstream_of

_PATIENCE_S: Final = 30.0
"""For emptying a cache in one request: what is left then goes with the next."""


class AddressView(View):
    """One address of an upstream, as this worker sees it."""

    url: str
    state: str = Field(description="closed: it is asked; open: not for a while; half_open: once, to see.")
    troubles: int = Field(description="In a row, until now.")
    last_trouble: str | None
    last_trouble_at: Moment | None

    @classmethod
    def of(cls, status: AddressStatus) -> Self:
        """The status as clients see it."""
        at = None if status.last_trouble_at is None else moment(int(status.last_trouble_at))
        return cls(
            url=status.url,
            state=status.state.value,
            troubles=status.troubles,
            last_trouble=status.last_trouble,
            last_trouble_at=at,
        )


class BudgetView(View):
    """What is left of the pulls that an upstream counts, at one address with one account; null: it never said so."""

    url: str
    account: str | None = Field(description="The user name; null for anonymous pulls.")
    allowed: int | None
    remaining: int | None
    window_s: int | None
    observed_at: Moment | None
    retry_at: Moment | None = Field(description="The upstream wants no question before.")

    @classmethod
    def of(cls, state: BudgetState) -> Self:
        """The state as clients see it."""
        return cls(
            url=state.url,
            account=state.account,
            allowed=state.allowed,
            remaining=state.remaining,
            window_s=state.window_s,
            observed_at=moment_or_none(state.observed_at),
            retry_at=moment_or_none(state.retry_at),
        )


class UpstreamStatusView(View):
    """How an upstream is."""

    offline: bool
    addresses: list[AddressView]
    budgets: list[BudgetView]


class ClearedView(View):
    """What went out of a cache."""

    tags: int
    manifests: int
    freed_bytes: int = Field(description="What this repository does not hold any more; the disk has it back later.")
    complete: bool = Field(description="False: it took too long; ask again for the rest.")


class ClearQuery(Query):
    """What to clear: everything, one image, or one tag of it."""

    image: str | None = None
    tag: str | None = None


async def status(ask: Ask) -> Reply:
    """How the upstream of the repository is: which addresses are asked, and what is left of its budget."""
    record = ask.subject.repository
    if upstream_of(record.settings) is None:
        raise Refused(404, "NOT_FOUND", Problem("this repository has no upstream"))
    found = (await _upstreams(ask).of(record)).status()
    return Reply(
        UpstreamStatusView(
            offline=found.is_offline,
            addresses=[AddressView.of(each) for each in found.addresses],
            budgets=[BudgetView.of(each) for each in found.budgets],
        )
    )


def _upstreams(ask: Ask) -> Upstreams:
    if ask.api.upstreams is None:
        raise Refused(503, "UNAVAILABLE", Problem("this process fetches nothing from other registries"))
    return ask.api.upstreams


async def clear_cache(ask: Ask) -> Reply:
    """Empty the cache of a proxy, or what it has of one image or tag; the next pull fetches anew."""
    wanted, record = ask.parameters(ClearQuery), ask.subject.repository
    if record.repository_type != PROXY:
        raise invalid("", "this repository is no proxy: what it holds is its own and is deleted as images are")
    if wanted.tag is not None and wanted.image is None:
        raise invalid("image", "is required with a tag")
    if wanted.image is not None and not is_name(wanted.image):
        raise invalid("image", "use the image's name inside the repository, such as library/nginx")
    if wanted.tag is not None and not is_tag(wanted.tag):
        raise invalid("tag", "is no tag")
    cleared, is_complete = Cleared(), True
    if wanted.image is not None and wanted.tag is not None:
        cleared = await clear_tag(ask.api.database, record, wanted.image, wanted.tag)
    else:
        with trio.move_on_after(_PATIENCE_S) as scope:
            await clear(ask.api.database, record, cleared, image=wanted.image)
        is_complete = not scope.cancelled_caught
    view = ClearedView(
        tags=cleared.tags, manifests=cleared.manifests, freed_bytes=cleared.freed_bytes, complete=is_complete
    )
    named = [each for each in (record.full_name, wanted.image, wanted.tag) if each]
    return Reply(view, concerns="/".join(named))
