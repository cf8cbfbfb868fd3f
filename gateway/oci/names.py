"""The grammars of repository names, tags and references.

Source: distribution-spec, "Pulling manifests"; protocol rows GEN-01 to GEN-06. Knows text only: whether a
name exists is not its business.
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.oci.errors import digest_invalid, manifest_invalid, manifest_unknown, name_invalid, shown
from storage import Digest, DigestInvalid

MAX_NAME_LENGTH: Final = 255
"""Of name and address together: what `host:port/name` clients can address (GEN-02)."""

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
NAME: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
"""The grammar of GEN-01, for `fullmatch`. Linear: each character can be matched in one way only."""

_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_NOT_IN_TAG: Final = re.compile(r"[^a-zA-Z0-9._-]")


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag that follows the grammar of GEN-04. Made by `parse_reference`, or from a row."""

    name: str

    def __str__(self) -> str:
        return self.name


Reference: TypeAlias = Tag | Digest
"""What stands after `/manifests/`."""


def is_name(text: str) -> bool:
    """Whether the text is a repository name of at most 255 characters."""
    return len(text) <= MAX_NAME_LENGTH and NAME.fullmatch(text) is not None


def parse_name(text: str, *, address_bytes: int = 0) -> str:
    """The same text if it is a repository name, else NAME_INVALID (400).

    `address_bytes` is the length of `host:port/` as clients write it; pass it where a repository is created, so that
    none is made that clients cannot address (GEN-02).
    """
    if len(text) + address_bytes > MAX_NAME_LENGTH or not is_name(text):
        raise name_invalid(text)
    return text


def is_tag(text: str) -> bool:
    """Whether the text follows the grammar of tags (GEN-04)."""
    return _TAG.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    """A digest from the client, or DIGEST_INVALID (400) with the reason (GEN-06)."""
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise digest_invalid(str(error)) from error


def parse_reference(text: str, *, writing: bool) -> Reference:
    """A tag or a digest; what holds a colon is never a tag (GEN-05).

    A malformed digest is DIGEST_INVALID (400) always. A malformed tag is MANIFEST_INVALID (400) while writing; while
    reading it is MANIFEST_UNKNOWN (404), for no such tag can exist (GEN-04).
    """
    if ":" in text:
        return parse_digest(text)
    if is_tag(text):
        return Tag(text)
    if writing:
        raise manifest_invalid(
            f"invalid tag {shown(text)}: 1 to 128 of letters, digits, '_', '.' and '-', not first '.' or '-'"
        )
    raise manifest_unknown(None, text)


def fallback_tag(digest: Digest) -> str:
    """The tag under which clients without the referrers API keep the referrers of `digest` (RF-14)."""
    return _NOT_IN_TAG.sub("-", f"{digest.algorithm[:32]}-{digest.hex[:64]}")
