"""May they? The one place where rights are computed, live from rows, inside the caller's transaction.

    rights = (roles on the repository and its project; admin: all; auditor: pull; anonymous read: pull for everybody)
             ∩ limits of the credential ∩ the entry of the registry token, if the caller came by one

Every factor after the first can only take away. No right hangs on a name: accounts and repositories count by id.

A virtual repository holds nothing of its own to write to: pushing there is the right to push to the member that takes
its pushes, for whoever has any right on the view. Reading it is a right of its own, and says nothing of its members.
"""

from collections.abc import Iterable
from typing import Final

from gateway.access.actions import ALL_ACTIONS, NO_ACTIONS, ROLE_ACTIONS, Action, Role
from gateway.access.principal import Limits, Principal
from gateway.repositories import routing
from storage import AccountRecord, ProjectRecord, RepositoryRecord, Transaction
from storage.metadata import grants, repositories

EVERYBODY: Final = 0
"""For `readable_by` of listings: an account that has no grants (ids begin at 1), so what anonymous read leaves."""

_NO_REPOSITORY: Final = 0
_PULL: Final = frozenset({Action.PULL})
_PUSH: Final = frozenset({Action.PUSH})
_PAGE: Final = 1000


def rights(tx: Transaction, principal: Principal, repository: RepositoryRecord, name: str | None) -> frozenset[Action]:
    """What the caller may do now on the image `name`, which is in `repository`.

    `name` is the image's full name (`project/repository/image`), whatever the client called it. A caller with a
    registry token has what the token's entry for that very name *and* that repository's id leaves (rows ACC-09 and
    A15), so with `name` None, the repository as a whole, nothing.
    """
    named = ALL_ACTIONS if principal.token_access is None else _by_token(principal, repository, name)
    return named & own_rights(tx, principal, repository) if named else NO_ACTIONS


def own_rights(tx: Transaction, principal: Principal, repository: RepositoryRecord) -> frozenset[Action]:
    """What the account may do now in the whole repository, within its credential's limits.

    Whatever image a registry token names: for what a request leads on to.
    """
    allowed = _within_limits(principal.limits, project_id=repository.project_id, repository_id=repository.id)
    held = _held(tx, principal.account, repository) if allowed else NO_ACTIONS
    if held and repository.repository_type == routing.VIRTUAL and principal.account is not None:
        target = routing.destination(tx, repository, None)
        if target is not None:  # else whoever holds the right here is told that nobody takes pushes
            held = (held - _PUSH) | (_PUSH & own_rights(tx, principal, target.record))
    return allowed & held


def project_rights(tx: Transaction, principal: Principal, project: ProjectRecord) -> frozenset[Action]:
    """What the caller may do now in the whole project; nothing with a registry token, which names images only."""
    account = principal.account
    if account is None or principal.token_access is not None:
        return NO_ACTIONS
    allowed = _within_limits(principal.limits, project_id=project.id, repository_id=None)
    if account.is_admin:
        return allowed
    held = _PULL if account.is_auditor else NO_ACTIONS
    return allowed & (held | _granted(tx, account, project_id=project.id, repository_id=_NO_REPOSITORY))


def manages_project(
    tx: Transaction, principal: Principal, project: ProjectRecord, *, action: Action = Action.CONFIGURE
) -> bool:
    """Whether the caller may make, change and remove repositories there (CONFIGURE) or give roles (GRANT)."""
    return action in project_rights(tx, principal, project)


def is_admin(principal: Principal) -> bool:
    """Whether the caller manages the installation: an admin who came with nothing that narrows."""
    return principal.account is not None and principal.account.is_admin and _is_whole(principal)


def is_auditor(principal: Principal) -> bool:
    """Whether the caller may see all settings and accounts (never a secret): an auditor or admin, not narrowed."""
    account = principal.account
    return account is not None and (account.is_auditor or account.is_admin) and _is_whole(principal)


