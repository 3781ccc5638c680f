"""`/` and `/static/`: the collection as a page for people and as JSON for scripts."""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import quote

from aiohttp import web

from orchestrator.errors import CatalogUnavailable, InvalidImageRequest, NotFound
from orchestrator.iiif.paths import encode_identifier
from orchestrator.model import Asset, AssetId
from orchestrator.routing.delivery_types import Delivery
from orchestrator.web.landing_page import (
    HTML_CACHE,
    STATIC_CACHE,
    LandingPage,
    ListedAsset,
    Listing,
    content_security_policy,
    listing_json,
)
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.responses import respond

PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000


class AssetLister(Protocol):
    """The part of the catalogue that listing reads."""

    async def page(self, *, after: AssetId | None, limit: int) -> list[Asset]:
        """Assets in order of their ids, after the given one."""
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
        """The collection, a page of it at a time: HTML, or JSON where Accept puts it first."""
        base = self._addresses.resolve_request(request).base
        if _wants_json(request.headers.get("Accept", "")):
            listing = await self._listing(request, base)
            return respond(request, _document(listing_json(listing), "application/json"))
        problem = ""
        try:
            listing = await self._listing(request, base)
        except CatalogUnavailable as error:
            listing, problem = Listing(()), error.public
        body = self._page.html(listing, problem=problem)
        policy = ("Content-Security-Policy", content_security_policy(listing))
        return respond(request, _document(body, "text/html; charset=utf-8", (policy,)))

    async def static(self, request: web.Request) -> web.StreamResponse:
        """A file below `/static/`, held in memory since the start."""
        file = self._page.files.get(request.match_info["path"])
        if file is None:
            raise NotFound("There is nothing at this address.")
        delivery = Delivery(
            status=200,
            body=file.body,
            gzip=file.packed or None,
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
        found = await self._assets.page(
            after=AssetId.parse(cursor) if cursor else None, limit=limit + 1
        )
        shown = found[:limit]
        following = (
            f"{base}/?after={quote(str(shown[-1].id), safe='')}&limit={limit}" if shown else ""
        )
        pictures = tuple(
            self._listed_asset(asset, base)
            for asset in shown
            if asset.servable and asset.public_edge != 0
        )
        return Listing(pictures, following if len(found) > limit else None)

    def _listed_asset(self, asset: Asset, base: str) -> ListedAsset:
        service = f"{base}/iiif/{self._version}/{encode_identifier(_plain(asset.id))}"
        return ListedAsset(
            asset.id, service, asset.width, asset.height, asset.state, asset.public_edge
        )


def _plain(asset_id: AssetId) -> str:
    """The id as it is percent-encoded once for `/iiif/{version}/`: the name's own slashes
    included.
    """
    if "%" in asset_id.name:
        return str(asset_id)
    return f"{asset_id.customer}/{asset_id.space}/{asset_id.name}"


def _document(body: bytes, media_type: str, headers: tuple[tuple[str, str], ...] = ()) -> Delivery:
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
        raise InvalidImageRequest("path", f"limit is a number from 1 to {MAX_PAGE_SIZE}.")
    return int(text)


def _wants_json(accept: str) -> bool:
    """True if JSON is asked for before HTML; browsers ask for HTML, curl's */* gets the page."""
    kinds = [part.partition(";")[0].strip().lower() for part in accept.split(",")[:20]]
    return "application/json" in kinds and (
        "text/html" not in kinds or kinds.index("application/json") < kinds.index("text/html")
    )
