"""The OpenAPI 3.1 document, made from the route table and the models that check and write the bodies themselves."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.api.fields import Query
from gateway.api.needs import Need
from gateway.api.route import Route

_REF: Final = "#/components/schemas/{model}"
_JSON: Final = "application/json"
_ERRORS: Final = "Errors"
_ERRORS_SCHEMA: Final = {
    "type": "object",
    "description": "Why a request was refused; one entry for each thing that is wrong.",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string", "examples": ["VALIDATION"]},
                    "field": {"type": "string", "description": "The field at fault, empty for the request as a whole."},
                    "message": {"type": "string"},
                },
            },
        }
    },
}
_SECURITY: Final = {
    "basic": {"type": "http", "scheme": "basic", "description": "User and password, or any name and a secret."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "A personal token or a robot's key."},
}

Schema = dict[str, Any]


def document(routes: Sequence[Route]) -> Schema:
    """The document as JSON would hold it."""
    names, definitions = _schemas(routes)
    paths: dict[str, Schema] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice management API",
            "version": "1",
            "description": "Projects, repositories, accounts and roles. Images are moved by the registry API at /v2.",
        },
        "paths": paths,
        "components": {"schemas": {**definitions, _ERRORS: _ERRORS_SCHEMA}, "securitySchemes": _SECURITY},
    }


_Key = tuple[type[BaseModel], JsonSchemaMode]


def _schemas(routes: Sequence[Route]) -> tuple[Mapping[_Key, Schema], Mapping[str, Schema]]:
    """For each model the reference to its schema, and all schemas by name."""
    wanted: dict[_Key, None] = {}
    for route in routes:
        if route.body is not None:
            wanted[route.body, "validation"] = None
        if route.answer is not None:
            wanted[route.answer, "serialization"] = None
    names, collected = models_json_schema(list(wanted), ref_template=_REF)
    return {key: names[key] for key in wanted}, collected.get("$defs", {})


def _operation(route: Route, names: Mapping[_Key, Schema]) -> Schema:
    operation: Schema = {
        "operationId": route.act.replace(".", "_"),
        "tags": [route.act.partition(".")[0]],
        "summary": _first_line(route.handler),
        "description": f"For {route.need.who}.",
        "parameters": [*_path_parameters(route), *_query_parameters(route.query)],
        "responses": _responses(route, names),
        "security": [] if route.need is Need.NOTHING else [{"basic": []}, {"bearer": []}],
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": names[route.body, "validation"]}}}
    return operation


def _first_line(described: object) -> str:
    return (described.__doc__ or "").strip().partition("\n")[0]


def _path_parameters(route: Route) -> list[Schema]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters]


def _query_parameters(query: type[Query] | None) -> list[Schema]:
    if query is None:
        return []
    properties: dict[str, Schema] = query.model_json_schema()["properties"]
    return [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in properties.items()]


def _responses(route: Route, names: Mapping[_Key, Schema]) -> Schema:
    success: Schema = {"description": HTTPStatus(route.status).phrase}
    if route.answer is not None:
        success["content"] = {_JSON: {"schema": names[route.answer, "serialization"]}}
    refused = {"description": "Refused", "content": {_JSON: {"schema": {"$ref": _REF.format(model=_ERRORS)}}}}
    return {str(route.status): success, "4XX": refused, "5XX": refused}
