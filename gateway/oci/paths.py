r"""What a request path below `/v2/` addresses: split once, from the raw bytes, from the right.

The bytes are the path as it stood on the wire, before any decoding and without the query. They are split here and
nowhere else, so the repository that is authorised is the repository that is served (security row A19). Nothing is
decoded but `%3A` in the last segment, where a digest may stand (GEN-07).

Names may hold any of the path's own words (`a/blobs/b`, `x/tags/list/y`): so the word that says what is addressed is
looked for at the right end, where it has a fixed place, and all before it is the name (GEN-03).

| path after `/v2/`           | target                                             |
|-----------------------------|----------------------------------------------------|
| (nothing)                   | `Base`                                             |
| `token`                     | `Token`                                            |
| `_catalog`                  | `Catalog`; any other first segment with `_`: `Unknown` (GEN-22) |
| name`/blobs/uploads`[`/`]   | `Uploads`                                          |
| name`/blobs/uploads/`id     | `Upload`                                           |
| name`/blobs/`digest         | `Blob`                                             |
| name`/manifests/`reference  | `Manifest`                                         |
| name`/referrers/`digest     | `Referrers`                                        |
| name`/tags/list`            | `Tags`                                             |
| anything else               | `Unknown`: the caller answers 404 (GEN-12)         |

Refused with 400 NAME_INVALID, whatever else the path says: bytes outside visible ASCII, `%` (but see above), `;`,
`\`, `?`, `#`, `"`, empty segments, `.` and `..`. No name, tag, digest or upload id holds any of these, so the client
is wrong and not merely asking for something absent. In the place of a digest a stray `%` is DIGEST_INVALID. A name that
breaks the grammar is NAME_INVALID as well (GEN-01), so every `name` in a target is a valid one. References, digests and
upload ids are kept as text: what a bad one means depends on the method.

One repository may also be addressed as if it were a whole registry: `/repositories/oci/`[project`/`]repository`/v2/`...
(`enter`). The first segment `v2` that follows a name ends the names, so in this form, in a project of its own, a
repository cannot be called `v2`; every path still has exactly one meaning.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.oci.errors import Code, RegistryError, digest_invalid, shown
from gateway.oci.names import is_name, parse_name

MOUNTS: Final = "/repositories/oci/"
"""Below this, the next one or two segments name a repository, and all after them is a registry of its own."""
COMMON: Final = "common"
"""The project that is meant where a path names a repository alone."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where a path comes in. `path` is what the registry behind it sees: it begins with `/v2`, unless it is `b""`.

    `prefix` stands before it in the raw path; with one, `repository` (`project/repository`) is the one that is meant.
    """

    path: bytes
    prefix: str = ""
    repository: str | None = None


@dataclass(frozen=True, slots=True)
class Base:
    """`/v2/`: is this a registry, and who am I to it."""


@dataclass(frozen=True, slots=True)
class Token:
    """`/v2/token`: the token endpoint. No repository path can collide, each goes on after its name."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """`/v2/_catalog`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest by tag or digest; `names.parse_reference` reads the text."""

    name: str
    reference_text: str


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob; `names.parse_digest` reads the text."""

    name: str
    digest_text: str


@dataclass(frozen=True, slots=True)
class Uploads:
    """Where upload sessions begin."""

    name: str


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload session. An id for which `is_upload_id` is false is answered as an unknown one (UP-19)."""

    name: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class Tags:
    """The list of a repository's tags."""

    name: str


