"""What is durable of an upload to a bucket: a value, and the text of it that a row holds. Pure; does no I/O.

Each byte of an upload is in exactly one place, in this order of offsets:

    parts      of the multipart upload `upload_id` to the object `object_id`, not readable before it is completed
    or whole   an object of its own, readable
    segments   what is not enough for a part: rows of the database, or objects of the prefix `staging/`

`whole` with segments is always shorter than a part: a longer one becomes parts of a new upload (copied by the store)
before anything is written behind it.

| closing | parts               | what the object that `published` names is                                         |
|---------|---------------------|-----------------------------------------------------------------------------------|
| no      | any                 | there, if `published` is set                                                      |
| yes     | the parts are all   | completed by now, or is to be: the parts are frozen, completing may be repeated   |
| yes     | none                | written by now, or not: then `whole` and `segments` still have what was settled   |

Names are never used twice: a hold that lapsed may still write to the names that it knows, so its successor uses others.
Numbers of parts are reserved in the row before they are used, for the same reason.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from storage.errors import Unavailable
from storage.s3.keys import ObjectName, blob_key

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart upload. `is_junk`: none of our bytes, see `s3.strays`."""

    number: int
    size_bytes: int
    etag: str
    is_junk: bool = False


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes that are no part yet. `key` names their object; None: they lie in a row of the same start."""

    start: int
    size_bytes: int
    key: str | None = None

    @property
    def stop(self) -> int:
        """The offset behind its last byte."""
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True)
class Whole:
    """An object whose first `size_bytes` are the upload's; `object_bytes` is what it has, which may be more.

    Once it was published it is no more the upload's own: it is read, and never removed.
    """

    object_id: str
    size_bytes: int
    object_bytes: int
    is_published: bool = False


@dataclass(frozen=True, slots=True)
class StagingState:
    """See the module docstring. `reserved`: the highest number of a part that a holder may have used.

    `published`: the key of the object that a publish made, or was about to make. `litter`: names in the bucket that may
    exist and that nobody needs, freed with the area. `hash_state`: of all bytes, in base64.
    """

    object_id: str | None = None
    upload_id: str | None = None
    parts: tuple[Part, ...] = ()
    reserved: int = 0
    whole: Whole | None = None
    segments: tuple[Segment, ...] = ()
    closing: bool = False
    published: str | None = None
    litter: tuple[str, ...] = ()
    hash_state: str | None = None

    @property
    def tail_start(self) -> int:
        """Where the bytes begin that are no part yet. A short `whole` is among them."""
        return sum(part.size_bytes for part in self.parts if not part.is_junk)

    @property
    def head_bytes(self) -> int:
        """How many bytes lie before the segments."""
        return self.whole.size_bytes if self.whole is not None else self.tail_start

    @property
    def size_bytes(self) -> int:
        """All bytes."""
        return self.segments[-1].stop if self.segments else self.head_bytes

    @property
    def digest_state(self) -> bytes | None:
        """The state of the hash of all bytes."""
        return None if self.hash_state is None else b64decode(self.hash_state)

    @property
    def name(self) -> ObjectName | None:
        """The name of what `published` names."""
        return None if self.published is None else ObjectName.parse(self.published)

    @property
    def own_objects(self) -> frozenset[str]:
        """Names in the bucket that this area uses besides what it published; nobody else does."""
        used = {segment.key for segment in self.segments if segment.key is not None} | set(self.litter)
        if self.whole is not None and not self.whole.is_published:
            used.add(blob_key(self.whole.object_id))
        name = self.name
        return frozenset(used if name is None else used - {name.blob})

    def cut(self, size_bytes: int) -> Self:
        """Without what reaches beyond `size_bytes` behind the parts; what is needed of it is in the tail's file."""
        if size_bytes == self.size_bytes:
            return self
        kept = tuple(segment for segment in self.segments if segment.stop <= size_bytes)
        whole = self.whole if self.whole is not None and self.whole.size_bytes <= size_bytes else None
        return self.without(replace(self, segments=kept, whole=whole, hash_state=None))

    def with_parts(self, parts: tuple[Part, ...], *, object_id: str, upload_id: str) -> Self:
        """With further parts, which hold everything that was behind the parts before."""
        rest = replace(self, whole=None, segments=(), hash_state=None)
        return replace(self.without(rest), object_id=object_id, upload_id=upload_id, parts=self.parts + parts)

    def without(self, rest: Self) -> Self:
        """`rest`, with what it uses no more of this state's objects among its litter."""
        unused = self.own_objects - replace(rest, litter=()).own_objects
        return replace(rest, litter=tuple(sorted(unused | set(rest.litter))))

    def dump(self) -> str:
        """The text for the row."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Self:
        """Read it back; `Unavailable` for one that a newer program wrote."""
        found: dict[str, Any] = json.loads(text)
        if found.pop("format") != FORMAT:
            raise Unavailable("a newer version of Sluice holds this upload: let it finish there")
        found["parts"] = tuple(Part(**part) for part in found["parts"])
        found["segments"] = tuple(Segment(**segment) for segment in found["segments"])
        found["whole"] = Whole(**found["whole"]) if found["whole"] else None
        found["litter"] = tuple(found["litter"])
        return cls(**found)


def text_of(hash_state: bytes | None) -> str | None:
    """The state of a hash as the row has it."""
    return None if hash_state is None else b64encode(hash_state).decode("ascii")
