"""Byte ranges: what `Range` asks of a blob, what `Content-Range` says of a chunk, and how several parts are framed.

Source: RFC 9110 section 14, distribution-spec "Pushing a blob in chunks"; rows BG-04 to BG-08, UP-08 to UP-10. In
headers both ends are inclusive; a `Span` excludes its stop. Knows numbers and text, no blobs.
"""

import re
from collections.abc import Sequence
from typing import Final, overload

from gateway.oci.conditions import etag
from gateway.oci.errors import Code, RegistryError, range_not_satisfiable, shown, size_invalid
from storage import Digest, Span

MAX_RANGES: Final = 64
"""Ranges in one request (BG-06). podman was seen to send 16; each costs a part header and a seek."""

_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")
_MAX_COMMAS: Final = 1000  # empty elements are allowed (RFC 9110, 5.6.1), so these can be more than ranges
_ONE_RANGE: Final = re.compile(r"bytes=([0-9]{1,18})-([0-9]{1,18})")
_CHUNK: Final = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(\*|[0-9]{1,18}))?")
_BEYOND: Final = 10**18  # larger than any blob; digits beyond 18 are not worth converting, and int() has a limit


def parse_range(header: str | None, size_bytes: int) -> tuple[Span, ...] | None:
    """The spans to serve of a blob: one (206), several (206 multipart), or None to serve it whole (200).

    None: no header, a unit other than bytes, or text that breaks the grammar, which RFC 9110 section 14.2 lets us
    ignore. Ranges that lie behind the end, are reversed (BG-05) or ask for the last 0 bytes are left out; if none is
    left, raises 416 with `Content-Range: bytes */size`. More than `MAX_RANGES` raise 400: podman then asks for the
    whole once, its cheapest way out.

    Order is as asked. Ranges that overlap are joined, at the place of the first, so no byte is sent twice. Those that
    merely touch stay apart: podman reads one part for each range it asked for, and asks for neighbours.
    """
    if header is None:
        return None
    one = _ONE_RANGE.fullmatch(header)
    if one is not None:  # what nearly all ask for, a third of the way; the rules below come to the same
        start, stop = int(one[1]), min(int(one[2]) + 1, size_bytes)
        if start < stop:
            return (Span(start, stop),)
    unit, _, listed = header.partition("=")
    if unit.lower() != "bytes":
        return None
    if (commas := listed.count(",")) > _MAX_COMMAS:
        raise _too_many(commas + 1)
    specs = [spec for each in listed.split(",") if (spec := each.strip(" \t"))]
    matches = [match for spec in specs if (match := _RANGE.fullmatch(spec)) and spec != "-"]
    if not specs or len(matches) != len(specs):
        return None
    if len(specs) > MAX_RANGES:
        raise _too_many(len(specs))
    spans = [span for match in matches if (span := _span(match[1], match[2], size_bytes))]
    if not spans:
        raise range_not_satisfiable(
            f"no byte of the {size_bytes} lies within range {shown(header)}",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )
    return _without_overlap(spans)


def _too_many(count: int) -> RegistryError:
    message = f"{count} ranges asked, at most {MAX_RANGES} are served at once"
    return RegistryError(Code.UNSUPPORTED, message, status=400)


def if_range(header: str | None, digest: Digest) -> bool:
    """Whether a `Range` counts (BG-08). If not, the whole is served: the client holds a part of something else.

    Only the strong entity tag matches; dates never do, since no Last-Modified is sent.
    """
    return header is None or header.strip() == etag(digest)


@overload
def parse_content_range(header: str) -> tuple[int, int]: ...


@overload
def parse_content_range(header: None) -> None: ...


def parse_content_range(header: str | None) -> tuple[int, int] | None:
    """First and last byte (inclusive) of an uploaded chunk; None without the header, which means at the end.

    Takes `a-b` as in the distribution-spec, and `bytes a-b/*` or `bytes a-b/size` as in RFC 9110 (UP-10). Raises
    SIZE_INVALID (400) for anything else: not BLOB_UPLOAD_INVALID, which some clients retry as if it were passing
    (UP-09, UP-16). Whether the first byte is the next one is the caller's question (416, UP-08).
    """
    if header is None:
        return None
    match = _CHUNK.fullmatch(header.strip())
    if match is None:
        raise size_invalid(f"malformed Content-Range {shown(header)}: expected <first>-<last>")
    first, last = int(match[1]), int(match[2])
    total = match[3]
    if last < first or (total not in {None, "*"} and last >= int(total)):
        raise size_invalid(f"Content-Range {shown(header)} contradicts itself")
    return first, last


def content_range(span: Span, size_bytes: int) -> str:
    """The `Content-Range` of a 206 answer; the span is not empty."""
    return f"bytes {span.start}-{span.stop - 1}/{size_bytes}"


def multipart_head(boundary: str, span: Span, size_bytes: int, media_type: str) -> bytes:
    """What goes out before the bytes of each part. `boundary`: 1 to 70 letters and digits, random."""
    lines = (
        "",
        f"--{boundary}",
        f"Content-Type: {media_type}",
        f"Content-Range: {content_range(span, size_bytes)}",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def multipart_tail(boundary: str) -> bytes:
    """What goes out after the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def multipart_size(boundary: str, spans: Sequence[Span], size_bytes: int, media_type: str) -> int:
    """The Content-Length of the whole answer: every head, every span, the tail."""
    heads = sum(len(multipart_head(boundary, span, size_bytes, media_type)) for span in spans)
    return heads + sum(span.size_bytes for span in spans) + len(multipart_tail(boundary))


def _span(first: str, last: str, size_bytes: int) -> Span | None:
    """The part of the blob that `first-last` names, or None if that is nothing."""
    if first:
        start = _position(first)
        stop = min(_position(last) + 1, size_bytes) if last else size_bytes
    else:
        start, stop = max(0, size_bytes - _position(last)), size_bytes
    return Span(start, stop) if start < stop else None


def _position(digits: str) -> int:
    significant = digits.lstrip("0") or "0"
    return int(significant) if len(significant) < len(str(_BEYOND)) else _BEYOND


def _without_overlap(spans: Sequence[Span]) -> tuple[Span, ...]:
    joined: list[tuple[int, Span]] = []  # place in the request, span
    for place, span in sorted(enumerate(spans), key=lambda each: (each[1].start, each[1].stop)):
        if joined and span.start < joined[-1][1].stop:
            before_place, before = joined[-1]
            joined[-1] = min(before_place, place), Span(before.start, max(before.stop, span.stop))
        else:
            joined.append((place, span))
    return tuple(span for _, span in sorted(joined, key=lambda each: each[0]))