@dataclass(frozen=True, slots=True)
class Referrers:
    """The manifests whose subject is the digest; `names.parse_digest` reads the text."""

    name: str
    digest_text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A well-formed path that addresses nothing."""


Target: TypeAlias = Base | Token | Catalog | Manifest | Blob | Uploads | Upload | Tags | Referrers | Unknown

METHODS: Final[Mapping[type, tuple[str, ...]]] = {
    Base: ("GET", "HEAD"),
    Token: ("GET", "POST"),
    Catalog: ("GET", "HEAD"),
    Manifest: ("GET", "HEAD", "PUT", "DELETE"),
    Blob: ("GET", "HEAD", "DELETE"),
    Uploads: ("POST",),
    Upload: ("GET", "HEAD", "PATCH", "PUT", "DELETE"),
    Tags: ("GET", "HEAD"),
    Referrers: ("GET", "HEAD"),
    Unknown: (),
}
"""The methods each target answers, in the order of the Allow header (GEN-11)."""

_REFUSED: Final = re.compile(rb'[^\x21-\x7e]|[;\\?#"]')
_UPLOAD_ID: Final = re.compile(r"[0-9a-f-]{32,36}")
_ENCODED_COLON: Final = re.compile("%3a", re.IGNORECASE)
_UPLOADS: Final = ("/blobs/uploads", "/blobs/uploads/")
_BEFORE_DIGEST: Final = frozenset({b"manifests", b"blobs", b"referrers"})
_ONLY_COLON: Final = "nothing but the ':' of a digest may be percent-encoded"


def is_registry(raw_path: bytes) -> bool:
    """Whether a path is the registry API's, even if it is wrong: such answers are this API's, too."""
    return raw_path in (b"/v2", MOUNTS[:-1].encode()) or raw_path.startswith((b"/v2/", MOUNTS.encode()))


def enter(raw_path: bytes) -> Entrance:
    """Take the sub-path of one repository off a raw path, if it has one; `split` takes the rest.

    Nothing is decoded here either, so `%` and all else that no name holds raises NAME_INVALID (400). A path that names
    no repository, or has no `/v2` after it, leads nowhere: an empty `path`.
    """
    if not raw_path.startswith(MOUNTS.encode()):
        return Entrance(raw_path)
    segments = raw_path[len(MOUNTS) :].split(b"/", 3)
    try:
        names = segments[: segments.index(b"v2", 1, 3)]
    except ValueError:
        return Entrance(b"")
    texts = [_segment(name) for name in names]
    prefix = MOUNTS + "/".join(texts)
    return Entrance(raw_path[len(prefix) :], prefix, "/".join((COMMON, *texts)[-2:]))


def split(raw_path: bytes) -> Target:
    """What the path addresses. `raw_path` begins with `/v2` and has no query; other paths are `Unknown`.

    Raises NAME_INVALID or DIGEST_INVALID (both 400) as the module says. Time and memory grow with the length only.
    """
    if raw_path in (b"/v2", b"/v2/"):
        return Base()
    if not raw_path.startswith(b"/v2/"):
        return Unknown()
    text = _plain(raw_path[4:])
    if text == "token":
        return Token()
    if text.startswith("_"):
        return Catalog() if text == "_catalog" else Unknown()
    return _of_repository(text)


def is_upload_id(text: str) -> bool:
    """Whether the text can be the id of an upload session that Sluice made: a UUID in lowercase hex."""
    return _UPLOAD_ID.fullmatch(text) is not None


def _segment(segment: bytes) -> str:
    text = segment.decode("latin-1")
    if not is_name(text):  # it holds no slash: it was split there
        raise _hostile("the path of a repository holds names", segment)
    return text


def _plain(path: bytes) -> str:
    """The path as text, or NAME_INVALID; `%` may still stand where a digest may."""
    if _REFUSED.search(path):
        raise _hostile("a path holds visible ASCII only, without ; \\ ? # and quotes", path)
    *before, last = path.split(b"/")  # an empty last segment is a trailing slash, which one path may have (GEN-08)
    if b"" in before or any(segment in {b".", b".."} for segment in (*before, last)):
        raise _hostile("a path has no empty segments and none of dots", path)
    if b"%" in path and not (path.count(b"%") == last.count(b"%") and before and before[-1] in _BEFORE_DIGEST):
        raise _hostile(_ONLY_COLON, path)
    return path.decode("ascii")


def _of_repository(text: str) -> Target:
    if text.endswith(_UPLOADS):
        return Uploads(parse_name(text.removesuffix("/").removesuffix("/blobs/uploads")))
    rest, _, last = text.rpartition("/")
    name, _, word = rest.rpartition("/")
    if not name or not last:
        return Unknown()
    match word:
        case "manifests":
            return Manifest(parse_name(name), _reference(last))
        case "blobs":
            return Blob(parse_name(name), _digest(last))
        case "referrers":
            return Referrers(parse_name(name), _digest(last))
        case "uploads" if name.endswith("/blobs"):
            return Upload(parse_name(name.removesuffix("/blobs")), last)
        case "tags" if last == "list":
            return Tags(parse_name(name))
        case _:
            return Unknown()


def _reference(segment: str) -> str:
    text = _ENCODED_COLON.sub(":", segment)
    if "%" in text:
        raise _hostile(_ONLY_COLON, segment.encode("ascii"))
    return text


def _digest(segment: str) -> str:
    text = _ENCODED_COLON.sub(":", segment)
    if "%" in text:
        raise digest_invalid(f"malformed digest {shown(segment)}: {_ONLY_COLON}")
    return text


def _hostile(reason: str, path: bytes) -> RegistryError:
    return RegistryError(Code.NAME_INVALID, f"{reason}: {shown(path.decode('latin-1'))}")
