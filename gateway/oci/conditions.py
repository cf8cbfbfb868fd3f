"""Conditional requests and `Accept`: comparisons of what a client holds or takes with what there is.

Source: RFC 9110 sections 8.8.3, 12.5.1 and 13.1; rows GEN-18, MG-07, MG-08, MG-10, MP-24. The entity tag of
content is its digest in quotes, so it is strong, and equal tags mean equal bytes. Several header lines of one name are
joined by a comma before they come here, but for `Accept`, whose lines are taken as they are.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.oci import media_types
from storage import Digest

_WEAK: Final = "W/"


def etag(digest: Digest) -> str:
    """The value of the `ETag` header (MG-10)."""
    return f'"{digest}"'


def if_none_match(header: str | None, digest: Digest | None) -> bool:
    """Whether the condition *fails*: 304 for GET and HEAD, 412 for PUT.

    Quoted, unquoted, weak, several and `*` all count (MG-10). `digest` is None where nothing exists: never True then.
    """
    if header is None or digest is None:
        return False
    return header.strip() == "*" or str(digest) in (tag.removeprefix(_WEAK).strip('"') for tag in _tags(header))


def if_match(header: str | None, current: Digest | None) -> bool:
    """Whether a conditional PUT of a tag may go on (MP-24): the tag is one of those named, or `*` and it exists.

    Without the header it always may. Weak tags never match, as RFC 9110 section 13.1.1 has it.
    """
    if header is None:
        return True
    if current is None:
        return False
    return header.strip() == "*" or str(current) in (tag.strip('"') for tag in _tags(header))


def accepts(accept_headers: Sequence[str], media_type: str) -> bool:
    """Whether the client takes a manifest of this type; parameters and q are ignored (GEN-18).

    No header, a wildcard, or a header that names no manifest type at all takes everything (MG-07): refusing is for
    clients that named manifest types and not this one (MG-08).
    """
    named = {each for header in accept_headers for each in _types(header)}
    if not named or media_type in named or not named.isdisjoint(("*/*", "application/*")):
        return True
    return not any(media_types.is_manifest_type(each) or media_types.is_former_manifest_type(each) for each in named)


def _tags(header: str) -> Iterator[str]:
    # No comma can stand in a digest, so one within a quoted tag splits a tag that is not ours anyway.
    return (tag.strip() for tag in header.split(","))


def _types(header: str) -> Iterator[str]:
    for each in header.split(","):
        media_type = media_types.parse_content_type(each)
        if media_type is not None:
            yield media_type
