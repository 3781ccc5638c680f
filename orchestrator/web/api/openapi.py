"""`/openapi.json`, built from the table of operations, which also validates the requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.web.api.operations import ApiCall, Operation
from orchestrator.web.api.response_model import Problem

_REF = "#/components/schemas/{model}"
_PARAMETER_SCHEMAS: dict[str, dict[str, Any]] = {
    "customer": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "space": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "batch": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "job": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "strategy": {"type": "string", "format": "uuid"},
    "key": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    "image": {"type": "string", "minLength": 1, "maxLength": 220},
    "name": {"type": "string", "minLength": 1, "maxLength": 100},
}
_ANY_OPERATION = (400, 404, 413, 414, 431, 503)
_WITH_KEY = (401, 403, 429)
_INGEST = (409, 422, 502, 504, 507)


class OpenApiDocument:
    """Handler of `/openapi.json`."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._document: dict[str, Any] = {}

    def describe(self, operations: Sequence[Operation]) -> None:
        """Build the document of these operations."""
        self._document = build_openapi(operations, self._version)

    async def show(self, _call: ApiCall) -> web.Response:
        """Answer 200 with the document; it needs no key."""
        return web.json_response(self._document, headers={"Cache-Control": "no-store"})


def build_openapi(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of these operations."""
    schemas, definitions = _build_schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            paths.setdefault(path, {})[operation.method.lower()] = _describe(
                operation, path, schemas
            )
    return {
        "openapi": "3.1.0",
        "info": {"title": "orchestrator: management API", "version": version},
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


Schemas = dict[tuple[type[BaseModel], str], dict[str, Any]]


def _build_schemas(operations: Sequence[Operation]) -> tuple[Schemas, dict[str, Any]]:
    """Return the schema of each (model, mode), and the definitions that they share."""
    models: dict[tuple[type[BaseModel], Any], None] = {(Problem, "serialization"): None}
    for operation in operations:
        models |= {
            (model, "serialization"): None for model in operation.responses.values() if model
        }
        for model in (operation.body, operation.query):
            if model is not None:
                models[model, "validation"] = None
    schemas_by_model, shared = models_json_schema(list(models), by_alias=True, ref_template=_REF)
    schemas: dict[Any, dict[str, Any]] = dict(schemas_by_model)
    return schemas, shared["$defs"]


def _describe(operation: Operation, path: str, schemas: Schemas) -> dict[str, Any]:
    description: dict[str, Any] = {
        "operationId": _operation_id(operation, path),
        "summary": operation.summary,
        "tags": [_tag(path)],
        "parameters": _list_parameters(operation, path, schemas),
        "responses": _build_responses(operation, schemas),
        "security": [] if operation.access == "open" else [{"bearer": []}, {"basic": []}],
    }
    if operation.access == "admin":
        description["description"] = "Needs an admin key."
    if operation.body is not None:
        schema = schemas[operation.body, "validation"]
        content: dict[str, Any] = {"application/json": {"schema": schema}}
        if operation.takes_picture:
            content["image/*"] = {"schema": {"type": "string", "format": "binary"}}
        description["requestBody"] = {"required": True, "content": content}
    return description


def _operation_id(operation: Operation, path: str) -> str:
    words = [word.strip("{}") for word in path.strip("/").split("/")]
    return operation.method.lower() + "-" + "-".join(words)


def _tag(path: str) -> str:
    words = [word for word in path.strip("/").split("/") if not word.startswith("{")]
    specific = [word for word in words if word not in ("customers", "spaces")]
    return specific[0] if specific else words[0]


def _list_parameters(operation: Operation, path: str, schemas: Schemas) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETER_SCHEMAS[name]}
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(by_alias=True, ref_template=_REF)
        required = schema.get("required", [])
        for name, each in schema["properties"].items():
            parameters.append(
                {
                    "name": name,
                    "in": "query",
                    "required": name in required,
                    "schema": _without_null(each),
                }
            )
    if operation.can_respond_async:
        parameters.append(
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "`respond-async`: queue the work and answer 202 at once.",
                "schema": {"type": "string", "enum": ["respond-async", "wait"]},
            }
        )
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without null: a query parameter is present or absent, never null."""
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    choices = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if len(choices) == 1:
        return {**kept, **choices[0]}
    return {**kept, "anyOf": choices} if choices else kept


def _build_responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in operation.responses.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            schema = schemas[model, "serialization"]
            responses[str(status)]["content"] = {"application/json": {"schema": schema}}
    problem = {"application/json": {"schema": schemas[Problem, "serialization"]}}
    for status in _error_statuses(operation):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses


def _error_statuses(operation: Operation) -> list[int]:
    statuses = set(_ANY_OPERATION)
    if operation.access != "open":
        statuses |= set(_WITH_KEY)
    if operation.access == "sender":
        statuses |= {502, 504}
    if operation.body is not None:
        statuses |= {408, 415}
    if operation.method != "GET":
        statuses |= {409, 412}
    if operation.can_respond_async:
        statuses |= set(_INGEST)
    return sorted(statuses)
