"""The route table: what the management API answers, to whom, in which shapes. What is not here does not exist.

Dispatch, the OpenAPI document and the authorisation matrix of the tests are made from it.
"""

from functools import cache
from typing import Any, Final

from gateway.api import (
    grants,
    health,
    metrics,
    openapi,
    projects,
    repositories,
    robots,
    tokens,
    upstreams,
    users,
    warming,
)
from gateway.api.listing import Page
from gateway.api.needs import Need
from gateway.api.repository_models import (
    RepositoryChange,
    RepositoryCreate,
    RepositoryList,
    RepositoryPage,
    RepositoryView,
)
from gateway.api.route import Route
from gateway.api.secret_views import NewSecret, SecretCreate, SecretList
from gateway.api.services import Ask, Reply


async def _describe(ask: Ask) -> Reply:  # noqa: ARG001  # all handlers have one shape
    """What the management API offers, as an OpenAPI document."""
    return Reply(_description())


@cache
def _description() -> dict[str, Any]:
    return openapi.document(ROUTES)


_API: Final = "/api/v1"
_PROJECT: Final = f"{_API}/projects/{{project}}"
_REPOSITORY: Final = f"{_API}/repos/{{project}}/{{repository}}"
_USER: Final = f"{_API}/users/{{user}}"
_ROBOT: Final = f"{_API}/robots/{{robot}}"

_HEALTH: Final = (
    Route("GET", "/health", "health.ready", health.ready, Need.NOTHING, answer=health.HealthView),
    Route("GET", "/health/live", "health.live", health.live, Need.NOTHING, answer=health.HealthView),
    Route("GET", f"{_API}/openapi.json", "openapi.get", _describe, Need.NOTHING),
)

_METRICS: Final = (Route("GET", "/metrics", "metrics.get", metrics.get, Need.AUDITOR),)

_REPOSITORIES: Final = (
    Route(
        "GET",
        f"{_API}/repos",
        "repository.list",
        repositories.list_all,
        Need.ACCOUNT,
        query=RepositoryPage,
        answer=RepositoryList,
    ),
    Route(
        "POST",
        f"{_API}/repos",
        "repository.create",
        repositories.create,
        Need.ACCOUNT,
        body=RepositoryCreate,
        answer=RepositoryView,
        status=201,
    ),
    Route(
        "GET",
        _REPOSITORY,
        "repository.get",
        repositories.get,
        Need.SEE_REPOSITORY,
        answer=RepositoryView,
    ),
    Route(
        "PATCH",
        _REPOSITORY,
        "repository.change",
        repositories.change,
        Need.CONFIGURE_REPOSITORY,
        body=RepositoryChange,
        answer=RepositoryView,
    ),
    Route("DELETE", _REPOSITORY, "repository.delete", repositories.delete, Need.REMOVE_REPOSITORY, status=204),
)

_UPSTREAMS: Final = (
    Route(
        "GET",
        f"{_REPOSITORY}/upstream",
        "upstream.get",
        upstreams.status,
        Need.SEE_UPSTREAM,
        answer=upstreams.UpstreamStatusView,
    ),
    Route(
        "DELETE",
        f"{_REPOSITORY}/cache",
        "cache.clear",
        upstreams.clear_cache,
        Need.CONFIGURE_REPOSITORY,
        query=upstreams.ClearQuery,
        answer=upstreams.ClearedView,
    ),
    Route(
        "GET",
        f"{_REPOSITORY}/warm",
        "warm_up.list",
        warming.list_all,
        Need.SEE_UPSTREAM,
        query=Page,
        answer=warming.WarmUpList,
    ),
    Route(
        "POST",
        f"{_REPOSITORY}/warm",
        "warm_up.begin",
        warming.begin,
        Need.CONFIGURE_REPOSITORY,
        body=warming.WarmUpCreate,
        answer=warming.WarmUpView,
        status=201,
    ),
    Route(
        "GET",
        f"{_REPOSITORY}/warm/{{warm_up}}",
        "warm_up.get",
        warming.get,
        Need.SEE_UPSTREAM,
        answer=warming.WarmUpView,
    ),
)

