"""The acts that can be allowed on a repository, and the roles that bundle them. Pure vocabulary."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Action(StrEnum):
    """One kind of act on a repository. The first three are those of registry tokens (row TOK-04)."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    CONFIGURE = "configure"
    """Change the repository's settings, make and remove repositories in a project."""
    GRANT = "grant"
    """Give and take roles."""


class Role(StrEnum):
    """What an account is to a project or a repository; each role can do all that the one before can."""

    READER = "reader"
    WRITER = "writer"
    MAINTAINER = "maintainer"
    ADMIN = "admin"


NO_ACTIONS: Final[frozenset[Action]] = frozenset()
ALL_ACTIONS: Final = frozenset(Action)
TOKEN_ACTIONS: Final = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
"""What a registry token can carry: never management."""

_READER = frozenset({Action.PULL})
_WRITER = _READER | {Action.PUSH}
_MAINTAINER = _WRITER | {Action.DELETE, Action.CONFIGURE}

ROLE_ACTIONS: Final[Mapping[Role, frozenset[Action]]] = MappingProxyType(
    {Role.READER: _READER, Role.WRITER: _WRITER, Role.MAINTAINER: _MAINTAINER, Role.ADMIN: _MAINTAINER | {Action.GRANT}}
)
