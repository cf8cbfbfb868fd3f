"""A process that pulls through: repositories with an upstream over a scene's rows and bytes, and a scripted upstream.

What the gateway opens at its start, in the same order, without HTTP towards clients.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.oci.names import Reference, Tag
from gateway.repositories.contract import ArrivingBlob, Caller, FoundManifest, OpenRepository, Repository
from gateway.repositories.opening import opener
from gateway.repositories.turns import Turns
from gateway.upstream.http import Credential
from gateway.upstream.opening import Upstreams
from gateway.upstream.settings import UPSTREAM, UpstreamSettings
from storage import Content, Digest, FoundBlob, RepositoryRecord, Span
from storage.metadata import storages, upstreams
from tests.gateway.repositories.shelf import NOBODY
from tests.people import unique
from tests.storage.arrivals_place import Dock, dock
from tests.storage.metadata import samples
from tests.storage.place import read
from tests.storage.scene import Scene
from tests.upstream.scripted import ScriptedUpstream

LOOPBACK = ("127.0.0.0/8",)
PATIENT = {"idle_s": 60.0, "connect_s": 60.0}
"""Seconds, for busy machines; where an upstream is to be silent, tests say how long."""


@dataclass
class Mirror:
    """One process. `upstream` is who it pulls from by default."""

    scene: Scene
    upstream: ScriptedUpstream
    content: Content
    docked: Dock
    turns: Turns
    open_repository: OpenRepository

    async def make(
        self, kind: str = "proxy", *, credentials: Sequence[Credential] = (), **settings: Any
    ) -> RepositoryRecord:
        """A new repository of the scripted upstream, with settings as in `UpstreamSettings`."""
        given = {"urls": (self.upstream.url,), "private_networks": LOOPBACK, **PATIENT, **settings}
        document = json.dumps({UPSTREAM: json.loads(UpstreamSettings(**given).to_json())})
        name = f"common/{unique(kind)}"
        database = self.scene.database
        storage_id = await database.transaction(storages.ensure, "main")
        record = await database.transaction(
            samples.repository, name, repository_type=kind, storage_id=storage_id, settings=document
        )
        sealed = [json.dumps([each.username, each.secret]).encode() for each in credentials]
        await database.transaction(upstreams.put_credentials, record.id, sealed)
        return record

    def at(self, record: RepositoryRecord, caller: Caller = NOBODY) -> Repository:
        """The repository; as cheap as for a request."""
        return self.open_repository(record, caller)

    async def manifest(self, record: RepositoryRecord, image: str, reference: str | Digest) -> FoundManifest:
        """What a pull of a tag or digest finds."""
        return await self.at(record).manifest(image, _reference(reference))

    async def digest(self, record: RepositoryRecord, image: str, reference: str | Digest) -> str:
        """The digest of that."""
        return str((await self.manifest(record, image, reference)).document.digest)

    async def blob(
        self, record: RepositoryRecord, image: str, digest: str, span: Span | None = None, *, caller: Caller = NOBODY
    ) -> bytes:
        """What a pull of a blob gives, whether it is here or arrives."""
        repository = self.at(record, caller)
        found = await repository.find_blob(image, Digest.parse(digest))
        wanted = span or Span(0, found.size_bytes)
        opened = found.open(wanted) if isinstance(found, ArrivingBlob) else repository.open_blob(found, wanted)
        async with opened as reader:
            return await read(reader)

    async def find(
        self, record: RepositoryRecord, image: str, digest: str, *, caller: Caller = NOBODY
    ) -> FoundBlob | ArrivingBlob:
        """What HEAD is answered from."""
        return await self.at(record, caller).find_blob(image, Digest.parse(digest))

    async def idle(self) -> None:
        """Wait until nothing is asked, fetched or published any more."""
        await self.turns.wait_idle()
        await self.docked.idle()


@asynccontextmanager
async def mirror(
    scene: Scene, upstream: ScriptedUpstream, directory: Path, *, patience_s: float = 60.0
) -> AsyncIterator[Mirror]:
    """One process. Several over the same scene and directory are workers of one machine."""
    content = await scene.worker()
    failure: Exception | None = None
    async with (
        dock(scene, directory, content=content) as docked,
        Upstreams.open(scene.database, _unseal, clock=scene.clock) as known,
        Turns.open(scene.database, clock=scene.clock) as turns,
    ):
        try:
            open_repository = opener(
                database=scene.database,
                content=content,
                clock=scene.clock,
                upstreams=known,
                arrivals=docked.arrivals,
                turns=turns,
                patience_s=patience_s,
            )
            yield Mirror(scene, upstream, content, docked, turns, open_repository)
        except Exception as error:  # noqa: BLE001 - raised again below, where no nursery wraps it
            failure = error
    if failure is not None:
        raise failure


def _unseal(sealed: bytes, repository_id: int, position: int) -> Credential:
    username, secret = json.loads(sealed)
    return Credential(username, secret)


def _reference(text: str | Digest) -> Reference:
    if isinstance(text, Digest):
        return text
    return Digest.parse(text) if ":" in text else Tag(text)


def changed(record: RepositoryRecord, **settings: Any) -> RepositoryRecord:
    """The repository with other settings, as the next request finds it."""
    document = json.loads(record.settings)
    return replace(record, settings=json.dumps({**document, UPSTREAM: {**document[UPSTREAM], **settings}}))


def asked(upstream: ScriptedUpstream) -> list[str]:
    """What it was asked for so far, without pings and tokens, as `HEAD manifests latest`."""
    return [
        f"{seen.method} {seen.kind} {seen.reference}" for seen in upstream.seen() if seen.kind not in {"base", "token"}
    ]