_PROJECTS: Final = (
    Route(
        "GET",
        f"{_API}/projects",
        "project.list",
        projects.list_all,
        Need.ACCOUNT,
        query=Page,
        answer=projects.ProjectList,
    ),
    Route(
        "POST",
        f"{_API}/projects",
        "project.create",
        projects.create,
        Need.ADMIN,
        body=projects.ProjectCreate,
        answer=projects.ProjectView,
        status=201,
    ),
    Route("GET", _PROJECT, "project.get", projects.get, Need.SEE_PROJECT, answer=projects.ProjectView),
    Route(
        "PATCH",
        _PROJECT,
        "project.change",
        projects.change,
        Need.CONFIGURE_PROJECT,
        body=projects.ProjectChange,
        answer=projects.ProjectView,
    ),
    Route("DELETE", _PROJECT, "project.delete", projects.delete, Need.MANAGE_PROJECT, status=204),
)


def _grants(at: str, kind: str, *, see: Need, give: Need) -> tuple[Route, ...]:
    return (
        Route("GET", f"{at}/grants", f"{kind}.list", grants.list_all, see, query=Page, answer=grants.GrantList),
        Route(
            "PUT",
            f"{at}/grants/{{account}}",
            f"{kind}.put",
            grants.put,
            give,
            body=grants.GrantPut,
            answer=grants.GrantView,
        ),
        Route("DELETE", f"{at}/grants/{{account}}", f"{kind}.delete", grants.delete, give, status=204),
    )


_USERS: Final = (
    Route("GET", f"{_API}/users", "user.list", users.list_all, Need.AUDITOR, query=Page, answer=users.UserList),
    Route(
        "POST",
        f"{_API}/users",
        "user.create",
        users.create,
        Need.ADMIN,
        body=users.UserCreate,
        answer=users.UserView,
        status=201,
    ),
    Route("GET", _USER, "user.get", users.get, Need.SEE_USER, answer=users.UserView),
    Route(
        "PATCH",
        _USER,
        "user.change",
        users.change,
        Need.CHANGE_USER,
        body=users.UserChange,
        answer=users.UserView,
    ),
    Route("DELETE", _USER, "user.delete", users.delete, Need.MANAGE_USER, status=204),
)

_ROBOTS: Final = (
    Route(
        "GET",
        f"{_API}/robots",
        "robot.list",
        robots.list_all,
        Need.ACCOUNT,
        query=robots.RobotPage,
        answer=robots.RobotList,
    ),
    Route(
        "POST",
        f"{_API}/robots",
        "robot.create",
        robots.create,
        Need.ACCOUNT,
        body=robots.RobotCreate,
        answer=robots.RobotView,
        status=201,
    ),
    Route("GET", _ROBOT, "robot.get", robots.get, Need.SEE_ROBOT, answer=robots.RobotView),
    Route(
        "PATCH",
        _ROBOT,
        "robot.change",
        robots.change,
        Need.MANAGE_ROBOT,
        body=robots.RobotChange,
        answer=robots.RobotView,
    ),
    Route("DELETE", _ROBOT, "robot.delete", robots.delete, Need.MANAGE_ROBOT, status=204),
    Route("GET", f"{_ROBOT}/keys", "robot_key.list", robots.list_keys, Need.SEE_ROBOT, query=Page, answer=SecretList),
    Route(
        "POST",
        f"{_ROBOT}/keys",
        "robot_key.create",
        robots.create_key,
        Need.MANAGE_ROBOT,
        body=SecretCreate,
        answer=NewSecret,
        status=201,
    ),
    Route("DELETE", f"{_ROBOT}/keys/{{key}}", "robot_key.delete", robots.delete_key, Need.MANAGE_ROBOT, status=204),
)

_TOKENS: Final = (
    Route(
        "GET",
        f"{_API}/tokens",
        "token.list",
        tokens.list_all,
        Need.OWNER,
        query=tokens.TokenPage,
        answer=SecretList,
    ),
    Route(
        "POST",
        f"{_API}/tokens",
        "token.create",
        tokens.create,
        Need.OWNER,
        body=SecretCreate,
        answer=NewSecret,
        status=201,
    ),
    Route("DELETE", f"{_API}/tokens/{{token}}", "token.delete", tokens.delete, Need.OWNER, status=204),
)

ROUTES: Final[tuple[Route, ...]] = (
    *_HEALTH,
    *_METRICS,
    *_REPOSITORIES,
    *_UPSTREAMS,
    *_grants(_REPOSITORY, "repository_grant", see=Need.SEE_REPOSITORY_GRANTS, give=Need.GRANT_REPOSITORY),
    *_PROJECTS,
    *_grants(_PROJECT, "project_grant", see=Need.SEE_PROJECT_GRANTS, give=Need.GRANT_PROJECT),
    *_USERS,
    *_ROBOTS,
    *_TOKENS,
)
