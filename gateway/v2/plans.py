"""The choice among the answers for one known object: the whole of it, ranges, or "you have it". Pure.

The one place where request fields (If-None-Match, If-Range, Range) and the method choose. The handlers use it, and so
does the memo of their answers, so the two cannot differ. What a refused choice means (400, 416) is raised; whether the
caller may see the object at all was decided before.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, NamedTuple

from gateway.oci.conditions import if_none_match
from gateway.oci.ranges import content_range, if_range, multipart_head, multipart_size, multipart_tail, parse_range
from storage import Digest, Span

CHOOSING: Final = frozenset({b"if-none-match", b"if-range", b"range"})
"""The fields that choose; no other field of a request does."""

_BLOB_TYPE: Final = "application/octet-stream"


class Wishes(NamedTuple):
    """What a request says about the answer it wants; several lines of one field are joined by a comma."""

    method: str
    if_none_match: str | None = None
    if_range: str | None = None
    range: str | None = None


class Plan(NamedTuple):
    """An answer about a known object, but for the fields that every answer about it has.

    `body`: bytes that are sent as they are, and spans of the object, in order; nothing for 304. The same for HEAD,
    where none of it is sent.
    """

    status: int
    content_type: str | None = None
    size_bytes: int = 0
    content_range: str | None = None
    body: tuple[bytes | Span, ...] = ()

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields that depend on the choice, in lower case."""
        named = {"content-type": self.content_type, "content-range": self.content_range}
        fields = {name: value for name, value in named.items() if value is not None}
        return fields if self.status == HTTPStatus.NOT_MODIFIED else {**fields, "content-length": str(self.size_bytes)}


@dataclass(frozen=True, slots=True)
class KnownManifest:
    """A manifest, as far as the choice needs it."""

    digest: Digest
    media_type: str
    size_bytes: int

    def plan(self, wishes: Wishes) -> Plan:
        """The whole, whatever Range says; 304 if the client has it (rows MG-01 to MG-14)."""
        if if_none_match(wishes.if_none_match, self.digest):
            return Plan(HTTPStatus.NOT_MODIFIED)
        return Plan(HTTPStatus.OK, self.media_type, self.size_bytes, body=(Span(0, self.size_bytes),))


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """A blob, as far as the choice needs it. `boundary` makes the separator of parts, random for each answer."""

    digest: Digest
    size_bytes: int
    boundary: Callable[[], str] = lambda: secrets.token_hex(16)

    def plan(self, wishes: Wishes) -> Plan:
        """The whole or the ranges asked for; 304 if the client has it (rows BG-01 to BG-08).

        Raises `RegistryError` 416 for ranges beyond the end and 400 for too many.
        """
        if if_none_match(wishes.if_none_match, self.digest):
            return Plan(HTTPStatus.NOT_MODIFIED)
        spans = self._spans(wishes)
        if spans is None:
            return Plan(HTTPStatus.OK, _BLOB_TYPE, self.size_bytes, body=(Span(0, self.size_bytes),))
        if len(spans) > 1:
            return self._multipart(spans)
        (span,) = spans
        said = content_range(span, self.size_bytes)
        return Plan(HTTPStatus.PARTIAL_CONTENT, _BLOB_TYPE, span.size_bytes, said, spans)

    def _spans(self, wishes: Wishes) -> tuple[Span, ...] | None:
        """What to send; None for the whole blob. Ranges are for GET alone (RFC 9110, 14.2)."""
        if wishes.method != "GET" or not if_range(wishes.if_range, self.digest):
            return None
        return parse_range(wishes.range, self.size_bytes)

    def _multipart(self, spans: tuple[Span, ...]) -> Plan:
        boundary = self.boundary()
        return Plan(
            HTTPStatus.PARTIAL_CONTENT,
            f"multipart/byteranges; boundary={boundary}",
            multipart_size(boundary, spans, self.size_bytes, _BLOB_TYPE),
            body=tuple(self._parts(boundary, spans)),
        )

    def _parts(self, boundary: str, spans: tuple[Span, ...]) -> Iterator[bytes | Span]:
        for span in spans:
            yield multipart_head(boundary, span, self.size_bytes, _BLOB_TYPE)
            yield span
        yield multipart_tail(boundary)


Known = KnownManifest | KnownBlob


def wishes_of(method: str, fields: Iterable[tuple[bytes, bytes]]) -> Wishes:
    """What the raw fields of a request (names in lower case) say."""
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in CHOOSING:
            found[name] = found[name] + b", " + value if name in found else value
    texts = {name: value.decode("latin-1") for name, value in found.items()}
    return Wishes(method, texts.get(b"if-none-match"), texts.get(b"if-range"), texts.get(b"range"))
