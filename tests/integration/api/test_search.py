"""Search and order of assets by the API."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from orchestrator.model import AssetId
from tests.integration.api.conftest import House
from tests.integration.catalog.test_assets import a_draft

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASSETS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (1, "a", {"strings": ("book", "", ""), "numbers": (3, 0, 0), "tags": ("map", "old")}),
    (1, "b", {"strings": ("book", "", ""), "numbers": (1, 9, 0), "tags": ("map",)}),
    (1, "c", {"strings": ("Book of hours", "", ""), "numbers": (2, 9, 0)}),
    (2, "d", {"strings": ("book", "", ""), "numbers": (4, 0, 0)}),
    (2, "e/f", {"strings": ("", "it's 100% \u0645\u062e\u0637", "")}),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def customer(house: House) -> int:
    number = await house.customer()
    for space, name, changes in ASSETS:
        draft = replace(a_draft(name, **changes), id=AssetId(number, space, name))
        await house.services.catalog.versions.register(draft)
    return number


async def found(house: House, path: str) -> list[str]:
    reply = await house.ask("GET", path)
    assert reply.status == 200, reply.body
    return [each["name"] for each in reply.json["images"]]


CASES = {
    "": ["a", "b", "c", "d", "e/f"],
    "q=book": ["a", "b", "c", "d"],
    "q=HOURS boo": ["c"],
    "q=it's 100%": ["e/f"],
    "q=\u0645\u062e\u0637": ["e/f"],
    'q={"string1": "book", "tags": ["map"]}': ["a", "b"],
    "string1=book": ["a", "b", "d"],
    "string1=": ["e/f"],
    "number2=9": ["b", "c"],
    "tags=map,old": ["a"],
    "string1=book&orderBy=-number1": ["d", "a", "b"],
    "string1=book&orderByDescending=number1": ["d", "a", "b"],
    "orderBy=number2,-name&number2=9": ["c", "b"],
    "q=no-such-word": [],
}


@pytest.mark.parametrize("query", CASES, ids=lambda text: text or "all")
async def test_a_search_finds_its_assets_in_its_order(house: House, customer: int, query: str):
    pairs = (each.partition("=") for each in query.split("&") if each)
    written = "&".join(f"{name}={quote(value)}" for name, _, value in pairs)
    assert await found(house, f"/customers/{customer}/allImages?{written}") == CASES[query]


async def test_a_search_in_a_space_has_pages_that_follow_each_other(house: House, customer: int):
    path: str | None = f"/customers/{customer}/spaces/1/images?q=book&orderBy=number1&limit=1"
    seen = []
    while path is not None:
        reply = (await house.ask("GET", path)).json
        seen += [each["name"] for each in reply["images"]]
        path = reply["next"]
    assert seen == ["b", "c", "a"]


@pytest.mark.parametrize(
    "query",
    [
        "orderBy=width",
        "q=!!!",
        'q={"string1": 1}',
        "q={",
        f"q={json.dumps({'q': ['x'] * 3})}",
        "cursor=x",
        "after=a&q=book",
        "number1=x",
        "limit=0",
        "colour=red",
    ],
)
async def test_a_search_that_cannot_be_read_is_refused(house: House, customer: int, query: str):
    name, _, value = query.partition("=")
    written = query if "&" in query else f"{name}={quote(value)}"
    reply = await house.ask("GET", f"/customers/{customer}/spaces/1/images?{written}")
    assert (reply.status, reply.code) == (400, "invalid_input"), reply.body
    assert len(reply.json["error"]) > 10


async def test_a_search_needs_a_key_of_the_customer(house: House, customer: int):
    other = await house.customer()
    path = f"/customers/{customer}/allImages?q=book"
    assert (await house.ask("GET", path, key=other)).status == 403
    assert (await house.ask("GET", path, key="")).status == 401
