"""What a route needs of its caller, and the check of it: one function for all routes, before any body is read.

Rights themselves are computed in `gateway.access.rights`, live, in the snapshot that finds what the path names. Who may
not even see a thing gets the answer of a thing that does not exist; who sees it and lacks the right is told which.
"""

import enum
from collections.abc import Callable, Mapping
from typing import Final

from gateway.access.account_names import ROBOT, USER, parse_robot_name
from gateway.access.actions import Action
from gateway.access.errors import InvalidField
from gateway.access.principal import Principal
from gateway.access.rights import is_admin, is_auditor, manages_project, project_rights, rights
from gateway.api.errors import denied, not_found, unauthorized
from gateway.api.listing import visible_repositories
from gateway.api.services import Subject
from storage import AccountRecord, ProjectRecord, Transaction
from storage.metadata import accounts, projects, repositories


class Need(enum.Enum):
    """Who may use a route; `who` says it in words."""

    NOTHING = enum.auto()
    ACCOUNT = enum.auto()
    OWNER = enum.auto()
    AUDITOR = enum.auto()
    ADMIN = enum.auto()
    SEE_USER = enum.auto()
    CHANGE_USER = enum.auto()
    MANAGE_USER = enum.auto()
    SEE_ROBOT = enum.auto()
    MANAGE_ROBOT = enum.auto()
    SEE_PROJECT = enum.auto()
    MANAGE_PROJECT = enum.auto()
    CONFIGURE_PROJECT = enum.auto()
    SEE_PROJECT_GRANTS = enum.auto()
    GRANT_PROJECT = enum.auto()
    SEE_REPOSITORY = enum.auto()
    CONFIGURE_REPOSITORY = enum.auto()
    SEE_REPOSITORY_GRANTS = enum.auto()
    GRANT_REPOSITORY = enum.auto()
    SEE_UPSTREAM = enum.auto()
    REMOVE_REPOSITORY = enum.auto()

    @property
    def who(self) -> str:
        """Whom the need lets in."""
        return _WHO[self]


_WHO: Final[Mapping[Need, str]] = {
    Need.NOTHING: "everybody",
    Need.ACCOUNT: "every account; the answer holds what it may see",
    Need.OWNER: "every user, with a credential that is not limited",
    Need.AUDITOR: "auditors and admins",
    Need.ADMIN: "admins",
    Need.SEE_USER: "the user itself, auditors and admins",
    Need.CHANGE_USER: "the user itself and admins",
    Need.MANAGE_USER: "admins",
    Need.SEE_ROBOT: "admins of the robot's project, auditors and admins",
    Need.MANAGE_ROBOT: "admins of the robot's project, and admins",
    Need.SEE_PROJECT: "whoever has a role in the project or can read a repository of it",
    Need.MANAGE_PROJECT: "admins",
    Need.CONFIGURE_PROJECT: "maintainers of the project",
    Need.SEE_PROJECT_GRANTS: "admins of the project, and auditors",
    Need.GRANT_PROJECT: "admins of the project",
    Need.SEE_REPOSITORY: "whoever can read the repository",
    Need.CONFIGURE_REPOSITORY: "maintainers of the repository",
    Need.SEE_REPOSITORY_GRANTS: "admins of the repository, and auditors",
    Need.GRANT_REPOSITORY: "admins of the repository",
    Need.SEE_UPSTREAM: "maintainers of the repository, and auditors",
    Need.REMOVE_REPOSITORY: "maintainers of the project",
}


def require_account(principal: Principal) -> None:
    """401 for anonymous callers and for registry tokens, which are for images only."""
    if principal.is_anonymous:
        raise unauthorized("authentication required")
    if principal.token_access is not None:
        raise unauthorized("a registry token manages nothing: use a password or a personal token")


