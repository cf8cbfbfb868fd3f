"""The OpenAPI document says what the routes do: every route, every shape, and nothing that leads nowhere."""

from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are another distribution
import pytest

from gateway.api import openapi
from gateway.api.needs import Need
from gateway.api.routes import ROUTES
from tests.gateway.api.installation import REPOSITORY, Installation


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of the whole table."""
    return openapi.document(ROUTES)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inside in value.values():
            yield from _references(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _references(inside)


def test_every_route_is_in_it_and_nothing_else(document: dict[str, Any]) -> None:
    """Paths and methods are those of the table."""
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}

    assert described == {(route.method, route.path) for route in ROUTES}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """Nested models are defined in the document itself."""
    references = set(_references(document))

    assert references
    assert {each.removeprefix("#/components/schemas/") for each in references} <= set(document["components"]["schemas"])


def test_every_operation_says_what_it_is_for(document: dict[str, Any]) -> None:
    """A name of its own, a summary, who may use it, and whether it takes credentials."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]

    assert len({operation["operationId"] for operation in operations}) == len(ROUTES)
    assert all(operation["summary"] and operation["description"] for operation in operations)
    public = {operation["operationId"] for operation in operations if not operation["security"]}
    assert public == {route.act.replace(".", "_") for route in ROUTES if route.need is Need.NOTHING}


def test_no_answer_but_a_new_secret_has_one(document: dict[str, Any]) -> None:
    """The one place where a secret is shown is the answer that made it (security row A28)."""
    schemas = document["components"]["schemas"]
    telling = {"secret", "password", "password_hash", "secret_hash", "token", "key", "current_password"}
    answers = {
        name for name, schema in schemas.items() if set(schema.get("properties", {})) & telling and "View" in name
    }
    found = {name for name, schema in schemas.items() if "secret" in schema.get("properties", {})}

    assert answers == set()
    assert found == {"NewSecret"}


async def test_what_is_answered_fits_the_document(installation: Installation, document: dict[str, Any]) -> None:
    """Real answers pass the schemas that clients would generate code from."""
    asked = {
        "/api/v1/repos": "RepositoryList",
        f"/api/v1/repos/{REPOSITORY}": "RepositoryView",
        "/api/v1/projects": "ProjectList",
        "/api/v1/users": "UserList",
        "/api/v1/robots": "RobotList",
        "/api/v1/projects/team/grants": "GrantList",
        "/health": "HealthView",
    }
    await installation.services.accounts.create_robot("ci")
    for path, name in asked.items():
        reply = await installation.call("GET", path)
        jsonschema.validate(reply.value, {"$ref": f"#/components/schemas/{name}", **document})
    refused = await installation.call("GET", "/api/v1/nothing")
    jsonschema.validate(refused.value, {"$ref": "#/components/schemas/Errors", **document})


async def test_it_is_served_to_everybody(installation: Installation, document: dict[str, Any]) -> None:
    """Without credentials, as generators of clients want it."""
    served = await installation.call("GET", "/api/v1/openapi.json", auth=None)

    assert (served.status, served.value) == (200, document)
