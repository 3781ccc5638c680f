"""Handlers of global and of a customer's named queries, and their dry run."""

from __future__ import annotations

from urllib.parse import quote, unquote

from aiohttp import web

from orchestrator.catalog.named_queries import EVERYONE, NamedQueries, NamedQuery
from orchestrator.errors import InvalidInput, NotFound
from orchestrator.loop_turns import in_turns
from orchestrator.manifests.query_matches import QueryMatches, QueryRequest
from orchestrator.manifests.query_template import QueryTemplate
from orchestrator.web.api.image_models import ImageOut
from orchestrator.web.api.json_responses import json_response, no_content
from orchestrator.web.api.named_query_models import (
    MatchesOut,
    MatchesQuery,
    NamedQueryIn,
    NamedQueryList,
    NamedQueryOut,
    NamedQueryTemplate,
    check_query_name,
)
from orchestrator.web.api.operations import ApiCall


class NamedQueryResource:
    """Handlers of `/namedQueries` and of `/customers/{c}/namedQueries`. Faults of a template are
    answered 400 when it is stored.
    """

    def __init__(self, queries: NamedQueries, matches: QueryMatches) -> None:
        self._queries = queries
        self._matches = matches

    async def list_queries(self, call: ApiCall) -> web.Response:
        """Answer 200 with the queries that a request may name."""
        queries = await self._queries.for_customer(_owner(call))
        return json_response(
            NamedQueryList(named_queries=[NamedQueryOut.model_validate(each) for each in queries])
        )

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the query that this name selects."""
        query = await self._queries.find(_owner(call), call.path_text("name"))
        return json_response(NamedQueryOut.model_validate(query))

    async def create(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new query; 409 if the name is taken."""
        body = call.body_as(NamedQueryIn)
        QueryTemplate.parse(body.template)
        query = await self._queries.create(_owner(call), body.name, body.template)
        return _created(query)

    async def put(self, call: ApiCall) -> web.Response:
        """Answer 201 with a new query, or 200 with a replaced one."""
        template = call.body_as(NamedQueryTemplate).template
        QueryTemplate.parse(template)
        try:
            name = check_query_name(call.path_text("name"))
        except ValueError as error:
            raise InvalidInput(f"name: {error}") from error
        query, is_new = await self._queries.put(_owner(call), name, template)
        return _created(query) if is_new else json_response(NamedQueryOut.model_validate(query))

    async def patch(self, call: ApiCall) -> web.Response:
        """Answer 200 with a query of this owner that has another template."""
        template, name = call.body_as(NamedQueryTemplate).template, call.path_text("name")
        QueryTemplate.parse(template)
        known = await self._queries.find(_owner(call), name)
        if known.customer != _owner(call):
            raise NotFound("The named query belongs to all customers. Create one of your own.")
        query, _ = await self._queries.put(_owner(call), name, template)
        return json_response(NamedQueryOut.model_validate(query))

    async def delete(self, call: ApiCall) -> web.Response:
        """Answer 204."""
        await self._queries.delete(_owner(call), call.path_text("name"))
        return no_content()

    async def matches(self, call: ApiCall) -> web.Response:
        """Answer 200 with what the query selects with the arguments."""
        query = call.query_as(MatchesQuery)
        request = QueryRequest(call.customer, call.path_text("name"), _arguments(query.args))
        found = await self._matches.show(request, after=query.after, limit=query.limit)
        return json_response(
            MatchesOut(
                name=found.query.name,
                template=found.query.template,
                arguments=list(request.arguments),
                count=found.count,
                images=[ImageOut.model_validate(asset) async for asset in in_turns(found.assets)],
                next=found.next,
            )
        )


def _owner(call: ApiCall) -> int:
    """Return the customer that owns the queries; EVERYONE if the path names no customer."""
    return call.customer if "customer" in call.request.match_info else EVERYONE


def _created(query: NamedQuery) -> web.Response:
    place = f"/customers/{query.customer}" if query.customer != EVERYONE else ""
    location = f"{place}/namedQueries/{quote(query.name, safe='')}"
    return json_response(NamedQueryOut.model_validate(query), 201, headers={"Location": location})


def _arguments(text: str) -> list[str]:
    """The arguments in the form that they have in a path."""
    parts = text.removesuffix("/").split("/") if text else []
    if "" in parts:
        raise InvalidInput("args: an argument is empty. Leave out the second /.")
    return [unquote(part) for part in parts]