def admit(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:
    """Find what the path names and check the need; raises `Refused` 403 or 404."""
    return _CHECKS[need](tx, principal, need, path)


_Check = Callable[[Transaction, Principal, Need, Mapping[str, str]], Subject]


def _anybody(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:  # noqa: ARG001
    return Subject(account_found=principal.account)


def _by_standing(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:  # noqa: ARG001
    """Needs that depend on the caller alone."""
    account = principal.account
    allowed = {
        Need.OWNER: account is not None and account.kind == USER and principal.limits.is_unlimited,
        Need.AUDITOR: is_auditor(principal),
        Need.ADMIN: is_admin(principal),
    }[need]
    if not allowed:
        raise denied(f"this is for {need.who}")
    return Subject(account_found=account)


def _by_user(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:
    found = accounts.find(tx, path["user"])
    user = found if found is not None and found.kind == USER else None
    itself = _is_itself(principal, user)
    if user is None or not (itself or is_auditor(principal)):
        raise not_found()
    if need is Need.CHANGE_USER and not (itself or is_admin(principal)):
        raise denied(f"this is for {need.who}")
    if need is Need.MANAGE_USER and not is_admin(principal):
        raise denied(f"this is for {need.who}")
    return Subject(account_found=user)


def _is_itself(principal: Principal, user: AccountRecord | None) -> bool:
    """Whether the caller is that user, and came with nothing that narrows."""
    me = principal.account
    return me is not None and user is not None and me.id == user.id and principal.limits.is_unlimited


def _by_robot(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:
    try:
        found = accounts.find(tx, parse_robot_name(path["robot"]))
    except InvalidField:
        raise not_found() from None
    robot = found if found is not None and found.kind == ROBOT else None
    project = projects.get(tx, robot.project_id) if robot is not None and robot.project_id is not None else None
    manages = is_admin(principal) or (
        project is not None and manages_project(tx, principal, project, action=Action.GRANT)
    )
    if robot is None or not (manages or is_auditor(principal)):
        raise not_found()
    if need is Need.MANAGE_ROBOT and not manages:
        raise denied(f"this is for {need.who}")
    return Subject(project_found=project, account_found=robot)


def _by_project(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:
    project = projects.find(tx, path["project"])
    if project is None or not sees_project(tx, principal, project):
        raise not_found()
    held = project_rights(tx, principal, project)
    allowed = {
        Need.SEE_PROJECT: True,
        Need.MANAGE_PROJECT: is_admin(principal),
        Need.CONFIGURE_PROJECT: Action.CONFIGURE in held,
        Need.GRANT_PROJECT: Action.GRANT in held,
        Need.SEE_PROJECT_GRANTS: Action.GRANT in held or is_auditor(principal),
    }[need]
    if not allowed:
        raise denied(f"this is for {need.who}")
    return Subject(project_found=project)


def sees_project(tx: Transaction, principal: Principal, project: ProjectRecord) -> bool:
    """Whether the caller may know of the project: by a right in it, or by a repository of it that it can read."""
    if project_rights(tx, principal, project):
        return True
    return bool(visible_repositories(tx, principal, project=project.name, after="", limit=1))


def _by_repository(tx: Transaction, principal: Principal, need: Need, path: Mapping[str, str]) -> Subject:
    repository = repositories.find(tx, path["project"], path["repository"])
    held = rights(tx, principal, repository, None) if repository is not None else frozenset()
    if repository is None or Action.PULL not in held:
        raise not_found()
    project = projects.get(tx, repository.project_id)
    allowed = {
        Need.SEE_REPOSITORY: True,
        Need.CONFIGURE_REPOSITORY: Action.CONFIGURE in held,
        Need.GRANT_REPOSITORY: Action.GRANT in held,
        Need.SEE_REPOSITORY_GRANTS: Action.GRANT in held or is_auditor(principal),
        Need.SEE_UPSTREAM: Action.CONFIGURE in held or is_auditor(principal),
        Need.REMOVE_REPOSITORY: project is not None and manages_project(tx, principal, project),
    }[need]
    if not allowed:
        raise denied(f"this is for {need.who}")
    return Subject(project_found=project, repository_found=repository)


_CHECKS: Final[Mapping[Need, _Check]] = {
    Need.NOTHING: _anybody,
    Need.ACCOUNT: _anybody,
    Need.OWNER: _by_standing,
    Need.AUDITOR: _by_standing,
    Need.ADMIN: _by_standing,
    Need.SEE_USER: _by_user,
    Need.CHANGE_USER: _by_user,
    Need.MANAGE_USER: _by_user,
    Need.SEE_ROBOT: _by_robot,
    Need.MANAGE_ROBOT: _by_robot,
    Need.SEE_PROJECT: _by_project,
    Need.MANAGE_PROJECT: _by_project,
    Need.CONFIGURE_PROJECT: _by_project,
    Need.SEE_PROJECT_GRANTS: _by_project,
    Need.GRANT_PROJECT: _by_project,
    Need.SEE_REPOSITORY: _by_repository,
    Need.CONFIGURE_REPOSITORY: _by_repository,
    Need.SEE_REPOSITORY_GRANTS: _by_repository,
    Need.GRANT_REPOSITORY: _by_repository,
    Need.SEE_UPSTREAM: _by_repository,
    Need.REMOVE_REPOSITORY: _by_repository,
}
