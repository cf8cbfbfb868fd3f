"""A manifest that an upstream gave: whether it is what was asked for, and one at all. Pure.

Rows P3 and P5 of security: bytes count, not fields. What the bytes hash to and say of themselves is what they are; a
field that says otherwise makes the answer worthless, never the bytes something else.
"""

from collections.abc import Sequence
from typing import Final

from gateway.oci import manifest, media_types
from gateway.oci.errors import RegistryError
from gateway.oci.names import Reference
from gateway.upstream.answers import FetchedManifest
from gateway.upstream.errors import UpstreamFailed, UpstreamRefused
from storage import Digest, DigestInvalid

Headers = Sequence[tuple[str, str]]

_TYPES: Final = (media_types.OCI_INDEX, media_types.OCI_MANIFEST, media_types.DOCKER_LIST, media_types.DOCKER_MANIFEST)
ACCEPT: Final = ("accept", ", ".join(_TYPES))
"""All that we can keep: an upstream converts nothing then."""


def header_field(headers: Headers, name: str) -> str | None:
    """The first field of this name (in lower case) that says something."""
    return next((value.strip() for each, value in headers if each == name and value.strip()), None)


def named_digest(headers: Headers) -> Digest | None:
    """What `Docker-Content-Digest` says; None for none that we could verify."""
    text = header_field(headers, "docker-content-digest")
    try:
        return None if text is None else Digest.parse(text)
    except DigestInvalid:
        return None


def read_manifest(content: bytes, *, headers: Headers, reference: Reference, what: str) -> FetchedManifest:
    """The manifest, checked. `what` names it in messages.

    Raises `UpstreamFailed` for what is no manifest (a login page), has another digest than was asked for, or than the
    upstream itself says; `UpstreamRefused` for the kinds of old that we do not keep. Pure CPU, as `manifest.parse`.
    """
    asked = reference if isinstance(reference, Digest) else None
    digest = Digest.of(content) if asked is None else Digest.of(content, asked.algorithm)
    if asked is not None and digest != asked:
        raise UpstreamFailed(f"{what}: what came has the digest {digest}")
    named = named_digest(headers)
    if named is not None and named != digest:
        if named != Digest.of(content, named.algorithm):
            raise UpstreamFailed(f"{what}: what came has the digest {digest}, and the answer says {named}")
        digest = digest if asked is not None else named
    header = media_types.parse_content_type(header_field(headers, "content-type"))
    if header is not None and media_types.is_former_manifest_type(header):
        raise UpstreamRefused(f"{what} is of a kind that is no longer used ({header}): it has to be pushed there anew")
    try:
        # A type that says nothing of manifests (text/plain, from static servers) leaves it to the bytes.
        known = header if header is not None and media_types.is_manifest_type(header) else None
        read = manifest.parse(content, known)
    except RegistryError as error:
        raise UpstreamFailed(f"{what} is no manifest: {error}") from error
    return FetchedManifest(content, read.media_type, digest, read, header_field(headers, "etag"))
