"""Handlers of `/view/...`: the page on which a person zooms into one image.

Without scripts it shows the image at one size and its addresses. A restricted image is shown within
the rights of the request.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Protocol

from aiohttp import web

from orchestrator.errors import AssetNotFound, CatalogUnavailable, InvalidImageRequest
from orchestrator.iiif.paths import ImagePath, parse_path
from orchestrator.model import Asset, AssetId
from orchestrator.routing.access_tokens import SignedTokens
from orchestrator.routing.asset_identifiers import AssetIdentifiers
from orchestrator.routing.current_assets import CurrentAssets
from orchestrator.routing.delivery_types import Delivery
from orchestrator.routing.plan import check_access
from orchestrator.web.landing_page import HTML_CACHE, ListedAsset, view_path
from orchestrator.web.page_templates import HTML, PAGES, Pages, format_number, page_policy
from orchestrator.web.public_address import PublicAddressResolver
from orchestrator.web.request_rights import rights_of
from orchestrator.web.responses import REQUEST_CLASS, respond

STILL_EDGE = 1200
"""Longest edge in pixels of the image on a page without scripts."""
PREFIX = "/view"
"""The path of the pages with a viewer."""
_VIEW_PATH = re.compile(rf"^(https?://[^/?#]*)?{PREFIX}(?=/)", re.IGNORECASE)
Neighbours = tuple[AssetId | None, AssetId | None]


class NeighbourFinder(Protocol):
    """The method of the catalogue that the page needs."""

    async def neighbours(self, asset_id: AssetId) -> Neighbours:
        """Return the public assets before and after this one in its space."""
        ...


class ViewRoutes:
    """Handlers of the viewer pages of one process."""

    def __init__(
        self,
        *,
        pages: Pages,
        addresses: PublicAddressResolver,
        assets: CurrentAssets,
        identifiers: AssetIdentifiers,
        neighbours: NeighbourFinder,
        tokens: SignedTokens,
        default_version: int,
    ) -> None:
        """`default_version` is that of the image services."""
        self._pages = pages
        self._addresses = addresses
        self._assets = assets
        self._identifiers = identifiers
        self._neighbours = neighbours
        self._tokens = tokens
        self._version = default_version

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get(PREFIX + "/{image:(?s:.+)}", self.show_image)

    async def show_image(self, request: web.Request) -> web.StreamResponse:
        """Answer with the page of one image: `/view/{customer}/{space}/{image}`."""
        request[REQUEST_CLASS] = "page"
        request[PAGES] = self._pages
        asset_id = await self._identifiers.resolve(_parse_view_path(request.raw_path))
        rights = rights_of(request, self._tokens)
        asset = (await self._assets.get(asset_id, rights)).asset
        if not asset.servable:
            raise AssetNotFound("There is no such asset. Check the address.")
        edge = None if rights.cover(asset) else asset.public_edge
        check_access(edge)
        return respond(request, await self._image_page(request, asset, edge))

    async def _image_page(self, request: web.Request, asset: Asset, edge: int | None) -> Delivery:
        base = self._addresses.resolve_request(request).base
        listed = replace(ListedAsset.of(asset, base, self._version), public_edge=edge)
        before, after = await self._find_neighbours(asset.id)
        body = self._pages.render(
            "view.html",
            base,
            name=asset.id.name,
            width=asset.width,
            height=asset.height,
            megapixels=_megapixels(asset),
            limit=edge,
            service=listed.service,
            still=listed.picture_within(STILL_EDGE),
            still_size=listed.size_within(STILL_EDGE),
            previous=view_path(before) if before else "",
            next=view_path(after) if after else "",
            manifest=f"/iiif-manifest{view_path(asset.id).removeprefix(PREFIX)}",
        )
        return Delivery(
            status=200,
            body=body,
            media_type=HTML,
            tier="",
            request_class="page",
            cache_control=f"private, {HTML_CACHE}" if asset.restricted else HTML_CACHE,
            asset=asset.id,
            vary="Authorization, Cookie" if asset.restricted else "",
            headers=(("Content-Security-Policy", page_policy([base])),),
        )

    async def _find_neighbours(self, asset_id: AssetId) -> Neighbours:
        try:
            return await self._neighbours.neighbours(asset_id)
        except CatalogUnavailable:
            return None, None  # the image itself is known


def _parse_view_path(raw_path: str) -> ImagePath:
    """Parse the path with the rules of /iiif-img, which has the same identifiers."""
    path = parse_path(_VIEW_PATH.sub(r"\1/iiif-img", raw_path))
    if path.rest or path.version:
        raise InvalidImageRequest("path", "Write /view/{customer}/{space}/{image}.")
    return path


def _megapixels(asset: Asset) -> str:
    million = asset.width * asset.height / 1e6
    return format_number(round(million, 1)) if million >= 0.1 else ""
