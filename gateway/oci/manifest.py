"""Manifests and indexes, read strictly: one meaning for everybody, or MANIFEST_INVALID (rows MP-04 to MP-17, C1, C2).

The bytes stay the truth and are stored verbatim (MP-02); what is read here is only what the registry acts upon. It
knows no repository: whether the things named exist is the caller's question (MP-09, MP-10).

Rules where the spec leaves room:
- A field that is null counts as absent, and an absent list as empty: so do the Go readers that most clients are.
- Go readers match field names in any case. A field like `Layers` next to or in place of `layers` would mean something
  to them and nothing to us, so it is refused; other unknown fields are fine.
- `config` or `layers` in an index, and `manifests` in an image, are refused: such a document is both.
- The Docker types must repeat their type in the body (all their readers require it); for OCI it may be absent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.oci import media_types, strict_json
from gateway.oci.errors import Code, manifest_invalid, shown, too_large
from storage import Digest, DigestInvalid

MAX_BYTES: Final = 4 * 2**20
"""What every client can push and pull (MP-14); the limit that applies is a parameter."""

MAX_LISTED: Final = 10_000
"""Most layers of an image, or children of an index. Real ones have below 1,000; each distinct one is a row that is
written while nobody else can write, so this bounds how long one manifest holds everybody up."""

MAX_SIZE_BYTES: Final = 2**53
"""Largest `size` of a descriptor (MP-15): the last integer that readers in floating point still tell apart."""

Fields = Mapping[str, object]

# Each known field under its folded name: `casefold` folds as Go does, U+017F to s and U+212A to k included.
_MANIFEST_FIELDS: Final = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests"),
        *("subject", "annotations", "fsLayers"),
    )
}
_DESCRIPTOR_FIELDS: Final = {
    name.casefold(): name
    for name in ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
}
_PLATFORM_FIELDS: Final = {name: name for name in ("architecture", "os", "os.version", "os.features", "variant")}
_MEDIA_TYPE: Final = re.compile(r"[\x20-\x7e]{1,255}")  # RFC 6838 allows less; printable is what headers and rows need


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A thing that a manifest names: what it is, its digest and its size.

    `platform` is `os/architecture` or `os/architecture/variant`. `is_foreign`: the layer is offered at URLs elsewhere
    and need not be here.
    """

    media_type: str
    digest: Digest
    size_bytes: int
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None
    is_foreign: bool = False


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest (config, layers) or an index (children). `artifact_type` is the effective one (RF-07)."""

    media_type: str
    is_index: bool
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str | None
    annotations: Mapping[str, str]


def parse(content: bytes, content_type: str | None, *, limit_bytes: int = MAX_BYTES) -> Manifest:
    """Read a pushed manifest. `content_type` is the header as it came, or None.

    Raises `RegistryError`: 413 above `limit_bytes`, else 400 MANIFEST_INVALID; the same bytes never do better. Pure
    CPU: from `strict_json.LARGE_BYTES` on, call it in a thread.
    """
    if len(content) > limit_bytes:
        raise too_large(limit_bytes, code=Code.MANIFEST_INVALID)
    header = media_types.parse_content_type(content_type)
    if header is not None:
        _check_media_type(header)  # before reading: it says more about what the client tried
    try:
        fields = strict_json.loads(content)
    except strict_json.JsonInvalid as error:
        raise manifest_invalid(f"the manifest is refused: {error}") from error
    _check_spelling(fields, _MANIFEST_FIELDS, "the manifest")
    media_type = _agreed_media_type(header, _media_type(fields, "mediaType", "the manifest"))
    if type(fields.get("schemaVersion")) is not int or fields["schemaVersion"] != 2:  # noqa: PLR2004 - the spec's number
        raise manifest_invalid("schemaVersion must be 2")
    return _index(fields, media_type) if media_types.is_index_type(media_type) else _image(fields, media_type)


def _check_media_type(media_type: str) -> None:
    if media_types.is_manifest_type(media_type):
        return
    if media_type in {media_types.SCHEMA1, media_types.SCHEMA1_SIGNED}:
        raise manifest_invalid("Docker schema 1 is no longer accepted: push with a client that makes schema 2 or OCI")
    if media_type == media_types.OCI_ARTIFACT:
        raise manifest_invalid("the artifact manifest was withdrawn: push an image manifest with artifactType")
    raise manifest_invalid(f"{shown(media_type)} is no manifest type: expected an OCI or Docker manifest or index")


def _agreed_media_type(header: str | None, body: str | None) -> str:
    """What header and body say alike (MP-05, MP-06)."""
    if header is None:
        if body is None:
            raise manifest_invalid("neither Content-Type nor mediaType says what this manifest is")
        _check_media_type(body)
        return body
    if body is None:
        if media_types.is_docker_type(header):
            raise manifest_invalid("a Docker manifest must state its mediaType")
        return header
    if header != body:
        raise manifest_invalid(f"Content-Type is {shown(header)} but mediaType is {shown(body)}")
    return header


def _image(fields: Fields, media_type: str) -> Manifest:
    _forbid(fields, "manifests", "fsLayers", where="an image manifest")
    config = _descriptor(fields, "config")
    if config is None:
        raise manifest_invalid("an image manifest must have a config")
    return Manifest(
        media_type=media_type,
        is_index=False,
        config=config,
        layers=_descriptors(fields, "layers"),
        children=(),
        subject=_descriptor(fields, "subject"),
        artifact_type=_media_type(fields, "artifactType", "the manifest") or config.media_type,
        annotations=_annotations(fields, "the manifest"),
    )


def _index(fields: Fields, media_type: str) -> Manifest:
    _forbid(fields, "config", "layers", "fsLayers", where="an index")
    return Manifest(
        media_type=media_type,
        is_index=True,
        config=None,
        layers=(),
        children=_descriptors(fields, "manifests"),
        subject=_descriptor(fields, "subject"),
        artifact_type=_media_type(fields, "artifactType", "the index"),
        annotations=_annotations(fields, "the index"),
    )


def _forbid(fields: Fields, *names: str, where: str) -> None:
    for name in names:
        if fields.get(name) is not None:
            raise manifest_invalid(f"{name} has no place in {where}: the document could be read as two kinds")


def _check_spelling(fields: Fields, known: Mapping[str, str], where: str) -> None:
    """Refuse fields that differ from a known one in case only."""
    for name in fields:
        spelled = known.get(name.casefold(), name)
        if name != spelled:
            raise manifest_invalid(f"{where} has a field {shown(name)}, which is spelled {spelled}")


def _descriptors(fields: Fields, name: str) -> tuple[Descriptor, ...]:
    listed = fields.get(name)
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise manifest_invalid(f"{name} must be a list")
    if len(listed) > MAX_LISTED:
        raise manifest_invalid(
            f"{name} has {len(listed)} entries, at most {MAX_LISTED} are accepted: split the index or image"
        )
    return tuple(_read_descriptor(each, f"{name}[{position}]") for position, each in enumerate(listed))


def _descriptor(fields: Fields, name: str) -> Descriptor | None:
    value = fields.get(name)
    return None if value is None else _read_descriptor(value, name)


def _read_descriptor(value: object, where: str) -> Descriptor:
    if not isinstance(value, dict):
        raise manifest_invalid(f"{where} must be a descriptor object")
    _check_spelling(value, _DESCRIPTOR_FIELDS, where)
    media_type = _media_type(value, "mediaType", where)
    if media_type is None:
        raise manifest_invalid(f"{where} has no mediaType")
    if not isinstance(value.get("data"), str | None):
        raise manifest_invalid(f"data of {where} must be a string")
    has_urls = bool(_strings(value, "urls", where))
    return Descriptor(
        media_type=media_type,
        digest=_digest(value, where),
        size_bytes=_size_bytes(value, where),
        artifact_type=_media_type(value, "artifactType", where),
        annotations=_annotations(value, where),
        platform=_platform(value, where),
        is_foreign=has_urls and media_types.is_foreign_layer_type(media_type),
    )


def _digest(fields: Fields, where: str) -> Digest:
    text = fields.get("digest")
    if not isinstance(text, str):
        raise manifest_invalid(f"{where} has no digest")
    try:
        return Digest.parse(text)
    except DigestInvalid as error:
        raise manifest_invalid(f"{where}: {error}", {"digest": text[:255]}) from error


def _size_bytes(fields: Fields, where: str) -> int:
    size_bytes = fields.get("size")
    if type(size_bytes) is not int:  # neither true nor 2.0
        raise manifest_invalid(f"size of {where} must be an integer")
    if not 0 <= size_bytes <= MAX_SIZE_BYTES:
        raise manifest_invalid(f"size of {where} must be between 0 and 2^53")
    return size_bytes


def _media_type(fields: Fields, name: str, where: str) -> str | None:
    """A type as it stands; absent, null and empty are None, as writers in Go leave out what is empty."""
    text = fields.get(name)
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _MEDIA_TYPE.fullmatch(text):
        raise manifest_invalid(f"{name} of {where} must be a media type of at most 255 printable characters")
    return text


def _annotations(fields: Fields, where: str) -> Mapping[str, str]:
    value = fields.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise manifest_invalid(f"annotations of {where} must be an object of strings")
    return value


def _strings(fields: Fields, name: str, where: str) -> list[str]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise manifest_invalid(f"{name} of {where} must be a list of strings")
    return value


def _platform(fields: Fields, where: str) -> str | None:
    value = fields.get("platform")
    if value is None:
        return None
    if not isinstance(value, dict):
        raise manifest_invalid(f"platform of {where} must be an object")
    _check_spelling(value, _PLATFORM_FIELDS, f"platform of {where}")
    parts = [value.get(name) for name in ("os", "architecture", "variant")]
    if not all(isinstance(part, str | None) for part in parts):
        raise manifest_invalid(f"platform of {where} must be made of strings")
    return "/".join(str(part) for part in parts if part) or None
