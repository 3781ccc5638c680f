"""Writes docs/openapi.md from the table of operations that also serves and validates requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

from orchestrator.web.api.openapi import build_openapi
from orchestrator.web.api.operation_table import Resources, build_operations

_HEAD = """\
# Operations of the management API

Every operation of the private port, as `GET /openapi.json` describes it for programs. [api.md](api.md) explains them with examples. `make docs` writes this page.

Errors are JSON: `error`, `status`, `requestId`, `code`, `stage`, `retryable`, `detail`. All operations can answer 400, 401, 403, 404, 413, 414, 431 and 503; the tables
have the answers of success.
"""


class _AnyHandlers:
    """Has every handler as attribute: only the declarations are read."""

    def __getattr__(self, _name: str) -> Any:
        return None


def document() -> str:
    """The text of docs/openapi.md."""
    resources: Any = SimpleNamespace(**{each.name: _AnyHandlers() for each in fields(Resources)})
    described = build_openapi(build_operations(resources, 1), "")
    return _HEAD + "".join(_sections(described)) + "".join(_bodies(described))


def _sections(described: dict[str, Any]) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            row = _row(method.upper(), path, operation)
            by_tag.setdefault(operation["tags"][0], []).append(row)
    for tag, rows in by_tag.items():
        yield f"\n## {tag}\n\n| operation | what | query, headers, body | success |\n|---|---|---|---|\n"
        yield from rows


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = [f"`{each['name']}`" for each in operation["parameters"] if each["in"] != "path"]
    success = [status for status in operation["responses"] if status < "400"]
    parameters += [_model_link(name) for name in _models(operation.get("requestBody", {}))]
    cells = [f"`{method} {path}`", operation["summary"], ", ".join(parameters)]
    return f"| {' | '.join(cells)} | {', '.join(success)} |\n"


def _models(body: dict[str, Any]) -> list[str]:
    schemas = [kind.get("schema", {}) for kind in body.get("content", {}).values()]
    return [each["$ref"].rpartition("/")[2] for each in schemas if "$ref" in each]


def _model_link(name: str) -> str:
    return f"[{name}](#{name.lower()})"


def _bodies(described: dict[str, Any]) -> Iterator[str]:
    yield "\n## Bodies\n"
    named = {
        name
        for methods in described["paths"].values()
        for operation in methods.values()
        for name in _models(operation.get("requestBody", {}))
    }
    for name in sorted(named):
        schema = described["components"]["schemas"][name]
        required = schema.get("required", [])
        yield f"\n### {name}\n\n| field | type | |\n|---|---|---|\n"
        for field, value in schema.get("properties", {}).items():
            text = " ".join(value.get("description", "").split()).replace("|", "\\|")
            marks = "required. " if field in required else ""
            yield f"| `{field}` | {_type(value)} | {marks}{text} |\n"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return str(value["$ref"].rpartition("/")[2])
    if "anyOf" in value:
        return " or ".join(_type(each) for each in value["anyOf"])
    if "enum" in value:
        return ", ".join(f"`{each}`" for each in value["enum"])
    kind = str(value.get("type", "any"))
    return f"{kind} of {_type(value['items'])}" if kind == "array" and "items" in value else kind
