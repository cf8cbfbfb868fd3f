"""What is durable of an upload: it survives its text, forgets nothing that has to be freed, and small rows are few."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.digest import Digest
from storage.errors import Unavailable
from storage.s3.keys import ObjectName, blob_key
from storage.s3.parts import part_bytes
from storage.s3.staging_state import Part, Segment, StagingState, Whole
from storage.s3.staging_strays import _ours
from storage.s3.staging_tail import ROW_BYTES, merged

MIB = 1 << 20
NAME = ObjectName(Digest.of(b""), "object", 0, 7)
FULL = StagingState(
    object_id="object",
    upload_id="upload",
    parts=(Part(1, 5 * MIB, "e1"), Part(17, 6 * MIB, "e2")),
    reserved=33,
    segments=(Segment(11 * MIB, 100), Segment(11 * MIB + 100, 2 * MIB, "staging/a")),
    published=NAME.key,
    litter=("blobs/ol/old",),
    hash_state="c3RhdGU=",
)


def test_state_survives_its_text() -> None:
    """What a row holds is what was written, in full."""
    for state in (StagingState(), FULL, StagingState(whole=Whole("w", 3, 9, is_published=True), closing=True)):
        assert StagingState.load(state.dump()) == state
    assert FULL.digest_state == b"state"


def test_newer_state_is_not_touched() -> None:
    """A state that a newer program wrote is left to that program."""
    with pytest.raises(Unavailable, match="newer"):
        StagingState.load('{"format":2}')


def test_sizes() -> None:
    """Parts, then segments; junk counts for nothing."""
    assert (FULL.tail_start, FULL.head_bytes, FULL.size_bytes) == (11 * MIB, 11 * MIB, 13 * MIB + 100)
    junk = replace(FULL, parts=(*FULL.parts, Part(18, MIB, "e", is_junk=True)), segments=())
    assert junk.size_bytes == 11 * MIB
    assert StagingState(whole=Whole("w", 3, 9)).size_bytes == 3


def test_nothing_is_forgotten() -> None:
    """Objects that a state uses no more are among its litter; what was published is nobody's litter."""
    whole = StagingState(whole=Whole("w", 300, 300), segments=(Segment(300, 5, "staging/s"),))
    parts = whole.with_parts((Part(1, 400, "e"),), object_id="object", upload_id="upload")
    assert set(parts.litter) == {blob_key("w"), "staging/s"}
    assert whole.cut(302).litter == ("staging/s",)
    assert set(whole.cut(10).litter) == {blob_key("w"), "staging/s"}
    assert whole.cut(305) is whole
    for published in (
        replace(whole, published=ObjectName(Digest.of(b""), "w", 300, 7).key),
        replace(whole, whole=Whole("w", 300, 300, is_published=True)),
    ):
        assert published.own_objects == {"staging/s"}
        assert published.cut(10).litter == ("staging/s",)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_rows_stay_few(sizes: list[int]) -> None:
    """However an upload is cut into small increments, its rows are consecutive, short enough, and few."""
    segments: tuple[Segment, ...] = ()
    stop = 0
    for size_bytes in sizes:
        start, stop = stop, stop + size_bytes
        segments, begin = merged(segments, start, stop)
        segments = (*segments, Segment(begin, stop - begin))
        assert segments[0].start == 0
        assert all(one.stop == two.start for one, two in pairwise(segments))
        assert all(each.size_bytes <= ROW_BYTES for each in segments)
        assert len(segments) <= stop.bit_length() + 1


def test_objects_are_not_swallowed() -> None:
    """A segment that is an object stays one: its bytes are not written again."""
    segment = Segment(0, 10, "staging/s")
    assert merged((segment,), 10, 500) == ((segment,), 10)


def test_parts_hold_the_largest_object() -> None:
    """10,000 parts of the default size take 5 TiB, the first thousand being as small as the setting says."""
    sizes = [part_bytes(number, least_bytes=8 * MIB, most_bytes=1 << 30) for number in range(1, 10_001)]
    assert sum(sizes) >= 5 << 40
    assert sizes[0] == sizes[999] == 8 * MIB
    assert max(sizes) == 1 << 30
    assert part_bytes(9000, least_bytes=8 * MIB, most_bytes=64 * MIB) == 64 * MIB


def test_where_our_bytes_lie() -> None:
    """Runs of our parts between junk, none longer than the store copies at once."""
    parts = (Part(1, 5, "a"), Part(2, 6, "b"), Part(3, 7, "x", is_junk=True), Part(4, 8, "c"))
    assert [(span.start, span.stop) for span in _ours(parts)] == [(0, 11), (18, 26)]
    large = tuple(Part(number, 600 * MIB, "e") for number in range(1, 4))
    assert [span.size_bytes for span in _ours(large)] == [600 * MIB] * 3
