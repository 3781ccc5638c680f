"""The results of named queries: one manifest, or a collection of the manifests of its pages.

The result is counted before anything is read, and then only the requested page is read.
"""

from __future__ import annotations

from orchestrator.catalog.asset_selection import AssetSelections, Selection
from orchestrator.errors import NotFound
from orchestrator.manifests.query_matches import QueryMatches, QueryRequest
from orchestrator.manifests.result_documents import (
    DocumentForm,
    ResultDocument,
    ResultDocuments,
    page_head,
    page_references,
)


class NamedQueryResults:
    """Answers requests for named queries."""

    def __init__(
        self,
        matches: QueryMatches,
        selections: AssetSelections,
        documents: ResultDocuments,
        *,
        page_size: int,
    ) -> None:
        self._matches = matches
        self._selections = selections
        self._documents = documents
        self._page_size = page_size

    async def document(self, request: QueryRequest, form: DocumentForm) -> ResultDocument:
        """The answer to a request. Raises as `QueryMatches`, and NotFound if nothing matches, or
        not as many assets as the page needs.
        """
        selection = await self._matches.selection(request)
        if request.page is None:
            count = await self._selections.count(selection, at_most=self._page_size + 1)
            if count > self._page_size:
                return await self._pages(request, selection, form)
        return await self._manifest(request, selection, form)

    async def _pages(
        self, request: QueryRequest, selection: Selection, form: DocumentForm
    ) -> ResultDocument:
        """The collection of the manifests of all pages."""
        count, head = await self._selections.count(selection), form.head(request.label)
        return self._documents.collection(head, page_references(head, count, self._page_size))

    async def _manifest(
        self, request: QueryRequest, selection: Selection, form: DocumentForm
    ) -> ResultDocument:
        """The manifest of the requested page, or of the whole result."""
        size, start = self._page_size, ((request.page or 1) - 1) * self._page_size
        page = await self._selections.page(selection, skip=start, limit=size)
        if not page.assets:
            raise NotFound("Nothing matches the named query. Check the arguments.")
        head = form.head(request.label)
        if request.page is not None:
            head = page_head(head, request.page, size, len(page.assets))
        return await self._documents.manifest(head, page.assets, form.viewing, first=start + 1)
