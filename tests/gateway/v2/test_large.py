"""Large manifests wait for room; small ones never do."""

import pytest
import trio
from trio.testing import MockClock

from gateway.oci.errors import RegistryError
from gateway.v2.large import LARGE_BYTES, LargeManifests


async def test_small_manifests_need_no_room(autojump_clock: MockClock) -> None:
    """However many large ones are held, a small manifest passes at once."""
    large = LargeManifests(at_once=1)

    async with large.room(None), large.room(LARGE_BYTES - 1), large.room(0):
        assert autojump_clock.current_time() == 0


@pytest.mark.parametrize("size_bytes", [None, LARGE_BYTES, 4 << 20])
async def test_large_manifests_wait_and_then_hear_503(autojump_clock: MockClock, size_bytes: int | None) -> None:
    """Without room a large manifest, or one of unknown size, waits for a while and is then 503 with Retry-After."""
    large = LargeManifests(at_once=1, patience_s=30)

    async with large.room(LARGE_BYTES):
        with pytest.raises(RegistryError) as refused:
            async with large.room(size_bytes):
                raise AssertionError("there was no room")

    assert (refused.value.status, autojump_clock.current_time()) == (503, 30)
    assert refused.value.headers["Retry-After"]


async def test_room_that_comes_free_is_taken(autojump_clock: MockClock) -> None:
    """Who waits gets the room as soon as another leaves, cancelled or not."""
    large = LargeManifests(at_once=1, patience_s=30)

    async def hold(seconds: float) -> None:
        async with large.room(LARGE_BYTES):
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, 5)
        nursery.start_soon(hold, 5)
        with trio.move_on_after(2):
            await hold(100)

    assert autojump_clock.current_time() in {10, 12}  # the one that is cancelled after 2 s came first, or not