def may_read_catalog(principal: Principal) -> bool:
    """Whether the caller may list image names (row ACC-07); the list is still filtered by `readable_repositories`."""
    return not principal.is_anonymous and principal.catalog and _may_pull(principal.limits)


def sees_everything(principal: Principal) -> bool:
    """Whether the account may pull from every repository, so that telling "there is none" tells it nothing new.

    Asks account and credential, not the registry token: a client of theirs could get a token for any name.
    """
    account, limits = principal.account, principal.limits
    if account is None or not (account.is_admin or account.is_auditor):
        return False
    return _may_pull(limits) and limits.repository_ids is None and limits.project_ids is None


def visible_to(principal: Principal) -> int | None:
    """The `readable_by` for listings of projects and repositories: None leaves nothing out, `EVERYBODY` is for guests.

    A credential may be limited to places, which SQL does not know: drop what `limits.allows_place` denies.
    """
    if principal.token_access is not None or principal.account is None or not _may_pull(principal.limits):
        return EVERYBODY
    return None if sees_everything(principal) else principal.account.id


def readable_repositories(tx: Transaction, principal: Principal) -> Iterable[int] | None:
    """Ids of the repositories whose image names the caller may list; None for all. For a survey, with the catalog."""
    if not may_read_catalog(principal) or principal.account is None:
        return ()
    if sees_everything(principal):
        return None
    account, limits = principal.account, principal.limits
    if account.project_id is None and limits.repository_ids is None and limits.project_ids is None:
        return grants.readable_ids(tx, account.id)
    return [
        each.id
        for each in _readable(tx, account)
        if limits.allows_place(project_id=each.project_id, repository_id=each.id)
        and (each.anonymous_read or _is_at_home(account, each.project_id))
    ]


# --- the factors -----------------------------------------------------------------------------------------------------


def _held(tx: Transaction, account: AccountRecord | None, repository: RepositoryRecord) -> frozenset[Action]:
    """What the account itself may do there."""
    public = _PULL if repository.anonymous_read else NO_ACTIONS
    if account is None:
        return public
    if account.is_admin:
        return ALL_ACTIONS
    held = _PULL if account.is_auditor else public
    return held | _granted(tx, account, project_id=repository.project_id, repository_id=repository.id)


def _granted(tx: Transaction, account: AccountRecord, *, project_id: int, repository_id: int) -> frozenset[Action]:
    """By roles; a role that only a newer version knows gives nothing."""
    if not _is_at_home(account, project_id):
        return NO_ACTIONS
    names = grants.roles(tx, account.id, repository_id=repository_id, project_id=project_id)
    return NO_ACTIONS.union(*(ROLE_ACTIONS[role] for role in Role if role in names))


def _is_at_home(account: AccountRecord, project_id: int) -> bool:
    """A robot of a project has no role outside it, whatever rows say."""
    return account.project_id is None or account.project_id == project_id


def _within_limits(limits: Limits, *, project_id: int, repository_id: int | None) -> frozenset[Action]:
    if not limits.allows_place(project_id=project_id, repository_id=repository_id):
        return NO_ACTIONS
    return ALL_ACTIONS if limits.actions is None else limits.actions


def _by_token(principal: Principal, repository: RepositoryRecord, name: str | None) -> frozenset[Action]:
    fitting = (
        entry.actions
        for entry in principal.token_access or ()
        if entry.repository_id == repository.id and entry.name == name
    )
    return NO_ACTIONS.union(*fitting)


def _is_whole(principal: Principal) -> bool:
    return principal.limits.is_unlimited and principal.token_access is None


def _may_pull(limits: Limits) -> bool:
    return limits.actions is None or Action.PULL in limits.actions


def _readable(tx: Transaction, account: AccountRecord) -> Iterable[RepositoryRecord]:
    readable_by = None if account.is_admin or account.is_auditor else account.id
    after = ""
    while page := repositories.page(tx, project=None, after=after, limit=_PAGE, readable_by=readable_by):
        yield from page
        after = page[-1].full_name
