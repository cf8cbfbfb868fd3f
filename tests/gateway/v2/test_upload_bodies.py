"""The whole way of an upload's bytes, socket to staging area: offset, file and digest agree wherever it breaks off."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from gateway.wire.absorption import BUFFER_BYTES, BodyThreads, absorb
from gateway.wire.framing import framing_of
from gateway.wire.peer import Peer, PeerGone
from storage import Digest, Hasher, Staging
from tests.gateway.wire.loopback import connected_peer
from tests.storage.directory import Directory
from tests.storage.place import content_of

BODY: Final = os.urandom(4 * BUFFER_BYTES + 77)


class Intake:
    """A body on its way into a staging area; `stop_at` names the call of the sink in which `scope` is cancelled."""

    def __init__(self, staging: Staging, *, stop_at: int = 0) -> None:
        self.scope = trio.CancelScope()
        self.hasher = Hasher()
        self._staging = staging
        self._left = stop_at

    async def take(self, peer: Peer, size_bytes: int) -> None:
        """Absorb so many bytes."""
        writer = await self._staging.writer(self.hasher)
        assert writer is not None

        def sink(parts: Sequence[memoryview]) -> None:
            self._left -= 1
            if self._left == 0:
                trio.from_thread.run_sync(self.scope.cancel)
            writer.write(parts)

        with self.scope:
            await absorb(peer, framing_of(size_bytes), sink, idle_s=30, threads=BodyThreads(1))


async def agree(staging: Staging, hasher: Hasher) -> int:
    """The offset, after a look at whether all that is known of the bytes fits together."""
    again = Hasher()
    await staging.rehash(again)
    assert staging.offset == hasher.size_bytes
    assert again.digest() == hasher.digest() == Digest.of(BODY[: staging.offset])
    return staging.offset


@pytest.mark.parametrize("stop_at", [1, 2, 3, 4])
async def test_cancelled_in_the_middle(tmp_path: Path, stop_at: int) -> None:
    """Whatever was handed over when the request was cancelled is there once, and the next request goes on from it."""
    store = await Directory(tmp_path / "store").open()
    async with (
        store.stage("upload", create=True) as staging,
        connected_peer(send_idle_s=1) as (client, peer),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(client.send_all, BODY)
        first = Intake(staging, stop_at=stop_at)
        await first.take(peer, len(BODY))
        assert first.scope.cancelled_caught
        offset = await agree(staging, first.hasher)
        assert 0 < offset < len(BODY)

        rest = Intake(staging)
        rest.hasher = first.hasher
        await rest.take(peer, len(BODY) - offset)  # nothing is left between the two
        assert await agree(staging, first.hasher) == len(BODY)
        assert await content_of(store, await staging.publish(first.hasher.digest())) == BODY


@pytest.mark.parametrize("sent", [1, 65_537, len(BODY) - 1])
async def test_client_that_leaves_in_the_middle(tmp_path: Path, sent: int) -> None:
    """Every byte that came before it left is kept, and known."""
    store = await Directory(tmp_path / "store").open()
    async with store.stage("upload", create=True) as staging, connected_peer(send_idle_s=1) as (client, peer):
        intake = Intake(staging)
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await client.send_all(BODY[:sent])
                await client.send_eof()

            nursery.start_soon(leave)
            with pytest.raises(PeerGone):
                await intake.take(peer, len(BODY))
        assert await agree(staging, intake.hasher) == sent
