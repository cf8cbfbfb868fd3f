"""How things of a repository are called at its upstream: names, paths and the scopes of tokens. Pure.

An address may end in `/v2/PREFIX`: then all images lie below that prefix there (a project of a Harbor, an
organisation). Any other path stands before `/v2/`, as for registries behind one host with many.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Self

from gateway.oci.names import Reference
from gateway.upstream import hub
from storage import Digest

_API = "/v2"


@dataclass(frozen=True, slots=True)
class Place:
    """One address of an upstream: `base` is everything before `/v2/`, `prefix` is empty or ends in a slash."""

    base: str
    prefix: str

    @classmethod
    def of(cls, url: str) -> Self:
        """From an address as it is configured."""
        base, api, prefix = url.rstrip("/").partition(f"{_API}/")
        if not api:
            return cls(base.removesuffix(_API), "")
        return cls(base, f"{prefix}/")

    def name(self, name: str) -> str:
        """The whole name there."""
        return f"{self.prefix}{name}"


def upstream_name(urls: Iterable[str], image: str) -> str:
    """What the image is called upstream: as here, but Docker Hub and its mirrors write `library/` before one word."""
    return hub.full_name(image) if any(hub.is_docker_hub(url) for url in urls) else image


def allows(name: str, *, include: tuple[str, ...], exclude: tuple[str, ...]) -> bool:
    """Whether the upstream may be asked for this name (as the upstream has it).

    Globs: `*` stands for anything, slashes too. What `exclude` fits is out, whatever `include` says.
    """
    if any(_glob(glob).match(name) for glob in exclude):
        return False
    return not include or any(_glob(glob).match(name) for glob in include)


@lru_cache(maxsize=1024)
def _glob(glob: str) -> re.Pattern[str]:
    return re.compile(translate(glob))


def pull_scope(name: str) -> str:
    """The scope of a token that may read the image."""
    return f"repository:{name}:pull"


def manifest_path(name: str, reference: Reference) -> str:
    """Of a manifest or index. Names, tags and digests have no character that needs escaping in a path."""
    return f"{_API}/{name}/manifests/{reference}"


def blob_path(name: str, digest: Digest) -> str:
    """Of a blob."""
    return f"{_API}/{name}/blobs/{digest}"


def tags_path(name: str, page_size: int) -> str:
    """Of the first page of tags."""
    return f"{_API}/{name}/tags/list?n={page_size}"


def referrers_path(name: str, subject: Digest) -> str:
    """Of the index of what refers to `subject` (distribution-spec 1.1)."""
    return f"{_API}/{name}/referrers/{subject}"
