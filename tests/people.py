"""Accounts, places and rights for tests against a served gateway, made by its first administrator through the API."""

import uuid
from dataclasses import dataclass
from typing import Any

from tests.served import ADMIN, Reply, Served

PASSWORD = "a-password-for-one-test"
Login = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository of its own project; image names in it begin with `name`."""

    project: str
    repository: str

    @property
    def name(self) -> str:
        """`PROJECT/REPOSITORY`."""
        return f"{self.project}/{self.repository}"


def unique(stem: str) -> str:
    """A name that nobody else uses."""
    return f"{stem}-{uuid.uuid4().hex[:10]}"


def make(gateway: Served, path: str, value: object, *, auth: Login = ADMIN) -> Any:
    """POST to the management API; the object made."""
    reply = gateway.api("POST", f"/api/v1/{path}", value, auth=auth)
    assert reply.status == 201, reply
    return reply.json()


def change(gateway: Served, path: str, value: object, *, auth: Login = ADMIN) -> Reply:
    """PATCH by the management API, which must succeed."""
    reply = gateway.api("PATCH", f"/api/v1/{path}", value, auth=auth)
    assert reply.status == 200, reply
    return reply


def make_place(gateway: Served, *, project: str | None = None, **settings: Any) -> Place:
    """A private repository, in a new project unless one is named."""
    if project is None:
        project = unique("project")
        make(gateway, "projects", {"name": project})
    made = make(gateway, "repos", {"project": project, "name": unique("images"), **settings})
    return Place(made["project"], made["name"])


def make_user(gateway: Served, **fields: Any) -> Login:
    """A user without roles, with a password."""
    name = fields.pop("name", unique("user"))
    make(gateway, "users", {"name": name, "password": PASSWORD, **fields})
    return name, PASSWORD


def grant(gateway: Served, login: Login | str, role: str, place: Place | str) -> None:
    """Give a role on a repository, or on a project where `place` is a name."""
    account = login if isinstance(login, str) else login[0]
    at = f"projects/{place}" if isinstance(place, str) else f"repos/{place.name}"
    reply = gateway.api("PUT", f"/api/v1/{at}/grants/{account}", {"role": role})
    assert reply.status == 200, reply


def revoke(gateway: Served, login: Login | str, place: Place | str) -> None:
    """Take that role away."""
    account = login if isinstance(login, str) else login[0]
    at = f"projects/{place}" if isinstance(place, str) else f"repos/{place.name}"
    assert gateway.api("DELETE", f"/api/v1/{at}/grants/{account}").status == 204


def make_member(gateway: Served, role: str, *places: Place | str) -> Login:
    """A user with that role there."""
    login = make_user(gateway)
    for place in places:
        grant(gateway, login, role, place)
    return login


def make_robot(gateway: Served, *places: tuple[str, Place], **key: Any) -> Login:
    """A robot with (role, place) each and a key; `key` narrows it, as in the API."""
    robot = make(gateway, "robots", {"name": unique("sa$robot")})["name"]
    for role, place in places:
        grant(gateway, robot, role, place)
    return robot, make(gateway, f"robots/{robot}/keys", key)["secret"]


def make_token(gateway: Served, login: Login, **limits: Any) -> Login:
    """A personal token of that user, as a login."""
    return login[0], make(gateway, "tokens", limits, auth=login)["secret"]
