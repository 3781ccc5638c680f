"""What named queries select: stored templates bound to the arguments of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.catalog.asset_selection import AssetSelections, Selection
from orchestrator.catalog.named_queries import NamedQueries, NamedQuery
from orchestrator.catalog.spaces import Spaces
from orchestrator.errors import NotFound
from orchestrator.manifests.query_template import QueryTemplate
from orchestrator.model import Asset


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A request for a named query. `page` is the `?page=` of the request, from 1, or None."""

    customer: int
    name: str
    arguments: Sequence[str]
    page: int | None = None

    @property
    def label(self) -> str:
        """The label of the result."""
        return " / ".join((self.name, *self.arguments))


@dataclass(frozen=True, slots=True)
class Matches:
    """What a named query selects: a page of the assets, and the number of all. `next` is the cursor
    of the next page.
    """

    query: NamedQuery
    assets: list[Asset]
    count: int
    next: str | None


class QueryMatches:
    """Finds what named queries select. Every method raises CatalogUnavailable, NotFound for an
    unknown query or space, and InvalidInput for arguments that do not fit.
    """

    def __init__(self, queries: NamedQueries, selections: AssetSelections, spaces: Spaces) -> None:
        self._queries = queries
        self._selections = selections
        self._spaces = spaces

    async def selection(self, request: QueryRequest) -> Selection:
        """The selection of assets that the request asks for."""
        query = await self._queries.find(request.customer, request.name)
        return await self._bind(query, request)

    async def show(
        self, request: QueryRequest, *, after: str | None = None, limit: int = 100
    ) -> Matches:
        """What the query selects, regardless of rights, from the cursor `after`."""
        query = await self._queries.find(request.customer, request.name)
        selection = await self._bind(query, request)
        page = await self._selections.page(selection, after=after, limit=limit)
        count = await self._selections.count(selection)
        return Matches(query, page.assets, count, page.next)

    async def _bind(self, query: NamedQuery, request: QueryRequest) -> Selection:
        template = QueryTemplate.parse(query.template)
        bound = template.bind(request.customer, request.arguments)
        if bound.space_name is None:
            return bound.selection
        space = await self._spaces.by_name(request.customer, bound.space_name)
        if space is None:
            raise NotFound("There is no space of this name. Check the arguments.")
        return replace(bound.selection, spaces=(space,))
