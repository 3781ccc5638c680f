"""Collections: of a customer its spaces, of a space its images. What a viewer may see nothing of is
left out, and does not count.
"""

from __future__ import annotations

from orchestrator.catalog.asset_selection import AssetSelections, Selection, Viewer
from orchestrator.catalog.spaces import Spaces
from orchestrator.errors import NotFound
from orchestrator.iiif.presentation.presentation_input import Reference
from orchestrator.manifests.result_documents import (
    DocumentForm,
    ResultDocument,
    ResultDocuments,
    page_head,
    page_references,
)

MAX_SPACES = 1_000_000
"""Most spaces of a customer that are listed. Their numbers are all in memory for a moment."""


class AssetCollections:
    """Answers requests for collections. Every method raises CatalogUnavailable, and NotFound if
    there is nothing that the viewer sees.
    """

    def __init__(
        self,
        selections: AssetSelections,
        spaces: Spaces,
        documents: ResultDocuments,
        *,
        page_size: int,
    ) -> None:
        self._selections = selections
        self._spaces = spaces
        self._documents = documents
        self._page_size = page_size

    async def of_customer(
        self,
        customer: int,
        label: str,
        form: DocumentForm,
        *,
        viewers: tuple[Viewer, ...],
        page: int | None,
    ) -> ResultDocument:
        """The collection of the customer's spaces; `label` is the customer's name."""
        spaces = await self._selections.spaces(customer, viewers, limit=MAX_SPACES)
        size, head = self._page_size, form.head(label)
        if page is None and len(spaces) > size:
            pages = page_references(head, len(spaces), size, "Collection")
            return self._documents.collection(head, pages)
        start = ((page or 1) - 1) * size
        listed = spaces[start : start + size]
        if not listed and page is not None:
            raise NotFound("The collection has no such page.")
        if page is not None:
            head = page_head(head, page, size, len(listed))
        names = await self._spaces.names(customer, listed)
        members = [
            Reference(f"{form.url}/{space}", names.get(space, f"Space {space}"), "Collection")
            for space in listed
        ]
        return self._documents.collection(head, members)

    async def of_space(
        self,
        customer: int,
        space: int,
        form: DocumentForm,
        *,
        viewers: tuple[Viewer, ...],
        page: int | None,
    ) -> ResultDocument:
        """The collection of the manifests of the images in a space."""
        selection = Selection(customer, spaces=(space,), viewers=viewers)
        names = await self._spaces.names(customer, [space])
        size, head = self._page_size, form.head(names.get(space, f"Space {space}"))
        if page is None and await self._selections.count(selection, at_most=size + 1) > size:
            count = await self._selections.count(selection)
            pages = page_references(head, count, size, "Collection")
            return self._documents.collection(head, pages)
        start = ((page or 1) - 1) * size
        assets = (await self._selections.page(selection, skip=start, limit=size)).assets
        if not assets:
            raise NotFound("The space has no images that can be shown. Check the path.")
        if page is not None:
            head = page_head(head, page, size, len(assets))
        return await self._documents.members(head, assets, form)
