"""Images of an index that are fetched because the index was pulled."""

from collections.abc import Callable

import trio

from gateway.repositories.prefetching import Prefetching
from gateway.upstream.errors import UpstreamBusy
from tests.gateway.repositories.mirror import Mirror
from tests.upstream.script import Says, on
from tests.upstream.scripted import ScriptedUpstream

IMAGE = "team/app"


async def _until(is_so: Callable[[], bool]) -> None:
    """The upstream is a thread of its own, so there is no event to wait for."""
    with trio.fail_after(20):
        while not is_so():  # noqa: ASYNC110 - see above
            await trio.sleep(0.01)


async def test_images_of_the_named_platforms_come_with_their_index(through: Mirror, upstream: ScriptedUpstream) -> None:
    """With their blobs, once, and no others; who pulled the index did not wait."""
    index = upstream.shelf.index(IMAGE, "multi", {"linux/amd64": (b"a",), "linux/arm64": (b"b",)})
    record = await through.make(platforms=("linux/arm64",))
    wanted, other = index.images["linux/arm64"], index.images["linux/amd64"]

    await through.manifest(record, IMAGE, "multi")
    await _until(lambda: all(upstream.gets(digest) for digest in wanted.blobs))
    for digest in wanted.blobs:
        await through.blob(record, IMAGE, digest)

    assert [upstream.gets(digest) for digest in (wanted.digest, *wanted.blobs)] == [1] * (1 + len(wanted.blobs))
    assert upstream.gets(other.digest) == 0
    assert not any(upstream.gets(digest) for digest in set(other.blobs) - set(wanted.blobs))


async def test_trouble_on_the_way_is_nobodys(through: Mirror, upstream: ScriptedUpstream) -> None:
    """The index was given; what could not be fetched ahead comes when it is pulled."""
    index = upstream.shelf.index(IMAGE, "multi", {"linux/arm64": (b"b",)})
    image = index.images["linux/arm64"]
    record = await through.make(platforms=("linux/arm64",))
    broken = upstream.script(Says(500, b""), on("manifests", reference=image.digest))

    await through.manifest(record, IMAGE, "multi")
    await _until(lambda: broken.hits > 0)
    await through.idle()  # or the pull would join the question that is in vain
    upstream.heal()

    assert await through.digest(record, IMAGE, image.digest) == image.digest


async def test_nothing_is_fetched_ahead_without_platforms(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Children come when they are pulled."""
    index = upstream.shelf.index(IMAGE, "multi", {"linux/arm64": (b"b",)})
    record = await through.make()

    await through.manifest(record, IMAGE, "multi")
    await through.manifest(record, IMAGE, index.digest)
    await through.manifest(record, IMAGE, "multi")
    await trio.testing.wait_all_tasks_blocked()

    assert upstream.gets(index.images["linux/arm64"].digest) == 0


async def test_a_worker_with_too_much_under_way_prefetches_nothing(through: Mirror, upstream: ScriptedUpstream) -> None:
    """Whoever pulls the index gets it and hears nothing of that."""
    upstream.shelf.index(IMAGE, "multi", {"linux/arm64": (b"b",)})
    record = await through.make(platforms=("linux/arm64",))
    document = (await through.manifest(record, IMAGE, "multi")).document

    class Full:
        """Turns that take nothing more."""

        def begin(self, *_: object, **__: object) -> None:
            raise UpstreamBusy("too many questions")

    begun = Prefetching().begin(Full(), through.at(record), IMAGE, document, platforms=("linux/arm64",))  # type: ignore[arg-type,func-returns-value]

    assert begun is None
