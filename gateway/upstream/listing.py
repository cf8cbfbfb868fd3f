"""Lists that an upstream gives in pages: what a page says, and where the next one is. Pure.

The next page is wherever `Link` says (RFC 8288), but only at the address that was asked: of the reference nothing but
path and query is used, so it can lead nowhere else.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urljoin, urlsplit

from gateway.oci import manifest, media_types, strict_json
from gateway.oci.errors import RegistryError
from gateway.oci.manifest import Manifest
from gateway.oci.names import is_tag
from gateway.oci.referrers import Referrer
from gateway.upstream.errors import UpstreamFailed, UpstreamRefused

PAGE_BYTES: Final = 4 * 2**20
MAX_PAGES: Final = 1000
MAX_BYTES: Final = 32 * 2**20
"""Of all pages of a list: it is held whole, and a page may be one referrer with 4 MiB of annotations."""
MAX_TAGS: Final = 100_000
MAX_REFERRERS: Final = 10_000
"""Row P11: no list of an upstream is longer for us."""
PAGE_TAGS: Final = 1000
"""How many tags are asked for at once; registries give fewer if they like."""

_LINK: Final = re.compile(r"<([^<>]*)>([^<]*)")
_NEXT: Final = re.compile(r""";\s*rel\s*=\s*(?:"next"|'next'|next)\s*(?:[;,]|$)""", re.IGNORECASE)
_TARGET: Final = re.compile(r"[!-~]{1,4096}")
_PORTS: Final = {"http": 80, "https": 443}


def read_tags(body: bytes, *, what: str) -> list[str]:
    """The tags of a page, as they come; what is no tag is left out. `what` names it in messages.

    Raises `UpstreamFailed` for what is no such page. Pure CPU, as `strict_json.loads`.
    """
    try:
        tags = strict_json.loads(body).get("tags")
    except strict_json.JsonInvalid as error:
        raise UpstreamFailed(f"{what} is no list of tags: {error}") from error
    if tags is None:
        return []
    if not isinstance(tags, list):
        raise UpstreamFailed(f"{what} is no list of tags: tags is no list")
    return [each for each in tags if isinstance(each, str) and is_tag(each)]


def read_index(body: bytes, *, what: str) -> Manifest:
    """An index of referrers. Raises `UpstreamFailed`. Pure CPU, as `manifest.parse`."""
    try:
        return manifest.parse(body, media_types.OCI_INDEX, limit_bytes=PAGE_BYTES)
    except RegistryError as error:
        raise UpstreamFailed(f"{what} is no index of referrers: {error}") from error


def referrers_of(index: Manifest) -> list[Referrer]:
    """What an index of referrers lists."""
    return [
        Referrer(each.media_type, each.digest, each.size_bytes, each.artifact_type, each.annotations)
        for each in index.children
    ]


def next_page(headers: Sequence[tuple[str, str]], *, base: str, path: str) -> str | None:
    """The path and query of the page after the one at `base` + `path`; None if that was the last.

    Raises `UpstreamRefused` for a page elsewhere: at another host or port, or outside of the registry's own paths.
    """
    target = _next_reference(headers)
    if target is None:
        return None
    here = urlsplit(f"{base}{path}")
    try:
        there = urlsplit(urljoin(f"{base}{path}", target))
    except ValueError as error:
        raise UpstreamRefused(f"{base} continues a list at what is no address") from error
    before = urlsplit(base).path
    # The scheme may differ: registries behind a proxy that ends TLS often write http. Ours is used in any case.
    if (there.hostname, _port(there)) != (here.hostname, _port(here)) and there.netloc.lower() != here.netloc.lower():
        raise UpstreamRefused(f"{base} continues a list at another host")
    found = there.path.removeprefix(before) + (f"?{there.query}" if there.query else "")
    if not there.path.startswith(f"{before}/v2/") or not _TARGET.fullmatch(found):
        raise UpstreamRefused(f"{base} continues a list outside of its registry")
    return found


def _next_reference(headers: Sequence[tuple[str, str]]) -> str | None:
    for name, value in headers:
        if name == "link":
            for target, parameters in _LINK.findall(value):
                if _NEXT.search(parameters):
                    return str(target)
    return None


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
