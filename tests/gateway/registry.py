"""The whole application in this process over a migrated database, and what a test needs to speak to it as somebody."""

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from quart_trio import QuartTrio

from gateway.access.actions import Role
from gateway.app import Services, build, open_services
from gateway.config import Settings
from storage import Digest
from storage.metadata import accounts, repositories
from tests.gateway.edge.visitors import Answer, ask, basic
from tests.served import OCI_MANIFEST, image_manifest
from tests.storage.metadata import samples

REPOSITORY: Final = "common/images"
NAME: Final = f"{REPOSITORY}/app"
CONFIG: Final = b"{}"


@dataclass(frozen=True)
class Registry:
    """An installation with the repository `common/images` and an administrator, whose header is `admin`."""

    services: Services
    app: QuartTrio
    admin: str

    @classmethod
    @asynccontextmanager
    async def open(
        cls, data: Path, *, clock: Callable[[], float] = time.time, **sections: Any
    ) -> AsyncGenerator[Self, None]:
        """Open the installation in `data`, with sections of the settings; the first time it is furnished."""
        settings = Settings.model_validate({**sections, "storage": {"data": data, **sections.get("storage", {})}})
        async with open_services(settings, clock=clock) as services:
            yield cls(services, build(services), await _admin(services))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        auth: str | None = "",
    ) -> Answer:
        """One request; `auth` is an Authorization header, None for none, by default the administrator's."""
        credentials = {} if auth is None else {"Authorization": auth or self.admin}
        return await ask(self.app, path, method, {**credentials, **(headers or {})}, body=body)

    async def push_blob(self, content: bytes, name: str = NAME) -> Digest:
        """Store a blob."""
        digest = Digest.of(content)
        pushed = await self.ask("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
        assert pushed.status == 201, pushed
        return digest

    async def put_manifest(self, content: bytes, reference: str, **headers: str) -> Answer:
        """PUT a manifest; further headers are written with `_` for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask(
            "PUT", f"/v2/{NAME}/manifests/{reference}", content, {"Content-Type": OCI_MANIFEST, **named}
        )

    async def push_image(self, reference: str, **extra: Any) -> bytes:
        """Store an image without layers; gives its manifest."""
        await self.push_blob(CONFIG)
        content = image_manifest(CONFIG, **extra)
        put = await self.put_manifest(content, reference)
        assert put.status == 201, put
        return content

    async def member(self, name: str, role: str | None = None) -> str:
        """The Authorization header of a new user, with a role on the repository if one is named."""
        user = await self.services.accounts.create_user(name, None)
        if role is not None:
            place = await self.services.database.read(repositories.find, *REPOSITORY.split("/"))
            assert place is not None
            await self.services.accounts.put_grant(user.id, Role(role), repository_id=place.id)
        minted = await self.services.accounts.create_personal_token(user.id, label="")
        return basic(name, minted.text)


async def _admin(services: Services) -> str:
    """The header of the administrator, who is made with the repository if there is none yet."""
    boss = await services.database.read(accounts.find, "boss")
    if boss is None:
        boss = await services.accounts.create_user("boss", None, is_admin=True)
        await services.database.transaction(samples.repository, REPOSITORY)
    minted = await services.accounts.create_personal_token(boss.id, label="")
    return basic("boss", minted.text)
