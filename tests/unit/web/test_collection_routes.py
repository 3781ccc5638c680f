"""The listing of `/`: how much of it is given at once, and whose pictures are in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from orchestrator.errors import InvalidImageRequest
from orchestrator.model import Asset, AssetId
from orchestrator.web.collection_routes import MAX_PAGE_SIZE, PAGE_SIZE, CollectionRoutes
from orchestrator.web.page_templates import Pages
from orchestrator.web.public_address import PublicAddressResolver
from tests.support.builders import an_asset

PAGES = Pages.load("1.0")


class Shelf:
    """A catalogue of assets in memory, and how many were asked for."""

    def __init__(self, *assets: Asset) -> None:
        self.assets = list(assets)
        self.asked: list[int] = []

    async def page(self, *, after: AssetId | None, limit: int, public: bool) -> list[Asset]:
        assert public
        self.asked.append(limit)
        return self.assets[:limit]


async def listed(shelf: Shelf, path: str = "/") -> web.Response:
    nothing: Any = None
    routes = CollectionRoutes(
        shelf, nothing, PAGES, PublicAddressResolver((), {}), default_version=3
    )
    headers = {"Accept": "application/json", "Host": "pictures.example"}
    answer = await routes.index(make_mocked_request("GET", path, headers=headers))
    assert isinstance(answer, web.Response)
    return answer


@pytest.mark.parametrize(
    ("query", "asked"),
    [("", PAGE_SIZE), ("limit=1", 1), ("limit=0007", 7), (f"limit={MAX_PAGE_SIZE}", MAX_PAGE_SIZE)],
)
async def test_a_page_has_the_requested_size(query: str, asked: int) -> None:
    shelf = Shelf()
    await listed(shelf, f"/?{query}")
    assert shelf.asked == [asked + 1]  # one more tells whether another page follows


@pytest.mark.parametrize(
    "text",
    ["0", "1001", "-1", "+1", "1.5", "x", "\u0661", "1_0", "000001999999", "000001" + "0" * 5000],
    ids=lambda text: ascii(text[:12]),
)
async def test_a_page_size_out_of_range_is_refused_in_every_notation(text: str) -> None:
    shelf = Shelf()
    with pytest.raises(InvalidImageRequest):
        await listed(shelf, f"/?limit={text}")
    assert shelf.asked == []


async def test_an_asset_with_a_public_size_limit_is_listed_with_a_thumbnail_within_it() -> None:
    shelf = Shelf(an_asset(max_unauthorised=150), an_asset(roles=("staff",)))
    body = (await listed(shelf)).body
    assert isinstance(body, bytes)
    [image] = json.loads(body)["images"]
    assert image["thumbnail"].endswith("/full/150,95/0/default.jpg")
