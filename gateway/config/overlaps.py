"""Storages that would share a place: to each of them, the objects of the other are garbage."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.config.settings import Settings
from gateway.config.storages import S3Storage

_REASON: Final = "is, holds or lies in the {what} of storage {other!r}; each storage needs its own"

Found = tuple[tuple[str, ...], str, str]


def overlaps(settings: Settings) -> Iterator[Found]:
    """For each storage that shares a directory or a part of a bucket with one before: its key, its place, the reason.

    Looks at symbolic links on disk. Two names of one service cannot be told apart.
    """
    yield from _directories(settings)
    yield from _buckets(settings)


def _directories(settings: Settings) -> Iterator[Found]:
    seen: dict[str, Path] = {}
    for name, storage in settings.storage.storages.items():
        given = settings.storage.directory(name)
        try:
            place = Path(os.path.realpath(given))  # unlike Path.resolve it takes loops of symbolic links as they are
        except ValueError:  # a name that no file can have: opening the storage says so
            continue
        for other, taken in seen.items():
            if place.is_relative_to(taken) or taken.is_relative_to(place):
                key = "hot_path" if isinstance(storage, S3Storage) else "path"
                yield ("storage", "storages", name, key), str(given), _REASON.format(what="directory", other=other)
                break
        seen[name] = place


def _buckets(settings: Settings) -> Iterator[Found]:
    seen: dict[str, tuple[str | None, str, str]] = {}
    for name, storage in settings.storage.storages.items():
        if not isinstance(storage, S3Storage):
            continue
        place = storage.endpoint_url, storage.bucket, f"{storage.prefix}/" if storage.prefix else ""
        for other, taken in seen.items():
            if place[:2] == taken[:2] and (place[2].startswith(taken[2]) or taken[2].startswith(place[2])):
                key = "prefix" if storage.prefix else "bucket"
                given = storage.prefix or storage.bucket
                reason = _REASON.format(what="part of the bucket", other=other)
                yield ("storage", "storages", name, key), given, reason
                break
        seen[name] = place
