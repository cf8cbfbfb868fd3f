"""The caller, once authenticated: whose account it is, and what narrows it. Decides nothing: `rights` does.

Three things narrow an account, and each can only take away: the limits of the credential it came by, the access list
of a registry token, and time (checked at authentication).
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from gateway.access.actions import Action
from storage import AccountRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a credential narrows its account to. `None` in a field narrows nothing; the fields hold together (and)."""

    actions: frozenset[Action] | None = None
    repository_ids: frozenset[int] | None = None
    project_ids: frozenset[int] | None = None
    epoch: int | None = None
    """For refresh tokens: the account's epoch that they belong to; any other epoch has ended them."""

    @property
    def is_unlimited(self) -> bool:
        """Whether the credential can do all that its account can."""
        return self.actions is None and self.repository_ids is None and self.project_ids is None

    def allows_place(self, *, project_id: int, repository_id: int | None) -> bool:
        """Whether the credential reaches a repository, or a project as such where `repository_id` is None."""
        if self.project_ids is not None and project_id not in self.project_ids:
            return False
        return self.repository_ids is None or repository_id in self.repository_ids

    def narrowed_by(self, other: "Limits") -> "Limits":
        """What both allow. The epoch stays this one's: it says when the credential ends, not what it may do."""
        return Limits(
            actions=_both(self.actions, other.actions),
            repository_ids=_both(self.repository_ids, other.repository_ids),
            project_ids=_both(self.project_ids, other.project_ids),
            epoch=self.epoch,
        )

    def to_json(self) -> str | None:
        """The text for a credential's row; None when there is nothing to say."""
        document: dict[str, Any] = {}
        if self.actions is not None:
            document["actions"] = sorted(self.actions)
        if self.repository_ids is not None:
            document["repository_ids"] = sorted(self.repository_ids)
        if self.project_ids is not None:
            document["project_ids"] = sorted(self.project_ids)
        if self.epoch is not None:
            document["epoch"] = self.epoch
        return json.dumps(document, separators=(",", ":")) if document else None

    @classmethod
    def from_json(cls, text: str | None) -> "Limits":
        """Read a row's text. `ValueError` for anything not understood: an unknown narrowing must not be ignored."""
        if text is None:
            return NO_LIMITS
        document = json.loads(text)
        if not isinstance(document, dict) or document.keys() - _FIELDS:
            raise ValueError("limits of a credential that this version does not understand")
        return cls(
            actions=None if (names := document.get("actions")) is None else frozenset(map(Action, names)),
            repository_ids=_ids(document.get("repository_ids")),
            project_ids=_ids(document.get("project_ids")),
            epoch=document.get("epoch"),
        )


_FIELDS: Final = {"actions", "repository_ids", "project_ids", "epoch"}
NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class TokenAccess:
    """One entry of a registry token: these acts on the image with the full name `name`, in that repository.

    Its full name, whatever it was called when the token was asked for: the same image may be asked for by another way,
    and another image by the same name. The id makes the entry die with the repository, even if another is made under
    the same name (security row A15). An entry without actions has the name that was asked for.
    """

    name: str
    repository_id: int
    actions: frozenset[Action]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. `account` is None for anonymous callers.

    `token_access` is None unless the caller came by a registry token, which narrows everything to its entries.
    `catalog` says whether the way of authentication reaches the catalog: a token needs `registry:catalog:*`.
    `valid_until`, in Unix seconds: authentication comes to the same result before that instant, unless rows change; at
    it, account, credential or token has expired.
    """

    account: AccountRecord | None
    limits: Limits = NO_LIMITS
    credential_id: int | None = None
    token_access: tuple[TokenAccess, ...] | None = None
    catalog: bool = True
    valid_until: float = field(default=math.inf, compare=False)

    @property
    def came_by_secret(self) -> bool:
        """Whether the caller showed the credential itself, not a registry token that was exchanged for it."""
        return self.credential_id is not None and self.token_access is None

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody is behind this caller, with or without a token."""
        return self.account is None

    def never_asked_for(self, name: str) -> bool:
        """Whether the caller came by a registry token that does not mention this image: a new one may help."""
        return self.token_access is not None and all(entry.name != name for entry in self.token_access)

    @property
    def name(self) -> str:
        """The account's name for logs and the audit; no right may hang on it."""
        return "" if self.account is None else self.account.name


ANONYMOUS: Final = Principal(account=None, catalog=False)


def _both(left: frozenset[T] | None, right: frozenset[T] | None) -> frozenset[T] | None:
    if left is None or right is None:
        return left if right is None else right
    return left & right


def _ids(values: Iterable[Any] | None) -> frozenset[int] | None:
    if values is None:
        return None
    found = frozenset(values)
    if not all(type(value) is int for value in found):
        raise ValueError("limits of a credential name things by integer ids")
    return found
