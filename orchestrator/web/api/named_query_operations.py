"""The operations of named queries, global and of a customer."""

from __future__ import annotations

from orchestrator.web.api import named_query_models as models
from orchestrator.web.api.named_query_resource import NamedQueryResource
from orchestrator.web.api.operations import Access, Operation, Responses

_QUERIES = "/namedQueries"
_OF_CUSTOMER = f"/customers/{{customer}}{_QUERIES}"


def named_query_operations(resource: NamedQueryResource) -> list[Operation]:
    """Return the operations of named queries."""
    return [
        *_operations(resource, _QUERIES, "admin"),
        *_operations(resource, _OF_CUSTOMER, "key"),
        Operation(
            "GET",
            f"{_OF_CUSTOMER}/{{name}}/matches",
            resource.matches,
            "Show what a named query selects",
            {200: models.MatchesOut},
            query=models.MatchesQuery,
        ),
    ]


def _operations(resource: NamedQueryResource, path: str, access: Access) -> list[Operation]:
    """Return the operations below one path; `access` is needed to change something."""
    one: Responses = {200: models.NamedQueryOut}
    query = f"{path}/{{name}}"
    return [
        Operation(
            "GET",
            path,
            resource.list_queries,
            "List the named queries that a request may name",
            {200: models.NamedQueryList},
        ),
        Operation(
            "POST",
            path,
            resource.create,
            "Create a named query",
            {201: models.NamedQueryOut},
            access,
            models.NamedQueryIn,
        ),
        Operation("GET", query, resource.show, "Show a named query", one),
        Operation(
            "PUT",
            query,
            resource.put,
            "Create or replace a named query",
            {200: models.NamedQueryOut, 201: models.NamedQueryOut},
            access,
            models.NamedQueryTemplate,
        ),
        Operation(
            "PATCH",
            query,
            resource.patch,
            "Change the template of a named query",
            one,
            access,
            models.NamedQueryTemplate,
        ),
        Operation("DELETE", query, resource.delete, "Delete a named query", {204: None}, access),
    ]
