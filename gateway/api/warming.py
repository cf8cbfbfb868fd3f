"""Images fetched ahead: a list is begun with one request, goes on by itself, and any worker tells how far it is."""

from typing import Annotated, Final, Self

from pydantic import Field

from gateway.api.errors import Problem, Refused, invalid, not_found
from gateway.api.fields import Body, Moment, View, moment
from gateway.api.listing import Page, shown
from gateway.api.services import Ask, Reply
from gateway.api.upstream_fields import Platform
from gateway.edge.call import Caller
from gateway.oci.errors import RegistryError
from gateway.oci.names import Tag, is_name, parse_reference
from gateway.repositories.warming import MOST_IMAGES, TooManyWarmUps, Wanted
from gateway.upstream.settings import upstream_of
from storage import WarmUpRecord
from storage.metadata import warm_ups

_LATEST: Final = Tag("latest")
_LOST_AFTER_S: Final = 60
"""A worker that is at it writes every few seconds."""
_LISTED: Final = 20
_ID_DIGITS: Final = 18
_RETRY_AFTER_S: Final = 60


class WarmUpCreate(Body):
    """Images to fetch ahead, by their names inside the repository."""

    images: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=400, examples=["library/nginx:1.27"])]],
        Field(min_length=1, max_length=MOST_IMAGES),
    ]
    platforms: Annotated[list[Platform], Field(max_length=32)] | None = Field(
        None, description="Of indexes, only these; null: those of the repository's settings, or all."
    )


class FailureView(View):
    """An image that could not be fetched."""

    image: str
    reason: str


class WarmUpView(View):
    """How far a list is."""

    id: int
    state: str = Field(description="running, done, stopped (its worker ended) or lost (nobody is at it any more).")
    images: int
    images_done: int = Field(description="Failed ones among them.")
    blobs: int
    fetched_bytes: int
    failures: list[FailureView]
    begun_at: Moment
    updated_at: Moment

    @classmethod
    def of(cls, record: WarmUpRecord, now: int) -> Self:
        """The record as clients see it."""
        is_lost = record.state == warm_ups.RUNNING and now - record.updated_at > _LOST_AFTER_S
        return cls(
            id=record.id,
            state="lost" if is_lost else record.state,
            images=record.images,
            images_done=record.images_done,
            blobs=record.blobs,
            fetched_bytes=record.fetched_bytes,
            failures=[FailureView(image=image, reason=reason) for image, reason in record.failures],
            begun_at=moment(record.begun_at),
            updated_at=moment(record.updated_at),
        )


class WarmUpList(View):
    """A page of the last lists of a repository, newest first."""

    items: list[WarmUpView]
    next: str | None = Field(description="`after` for the next page; null on the last.")


async def begin(ask: Ask) -> Reply:
    """Begin to fetch images ahead; the answer says where to look how far it is."""
    body, record = ask.given(WarmUpCreate), ask.subject.repository
    wanted = _wanted(body.images)
    if ask.api.warm_ups is None:
        raise Refused(503, "UNAVAILABLE", Problem("this process fetches nothing from other registries"))
    platforms = body.platforms
    if platforms is None:
        settings = upstream_of(record.settings)
        platforms = list(settings.platforms) if settings else []
    repository = ask.api.open_repository(record, Caller(ask.principal))
    try:
        begun = await ask.api.warm_ups.begin(repository, wanted, platforms=platforms)
    except TooManyWarmUps as error:
        retry = {"Retry-After": str(_RETRY_AFTER_S)}
        raise Refused(429, "TOO_MANY", Problem(str(error)), headers=retry) from error
    location = f"/api/v1/repos/{record.full_name}/warm/{begun.id}"
    return Reply(WarmUpView.of(begun, ask.api.now()), concerns=record.full_name, headers={"Location": location})


def _wanted(images: list[str]) -> list[Wanted]:
    problems: list[Problem] = []
    found: list[Wanted] = []
    for number, text in enumerate(images):
        try:
            found.append(_parse(text))
        except (RegistryError, ValueError):
            problems.append(Problem("use NAME:TAG or NAME@DIGEST", f"images.{number}"))
    if problems:
        raise Refused(400, "VALIDATION", *problems[:_LISTED])
    return list(dict.fromkeys(found))


def _parse(text: str) -> Wanted:
    """`NAME`, `NAME:TAG` or `NAME@DIGEST`; names inside a repository have no host, so the first colon ends them."""
    name, at, digest = text.partition("@")
    name, colon, tag = name.partition(":")
    if not is_name(name) or (at and colon):
        raise ValueError(text)
    if at:
        return Wanted(name, parse_reference(digest, writing=True))
    return Wanted(name, parse_reference(tag, writing=True) if colon else _LATEST)


async def list_all(ask: Ask) -> Reply:
    """The last lists that were fetched ahead."""
    page = ask.parameters(Page)
    known = await ask.api.database.read(warm_ups.of, ask.subject.repository.id, limit=_LISTED)
    before = _number(page.after) if page.after else None
    if page.after and before is None:
        raise invalid("after", "is the `next` of the page before")
    found = [each for each in known if before is None or each.id < before]
    items, following = shown(found[: page.limit + 1], page.limit, lambda record: str(record.id))
    return Reply(WarmUpList(items=[WarmUpView.of(each, ask.api.now()) for each in items], next=following))


async def get(ask: Ask) -> Reply:
    """How far one list is."""
    number = _number(ask.path["warm_up"])
    if number is None:
        raise not_found()
    found = await ask.api.database.read(warm_ups.get, ask.subject.repository.id, number)
    if found is None:
        raise not_found()
    return Reply(WarmUpView.of(found, ask.api.now()))


def _number(text: str) -> int | None:
    """The id of a row, which has 64 bits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS else None
