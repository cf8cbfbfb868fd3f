"""An installation with people in it, and the whole application in this process to call.

Made once and copied for each test. Everybody has the same password; what they may do is in `ROLES`.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from quart.typing import TestClientProtocol

from gateway.access.actions import Action, Role
from gateway.access.principal import Limits, Principal
from gateway.app import Services, open_services
from gateway.cli.first_start import prepare
from gateway.config import Settings
from gateway.oci.scopes import parse_scopes
from storage import RepositoryRecord, Transaction
from storage.metadata import accounts, grants, projects, repositories

PASSWORD: Final = "correct-horse-battery"
ADMIN: Final = "admin"
AUDITOR: Final = "watcher"
STRANGER: Final = "stranger"
ROLES: Final = {"rita": Role.READER, "will": Role.WRITER, "mary": Role.MAINTAINER, "olga": Role.ADMIN}
"""Users by the role they have in project `team`."""
PROJECT: Final = "team"
REPOSITORY: Final = "team/images"
PUBLIC: Final = "team/public"
SECRET: Final = "hidden/images"
"""A repository that nobody has a role on."""


@dataclass(frozen=True)
class Reply:
    """An answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def fields(self) -> list[str]:
        """Which fields the errors name."""
        return [error["field"] for error in self.value["errors"]]

    @property
    def codes(self) -> set[str]:
        """The codes of the errors."""
        return {error["code"] for error in self.value["errors"]}


Credentials = str | tuple[str, str] | None


@dataclass(frozen=True)
class Installation:
    """The running services, and a client of the application made of them."""

    services: Services
    client: TestClientProtocol

    async def call(
        self,
        method: str,
        path: str,
        value: object = None,
        *,
        auth: Credentials = ADMIN,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request: `auth` is a user's name, a (name, password) pair, or None; `value` is sent as JSON."""
        if value is not None:
            body, headers = json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}
        sent = {**_authorization(auth), **(headers or {})}
        response = await self.client.open(path, method=method, headers=sent, data=body)  # type: ignore[call-arg]  # Quart's protocol forgets that `json` has a default
        content = await response.get_data(as_text=False)
        return Reply(response.status_code, {name.lower(): text for name, text in response.headers.items()}, content)

    async def pages(self, path: str, *, limit: int, auth: Credentials = ADMIN) -> list[dict[str, Any]]:
        """All items of a list, read in pages of `limit`; no page but the last may be shorter."""
        items: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            page = (await self.call("GET", f"{path}?limit={limit}&after={quote(after)}", auth=auth)).value
            items += page["items"]
            after = page["next"]
            assert after is None or len(page["items"]) == limit
        return items

    async def registry_token(self, user: str, scope: str) -> str:
        """A token for /v2 with what the user holds of the scope."""
        account = await self.services.database.read(accounts.find, user)
        granted = await self.services.tokens.grant(Principal(account), parse_scopes([scope]), offline=False)
        return granted.token

    async def personal_token(self, user: str, *actions: Action) -> tuple[str, str]:
        """Credentials by a personal token of the user, narrowed to these acts, if there are any."""
        account = await self.services.database.read(accounts.find, user)
        assert account is not None
        limits = Limits(actions=frozenset(actions) or None)
        minted = await self.services.accounts.create_personal_token(account.id, label="", limits=limits)
        return user, minted.text

    async def repository(self, full_name: str) -> RepositoryRecord | None:
        """The row of a repository."""
        project, _, name = full_name.partition("/")
        return await self.services.database.read(repositories.find, project, name)


def _authorization(auth: Credentials) -> dict[str, str]:
    if auth is None:
        return {}
    user, password = (auth, PASSWORD) if isinstance(auth, str) else auth
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


async def furnish(settings: Settings) -> None:
    """Make the installation that tests copy: the first start, then `people`."""
    await prepare(settings, password=PASSWORD)
    async with open_services(settings) as services:
        password_hash = await services.passwords.hash(PASSWORD)
        storage_id = services.content.storage_id("default")
        await services.database.transaction(people, password_hash, storage_id, int(services.clock()))


def people(tx: Transaction, password_hash: str, storage_id: int, now: int) -> None:
    """The rows of everybody and everything that is named above."""
    for name in (STRANGER, *ROLES):
        accounts.create(tx, name=name, kind="user", password_hash=password_hash, now=now)
    accounts.create(tx, name=AUDITOR, kind="user", password_hash=password_hash, is_auditor=True, now=now)
    for full_name in (REPOSITORY, PUBLIC, SECRET):
        project, _, name = full_name.partition("/")
        home = projects.find(tx, project) or projects.create(tx, name=project, description="", now=now)
        repositories.create(
            tx,
            project_id=home.id,
            name=name,
            description="",
            format="docker",
            repository_type="hosted",
            storage_id=storage_id,
            flat_alias_prefix=None,
            is_catch_all=False,
            anonymous_read=full_name == PUBLIC,
            immutable_tags=(),
            now=now,
        )
    team = projects.find(tx, PROJECT)
    assert team is not None
    for name, role in ROLES.items():
        account = accounts.find(tx, name)
        assert account is not None
        grants.put(tx, account_id=account.id, project_id=team.id, role=role, now=now)
