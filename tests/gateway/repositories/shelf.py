"""A hosted repository as a pusher sees it: bytes in, manifests over them, and everything allowed unless a test says."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

import pytest

from gateway.oci.errors import Code, RegistryError
from gateway.oci.manifest import parse
from gateway.oci.names import Tag
from gateway.repositories.contract import AdmitDelete, AdmitTag, Push
from gateway.repositories.hosted import HostedRepository
from storage import Digest, Document, RepositoryRecord, Span, TagRecord, Transaction
from tests.served import image_manifest
from tests.storage.place import read
from tests.storage.scene import Scene

CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = b"some layer"
IMAGE = image_manifest(CONFIG, LAYER)
PUSHER = 1
"""The account of a scene; its first, so it has this id."""


@dataclass(frozen=True)
class Holder:
    """A caller who may read the repositories with these ids, and no other."""

    reads: frozenset[int] = frozenset()

    def may_pull(self, tx: Transaction, repository: RepositoryRecord) -> bool:
        """See `contract.Caller`."""
        return repository.id in self.reads


NOBODY = Holder()
"""Who may nothing anywhere else."""


def allow_tag(tag: TagRecord | None, name: str) -> None:
    """No rule forbids a tag."""


def allow_delete(names: Sequence[str], digest: Digest) -> None:
    """No rule keeps a manifest."""


def push_of(content: bytes, *tags: str, media_type: str | None = None, by: int | None = PUSHER) -> Push:
    """A manifest on its way in, as the endpoint makes it."""
    manifest = parse(content, media_type)
    return Push(Document(Digest.of(content), manifest.media_type, content), manifest, tags, by)


async def refused(code: Code, act: Awaitable[object]) -> RegistryError:
    """The refusal, which there must be, with that code."""
    with pytest.raises(RegistryError) as caught:
        await act
    assert caught.value.code is code
    return caught.value


@dataclass
class Shelf:
    """One repository of a scene."""

    scene: Scene
    record: RepositoryRecord

    @property
    def hosted(self) -> HostedRepository:
        """The repository under test; as cheap as for a request."""
        scene = self.scene
        return HostedRepository(self.record, database=scene.database, content=scene.content, clock=scene.clock)

    async def blob(self, content: bytes, image: str = "app") -> Digest:
        """Push a blob."""
        return await self.scene.push(content, image, repository=self.record)

    async def put(
        self, content: bytes, *tags: str, image: str = "app", admit: AdmitTag = allow_tag, by: int | None = PUSHER
    ) -> Digest:
        """Push a manifest; what it needs must be there."""
        await self.hosted.put_manifest(image, push_of(content, *tags, by=by), admit=admit)
        return Digest.of(content)

    async def image(self, *tags: str, image: str = "app", config: bytes = CONFIG) -> Digest:
        """Push an image with all it needs."""
        for content in (config, LAYER):
            await self.blob(content, image)
        return await self.put(image_manifest(config, LAYER), *tags, image=image)

    async def delete(self, reference: str | Digest, *, image: str = "app", admit: AdmitDelete = allow_delete) -> None:
        """Delete a tag or a manifest."""
        if isinstance(reference, Digest):
            await self.hosted.delete_manifest(image, reference, admit=admit)
        else:
            await self.hosted.delete_tag(image, Tag(reference), admit=admit)

    async def at(self, reference: str | Digest, *, image: str = "app") -> Digest:
        """What a tag or digest leads to."""
        found = reference if isinstance(reference, Digest) else Tag(reference)
        return (await self.hosted.manifest(image, found)).document.digest

    async def pull(self, digest: Digest, *, image: str = "app") -> bytes:
        """A blob's bytes, through the repository."""
        found = await self.hosted.find_blob(image, digest)
        async with self.hosted.open_blob(found, Span(0, found.size_bytes)) as reader:
            return await read(reader)

    async def tags(self, *, image: str = "app", after: str = "", limit: int = 100) -> Sequence[str]:
        """A page of tags."""
        return (await self.hosted.tags(image, after=after, limit=limit)).names
