"""Parts in a multipart upload that nobody counts on: what a holder sent that died before it could say so.

Their numbers are never used again. AWS drops them when the upload is completed; radosgw refuses to complete while they
are there (seen with 16.2), and no interface removes a single part. So they are completed along, as *junk* between our
parts, and the store copies our bytes out of that object into a new upload. Rare, and nothing passes through here.
"""

from dataclasses import replace
from typing import Final, Protocol

from storage.blobstore import Span
from storage.s3.bucket import Bucket
from storage.s3.keys import blob_key
from storage.s3.settings import LEAST_PART_BYTES
from storage.s3.staging_state import Part, StagingState

COPIED_PART_BYTES: Final = 1 << 30
"""S3 copies up to 5 GiB at once; smaller ones answer before anybody's patience ends."""


class Upload(Protocol):
    """What is needed of the area whose upload it is."""

    bucket: Bucket
    state: StagingState

    def new_id(self) -> str:
        """An object id that was never used."""
        ...

    async def number(self) -> int:
        """A part number that was never used."""
        ...


async def adopt_strays(upload: Upload) -> bool:
    """Note all parts that the store has among the state's; False if one of ours is not as we sent it.

    Raises `UploadUnknown` if there is no such upload. Junk that is too short to have parts behind it is replaced.
    """
    state = upload.state
    if state.object_id is None or state.upload_id is None:
        return False
    key = blob_key(state.object_id)
    found = {number: (size, etag) for number, size, etag in await upload.bucket.list_parts(key, state.upload_id)}
    ours = {part.number: part for part in state.parts if not part.is_junk}
    if any(found.get(number, (0, ""))[1] != part.etag for number, part in ours.items()):
        return False
    parts = dict(ours)
    for number, (size_bytes, etag) in found.items():
        if number not in ours:
            parts[number] = Part(number, size_bytes, etag, is_junk=True)
            if size_bytes < LEAST_PART_BYTES and number < max(found):
                padded = await upload.bucket.put_part(key, state.upload_id, number, bytes(LEAST_PART_BYTES))
                parts[number] = Part(number, LEAST_PART_BYTES, padded, is_junk=True)
    upload.state = replace(state, parts=tuple(parts[number] for number in sorted(parts)))
    return True


async def extract(upload: Upload, object_id: str, parts: tuple[Part, ...]) -> tuple[str, str, tuple[Part, ...]]:
    """Copy our bytes out of an object made of these parts into a new upload: its object id, its id, its parts."""
    new_id = upload.new_id()
    upload_id = await upload.bucket.create(blob_key(new_id))
    copied = []
    for span in _ours(parts):
        number = await upload.number()
        etag = await upload.bucket.copy_part(blob_key(new_id), upload_id, number, source=blob_key(object_id), span=span)
        copied.append(Part(number, span.size_bytes, etag))
    return new_id, upload_id, tuple(copied)


def _ours(parts: tuple[Part, ...]) -> list[Span]:
    """Where our bytes lie, in pieces that can be copied at once; all but the last are long enough for a part."""
    spans: list[Span] = []
    at = 0
    for part in parts:
        span = Span(at, at + part.size_bytes)
        at = span.stop
        if part.is_junk:
            continue
        last = spans[-1] if spans else None
        if last is not None and last.stop == span.start and span.stop - last.start <= COPIED_PART_BYTES:
            spans[-1] = Span(last.start, span.stop)
        else:
            spans.append(span)
    return spans
