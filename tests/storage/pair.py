"""Two installations for moves: an old one with images, and a new one with nothing but its schema."""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from storage import (
    AddressKind,
    BlobStore,
    Conflict,
    Content,
    Database,
    Digest,
    ImageRecord,
    Installation,
    Move,
    MoveTotals,
    RepositoryRecord,
    Transaction,
)
from storage.metadata import addresses, members, pulls, tags, upstreams
from storage.metadata.members import NewMember
from storage.metadata.moving import copied_tables, require_whole
from storage.metadata.tables import metadata
from tests.storage.scene import Scene

LAYERS = [bytes([number]) * (3000 + number) for number in range(5)]


class Pair:
    """An old installation with people and images, and a new one that has nothing but its schema."""

    def __init__(self, scene: Scene, database: Database, store: BlobStore) -> None:
        self.scene = scene
        self.source = Installation(scene.database, {"main": scene.store})
        self.target = Installation(database, {"main": store})
        self.store = store

    async def furnish(self) -> None:
        """Two images with tags, a deleted manifest, a blob with two digests that no manifest needs."""
        for image, layers in (("app", LAYERS[:3]), ("web", LAYERS[2:4])):
            needs = [await self.scene.push(layer, image) for layer in layers]
            await self.scene.put_manifest(needs, image, tag="1.0")
        old = await self.scene.put_manifest([Digest.of(LAYERS[0])], "app", tag="old", salt="old")
        await self.scene.delete_manifest(old)
        await self.scene.push(LAYERS[4], "app", digest=Digest.of(LAYERS[4], "sha512"))
        place = await self.scene.image("app")
        await self.scene.database.transaction(_connect, self.scene.repository, self.scene.other, place)

    async def move(self, *, replace: bool = False, reread: bool = False) -> MoveTotals:
        """Move everything once."""
        return await Move(self.source, self.target, replace=replace, reread=reread, clock=self.scene.clock).run()

    async def arrived(self) -> Scene:
        """The new installation, as a scene in which things can be pulled and pushed."""
        moved = Scene(self.target.database, self.store, self.scene.clock)
        moved.content = Content(self.target.database, {"main": self.store}, clock=self.scene.clock)
        await moved.content.prepare()
        moved.repository = replace(self.scene.repository, storage_id=moved.content.storage_id("main"))
        moved.account_id = self.scene.account_id
        return moved

    async def record(self, layer: bytes) -> int:
        """The id of the layer's row in the old installation."""
        return (await self.scene.find(Digest.of(layer), "app")).record.id

    async def lose(self, layer: bytes) -> None:
        """Take the layer's bytes from the old store."""
        await self.scene.store.remove((await self.scene.find(Digest.of(layer), "app")).record.stored.key)


def _connect(tx: Transaction, first: RepositoryRecord, second: RepositoryRecord, image: ImageRecord) -> None:
    """Addresses, members, a credential, and what is known of a tag and a manifest."""
    addresses.put(tx, first.id, AddressKind.NAMESPACE, ["registry.example"])
    members.put(tx, second.id, [NewMember(first.id, include=("a/*",), is_default=True)])
    upstreams.put_credentials(tx, first.id, [b"sealed"])
    upstreams.put_check(tx, image.id, "1.0", 7, '"etag"')
    tagged = tags.find(tx, image.id, "1.0")
    assert tagged is not None
    pulls.note(tx, [(image.id, tagged.digest, 8)])


def rows_of(tx: Transaction, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table but for what says where an object lies."""
    where = {"storage_id", "key", "encoding", "stored_bytes", "verified_at"}
    columns = [column for column in metadata.tables[table].c if column.name not in where]
    return sorted((tuple(row) for row in tx.execute(sa.select(*columns))), key=repr)


async def is_whole(pair: Pair) -> bool:
    """Whether the new installation has all rows of the old one."""
    tables = sorted({*copied_tables(), "blobs"})
    found = [
        [await installation.database.survey(rows_of, table) for table in tables]
        for installation in (pair.source, pair.target)
    ]
    return found[0] == found[1]


async def is_closed(pair: Pair) -> bool:
    """Whether nobody can do anything with the new installation: it is empty, or says that it is not to be used."""
    try:
        await pair.target.database.survey(require_whole)
    except Conflict:
        return True
    return not any([await pair.target.database.survey(rows_of, table) for table in sorted(copied_tables())])
