"""Handler of `/`: the list of assets, and the search in it, as a page for people and as JSON for
scripts.

Both have only what everyone may see something of. The list has refused assets, too, so that a
person finds out why a picture is missing.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol
from urllib.parse import quote, urlencode

from aiohttp import web

from orchestrator.catalog.asset_selection import SelectedPage, Selection
from orchestrator.errors import CatalogUnavailable, InvalidImageRequest, InvalidInput
from orchestrator.iiif.negotiation import prefers_json
from orchestrator.loop_turns import in_turns
from orchestrator.model import Asset, AssetId
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.landing_page import HTML_CACHE, ListedAsset, Listing, encode_listing
from orchestrator.web.page_templates import HTML, PAGES, Pages, page_policy
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import respond

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
MAX_SEARCH_CHARS = 200


class AssetLister(Protocol):
    """The method of the catalogue that the list needs; a test has its own implementation."""

    async def page(self, *, after: AssetId | None, limit: int, public: bool) -> list[Asset]:
        """Return assets in the order of their ids, after the given one; `public`: of which everyone
        may see something.
        """
        ...


class AssetSearch(Protocol):
    """The method of the selections of assets that the search needs."""

    async def page(
        self, selection: Selection, *, after: str | None = None, limit: int = 100
    ) -> SelectedPage:
        """Return a page of the selected assets."""
        ...


class CollectionRoutes:
    """Handler of the landing page and its JSON form."""

    def __init__(
        self,
        assets: AssetLister,
        search: AssetSearch,
        pages: Pages,
        addresses: PublicAddressResolver,
        *,
        default_version: int,
        uploads: str = "",
    ) -> None:
        """`default_version` is that of the image services; `uploads` is the path of the page for
        uploads, "" without one.
        """
        self._assets = assets
        self._search = search
        self._pages = pages
        self._addresses = addresses
        self._version = default_version
        self._uploads = uploads

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get("/", self.index)

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the list: HTML, or JSON if Accept prefers it."""
        request[PAGES] = self._pages
        base = self._addresses.resolve_request(request).base
        if prefers_json(request.headers.get("Accept", "")):
            listing = await self._listing(request, base)
            body = await encode_listing(listing)
            return respond(request, _page_delivery(body, "application/json"))
        problem = ""
        try:
            listing = await self._listing(request, base)
        except CatalogUnavailable as error:
            listing, problem = Listing(()), error.public
        body = await asyncio.to_thread(  # a long list takes 30 ms
            self.render,
            listing,
            base,
            problem=problem,
            is_later_page="after" in request.query,
            search=request.query.get("q", "").strip(),
        )
        policy = ("Content-Security-Policy", page_policy([base]))
        return respond(request, _page_delivery(body, HTML, (policy,)))

    def render(
        self,
        listing: Listing,
        base: str,
        *,
        problem: str = "",
        is_later_page: bool = False,
        search: str = "",
    ) -> bytes:
        """Return the page in UTF-8. `problem` is a public sentence that says why there is no
        list.
        """
        return self._pages.render(
            "collection.html",
            base,
            assets=listing.assets,
            next=listing.next,
            first=f"{base}/?q={quote(search, safe='')}" if search else f"{base}/",
            is_later_page=is_later_page,
            problem=problem,
            uploads=self._uploads,
            search=search,
            max_search=MAX_SEARCH_CHARS,
        )

    async def _listing(self, request: web.Request, base: str) -> Listing:
        limit = _limit(request.query.get("limit", ""))
        if text := request.query.get("q", "").strip():
            return await self._found(text, request.query.get("after") or None, limit, base)
        cursor = request.query.get("after", "")
        assets = await self._assets.page(
            after=AssetId.parse(cursor) if cursor else None, limit=limit + 1, public=True
        )
        shown = assets[:limit]
        next_page = (
            f"{base}/?after={quote(str(shown[-1].id), safe='')}&limit={limit}" if shown else ""
        )
        listed = [
            ListedAsset.of(asset, base, self._version)
            async for asset in in_turns(shown)
            if (asset.servable or asset.refused) and asset.public_edge != 0
        ]
        return Listing(listed, next_page if len(assets) > limit else None)

    async def _found(self, text: str, after: str | None, limit: int, base: str) -> Listing:
        """A page of the assets with these words. Raises InvalidInput."""
        if len(text) > MAX_SEARCH_CHARS:
            raise InvalidInput(f"Search for at most {MAX_SEARCH_CHARS} characters.")
        found = await self._search.page(Selection(text=text, viewers=()), after=after, limit=limit)
        following = None
        if found.next is not None:
            values = urlencode({"q": text, "after": found.next, "limit": limit})
            following = f"{base}/?{values}"
        listed = [
            ListedAsset.of(each, base, self._version) async for each in in_turns(found.assets)
        ]
        return Listing(listed, following)


def _page_delivery(
    body: bytes, media_type: str, headers: tuple[tuple[str, str], ...] = ()
) -> Delivery:
    return Delivery(
        status=200,
        body=body,
        media_type=media_type,
        tier="",
        request_class="page",
        cache_control=HTML_CACHE,
        vary="Accept",
        headers=headers,
    )


def _limit(text: str) -> int:
    if not text:
        return PAGE_SIZE
    if not (re.fullmatch(r"[0-9]{1,4}", text) and 0 < int(text) <= MAX_PAGE_SIZE):
        raise InvalidImageRequest("path", f"limit must be a number from 1 to {MAX_PAGE_SIZE}.")
    return int(text)
