"""The kinds of principal that the authorisation matrix asks as, each with its credentials on one served gateway."""

import time
from dataclasses import dataclass
from typing import Final

from tests.people import Login, Place, change, grant, make, make_robot, make_token, make_user
from tests.served import Served

NAMES: Final = (
    "anonymous",
    "wrong password",
    "disabled",
    "expired robot",
    "outsider",
    "reader",
    "writer",
    "maintainer",
    "owner",
    "pull robot",
    "pull token",
    "auditor",
    "admin",
)
"""Everybody who asks. `reader`, `writer` and `maintainer` have their role on one repository, `owner` is admin of its
project; `pull robot` and `pull token` could do what a maintainer can, but for a secret that only pulls."""

REFUSED: Final = frozenset({"wrong password", "disabled", "expired robot"})
"""Those whose credentials are not, or no longer, good."""


@dataclass(frozen=True, slots=True)
class Person:
    """One of them: what it sends by Basic, and (for who is refused by now) a registry token from before."""

    name: str
    login: Login | None
    former_token: str | None = None

    def token(self, gateway: Served, *scopes: str) -> str:
        """A registry token for these scopes, or the one from before."""
        return self.former_token or gateway.token(*scopes, auth=self.login)


def assemble(gateway: Served, place: Place, scopes: tuple[str, ...]) -> dict[str, Person]:
    """Make them all, with their roles on `place`; whoever is refused later got a token for `scopes` while he could."""
    people = {"anonymous": Person("anonymous", None)}
    for role in ("reader", "writer", "maintainer"):
        people[role] = Person(role, make_user(gateway))
        grant(gateway, _login(people[role]), role, place)
    people["owner"] = Person("owner", make_user(gateway))
    grant(gateway, _login(people["owner"]), "admin", place.project)
    people["outsider"] = Person("outsider", make_user(gateway))
    people["auditor"] = Person("auditor", make_user(gateway, is_auditor=True))
    people["admin"] = Person("admin", make_user(gateway, is_admin=True))
    people["pull robot"] = Person("pull robot", make_robot(gateway, ("maintainer", place), actions=["pull"]))
    limited = make_token(gateway, _login(people["maintainer"]), actions=["pull"])
    people["pull token"] = Person("pull token", limited)
    people["wrong password"] = Person("wrong password", (_login(people["admin"])[0], "wrong"), former_token="wrong")
    return people | _refused_by_now(gateway, place, scopes)


def _refused_by_now(gateway: Served, place: Place, scopes: tuple[str, ...]) -> dict[str, Person]:
    user = make_user(gateway)
    grant(gateway, user, "maintainer", place)
    disabled = Person("disabled", user, gateway.token(*scopes, auth=user))
    change(gateway, f"users/{user[0]}", {"is_enabled": False})

    name = make(gateway, "robots", {"name": f"{user[0]}-robot"})["name"]
    grant(gateway, name, "maintainer", place)
    key = make(gateway, f"robots/{name}/keys", {"lifetime_s": 2})["secret"]
    expired = Person("expired robot", (name, key), gateway.token(*scopes, auth=(name, key)))
    deadline = time.monotonic() + 30
    while gateway.request("GET", "/v2/", auth=(name, key)).status != 401:
        assert time.monotonic() < deadline
    return {"disabled": disabled, "expired robot": expired}


def _login(person: Person) -> Login:
    assert person.login is not None
    return person.login
