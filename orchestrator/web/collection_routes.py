"""Handlers of `/` and `/static/`: the list of assets as a page for people and as JSON for
scripts.
"""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import quote

from aiohttp import web

from orchestrator.errors import CatalogUnavailable, InvalidImageRequest, NotFound
from orchestrator.iiif.negotiation import prefers_json
from orchestrator.iiif.paths import encode_identifier
from orchestrator.model import Asset, AssetId
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.error_table import PUBLIC_TEXTS
from orchestrator.web.landing_page import (
    HTML_CACHE,
    STATIC_CACHE,
    LandingPage,
    ListedAsset,
    Listing,
    content_security_policy,
    encode_listing,
)
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import respond

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


class AssetLister(Protocol):
    """The method of the catalogue that the list needs; a test has its own implementation."""

    async def page(self, *, after: AssetId | None, limit: int) -> list[Asset]:
        """Return assets in the order of their ids, after the given one."""
        ...


class CollectionRoutes:
    """Handlers of the landing page, its JSON form and its static files."""

    def __init__(
        self,
        assets: AssetLister,
        page: LandingPage,
        addresses: PublicAddressResolver,
        default_version: int,
    ) -> None:
        self._assets = assets
        self._page = page
        self._addresses = addresses
        self._version = default_version

    async def index(self, request: web.Request) -> web.StreamResponse:
        """Answer with one page of the list: HTML, or JSON if Accept prefers it."""
        base = self._addresses.resolve_request(request).base
        if prefers_json(request.headers.get("Accept", "")):
            listing = await self._listing(request, base)
            return respond(request, _page_delivery(encode_listing(listing), "application/json"))
        problem = ""
        try:
            listing = await self._listing(request, base)
        except CatalogUnavailable as error:
            listing, problem = Listing(()), error.public
        body = self._page.html(listing, problem=problem)
        policy = ("Content-Security-Policy", content_security_policy(listing))
        return respond(request, _page_delivery(body, "text/html; charset=utf-8", (policy,)))

    async def static(self, request: web.Request) -> web.StreamResponse:
        """Answer with a file below `/static/`, from memory."""
        file = self._page.files.get(request.match_info["path"])
        if file is None:
            raise NotFound(PUBLIC_TEXTS[404])
        delivery = Delivery(
            status=200,
            body=file.body,
            gzip=file.gzip or None,
            media_type=file.media_type,
            tier="",
            request_class="page",
            cache_control=STATIC_CACHE,
            etag=file.etag,
        )
        return respond(request, delivery)

    async def _listing(self, request: web.Request, base: str) -> Listing:
        limit = _limit(request.query.get("limit", ""))
        cursor = request.query.get("after", "")
        assets = await self._assets.page(
            after=AssetId.parse(cursor) if cursor else None, limit=limit + 1
        )
        shown = assets[:limit]
        next_page = (
            f"{base}/?after={quote(str(shown[-1].id), safe='')}&limit={limit}" if shown else ""
        )
        listed = tuple(
            self._listed_asset(asset, base)
            for asset in shown
            if (asset.servable or asset.refused) and asset.public_edge != 0
        )
        return Listing(listed, next_page if len(assets) > limit else None)

    def _listed_asset(self, asset: Asset, base: str) -> ListedAsset:
        service = f"{base}/iiif/{self._version}/{encode_identifier(_decoded_id(asset.id))}"
        return ListedAsset(
            asset.id,
            service,
            asset.width,
            asset.height,
            asset.state,
            error=asset.error if asset.refused else "",
            code=asset.error_code if asset.refused else "",
            public_edge=asset.public_edge,
        )


def _decoded_id(asset_id: AssetId) -> str:
    """Return the id in the form that is percent-encoded once for `/iiif/{version}/`, with the
    slashes of the name.
    """
    if "%" in asset_id.name:
        return str(asset_id)
    return f"{asset_id.customer}/{asset_id.space}/{asset_id.name}"


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
