"""Handlers that list, search and order assets."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from aiohttp import web

from orchestrator.catalog.asset_selection import AssetSelections
from orchestrator.catalog.assets import Assets
from orchestrator.errors import InvalidInput
from orchestrator.loop_turns import in_turns
from orchestrator.model import Asset, AssetId
from orchestrator.web.api.image_models import ImageOut, Images
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.selection_models import SearchQuery


class ImageListResource:
    """Handlers of `/customers/{c}/spaces/{s}/images` and `/customers/{c}/allImages`."""

    def __init__(self, assets: Assets, selections: AssetSelections) -> None:
        self._assets = assets
        self._selections = selections

    async def list_space(self, call: ApiCall) -> web.Response:
        """Answer 200 with the assets of a space, by name or in the order of the query."""
        query = call.query_as(SearchQuery)
        space = call.path_number("space")
        if query.is_search:
            return await self._search(call, (space,))
        # The list may begin after a name that no asset has.
        after = AssetId(call.customer, space, query.after) if query.after else None
        assets = await self._assets.page(
            after, query.limit + 1, customer=call.customer, space=space
        )
        page = assets[: query.limit]
        more = {"after": page[-1].id.name} if len(assets) > query.limit else None
        return await _page_response(call, page, more)

    async def list_all(self, call: ApiCall) -> web.Response:
        """Answer 200 with the assets of a customer, by space and name or in the order of the
        query.
        """
        return await self._search(call, ())

    async def _search(self, call: ApiCall, spaces: tuple[int, ...]) -> web.Response:
        query = call.query_as(SearchQuery)
        if query.after:
            raise InvalidInput("after: a search continues with `cursor`. Follow `next`.")
        found = await self._selections.page(
            query.to_selection(call.customer, spaces, order=query.order()),
            after=query.cursor or None,
            limit=query.limit,
        )
        return await _page_response(
            call, found.assets, {"cursor": found.next} if found.next else None
        )


async def _page_response(
    call: ApiCall, assets: list[Asset], more: dict[str, str] | None
) -> web.Response:
    """Return a page; `more`: the parameters with which the next one begins."""
    next_page = None
    if more is not None:
        given = {name: value for name, value in call.request.query.items() if name not in more}
        parameters = {**given, "limit": str(call.query_as(SearchQuery).limit), **more}
        path = call.request.rel_url.raw_path
        next_page = f"{path}?{urlencode(parameters, quote_via=quote)}"
    images = [ImageOut.model_validate(asset) async for asset in in_turns(assets)]
    return json_response(Images(images=images, next=next_page))
