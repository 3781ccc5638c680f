"""`/openapi.json`, written from the table of operations: what it says is what is validated."""

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
_PLACES: dict[str, dict[str, Any]] = {
    "customer": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "space": {"type": "integer", "minimum": 0, "maximum": 999_999_999},
    "batch": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "job": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "strategy": {"type": "string", "format": "uuid"},
    "image": {"type": "string", "minLength": 1, "maxLength": 220},
    "name": {"type": "string", "minLength": 1, "maxLength": 100},
}
_ALWAYS = (400, 404, 413, 414, 431, 503)
_KEYED = (401, 403)
_OF_INGEST = (409, 422, 502, 504, 507)


class OpenApiDocument:
    """Handler of `/openapi.json`."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._document: dict[str, Any] = {}

    def describe(self, operations: Sequence[Operation]) -> None:
        """Write the document of these operations."""
        self._document = build_openapi(operations, self._version)

    async def show(self, _call: ApiCall) -> web.Response:
        """200 with the document; it needs no key."""
        return web.json_response(self._document, headers={"Cache-Control": "no-store"})


def build_openapi(operations: Sequence[Operation], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these operations."""
    schemas, definitions = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        for path in (operation.path, *operation.aliases):
            paths.setdefault(path, {})[operation.method.lower()] = _described(
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


def _schemas(operations: Sequence[Operation]) -> tuple[Schemas, dict[str, Any]]:
    """The schema of each model by itself and mode, and the definitions they share."""
    wanted: dict[tuple[type[BaseModel], Any], None] = {(Problem, "serialization"): None}
    for operation in operations:
        wanted |= {(model, "serialization"): None for model in operation.answers.values() if model}
        for model in (operation.body, operation.query):
            if model is not None:
                wanted[model, "validation"] = None
    found, shared = models_json_schema(list(wanted), by_alias=True, ref_template=_REF)
    schemas: dict[Any, dict[str, Any]] = dict(found)
    return schemas, shared["$defs"]


def _described(operation: Operation, path: str, schemas: Schemas) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _name(operation, path),
        "summary": operation.summary,
        "tags": [_tag(path)],
        "parameters": _parameters(operation, path, schemas),
        "responses": _responses(operation, schemas),
        "security": [] if operation.access == "open" else [{"bearer": []}, {"basic": []}],
    }
    if operation.access == "admin":
        described["description"] = "Needs an admin key."
    if operation.body is not None:
        schema = schemas[operation.body, "validation"]
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return described


def _name(operation: Operation, path: str) -> str:
    words = [word.strip("{}") for word in path.strip("/").split("/")]
    return operation.method.lower() + "-" + "-".join(words)


def _tag(path: str) -> str:
    words = [word for word in path.strip("/").split("/") if not word.startswith("{")]
    named = [word for word in words if word not in ("customers", "spaces")]
    return named[0] if named else words[0]


def _parameters(operation: Operation, path: str, schemas: Schemas) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": place, "in": "path", "required": True, "schema": _PLACES[place]}
        for place in re.findall(r"\{(\w+)\}", path)
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(by_alias=True, ref_template=_REF)
        required = schema.get("required", [])
        for name, each in schema["properties"].items():
            found.append(
                {"name": name, "in": "query", "required": name in required, "schema": _plain(each)}
            )
    if operation.prefers:
        found.append(
            {
                "name": "Prefer",
                "in": "header",
                "required": False,
                "description": "`respond-async`: answer 202 at once, work behind it.",
                "schema": {"type": "string", "enum": ["respond-async", "wait"]},
            }
        )
    return found


def _plain(schema: dict[str, Any]) -> dict[str, Any]:
    """A query's field has no null: it is there or not."""
    kept = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    choices = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    if len(choices) == 1:
        return {**kept, **choices[0]}
    return {**kept, "anyOf": choices} if choices else kept


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in operation.answers.items():
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if model is not None:
            schema = schemas[model, "serialization"]
            responses[str(status)]["content"] = {"application/json": {"schema": schema}}
    problem = {"application/json": {"schema": schemas[Problem, "serialization"]}}
    for status in _refusals(operation):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": problem}
    return responses


def _refusals(operation: Operation) -> list[int]:
    found = set(_ALWAYS)
    if operation.access != "open":
        found |= set(_KEYED)
    if operation.body is not None:
        found |= {408, 415}
    if operation.method != "GET":
        found |= {409, 412}
    if operation.prefers:
        found |= set(_OF_INGEST)
    return sorted(found)
