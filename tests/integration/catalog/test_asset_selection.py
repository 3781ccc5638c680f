"""Selections of assets: each filter alone, orders, cursors, hostile values."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.catalog.asset_selection import (
    AssetSelections,
    OrderField,
    Selection,
    Viewer,
)
from orchestrator.catalog.catalog import Catalog
from orchestrator.errors import InvalidInput
from orchestrator.model import AssetId
from orchestrator.settings import Database
from tests.integration.catalog.test_assets import a_draft
from tests.support.server_fixtures import new_database, settings_of

LONG = "\u00e9" * 2000
ASSETS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("a", {"strings": ("book", "one", ""), "numbers": (3, 1, 0), "tags": ("map", "old")}),
    (
        "b",
        {
            "strings": ("book", "two", ""),
            "numbers": (1, 2, 0),
            "tags": ("map",),
            "manifests": ("m1", "m2"),
        },
    ),
    ("c", {"strings": ("book", "one", ""), "numbers": (2, 2, 7), "roles": ("staff",)}),
    ("d", {"strings": (LONG, "", "x' OR '1'='1"), "numbers": (2**62, -1, 0)}),
    ("e_Plan 12.tif", {"tags": ("\u0645\u062e\u0637\u0648\u0637\u0629", "<b>bold</b>")}),
    ("cafe\u0301", {"max_unauthorised": 0}),
    ("g", {"roles": ("staff",), "max_unauthorised": 200, "tags": (LONG,)}),
)


@pytest.fixture(scope="module")
def filled(postgres: str) -> Database:
    """Settings of a database with these assets, which no test changes."""
    return asyncio.run(_fill(postgres))


async def _fill(postgres: str) -> Database:
    database = settings_of(await new_database(postgres))
    catalog = await Catalog.open(database)
    for name, changes in ASSETS:
        await catalog.versions.register(a_draft(name, **changes))
    await catalog.versions.register(replace(a_draft("a"), id=AssetId(1, 2, "a")))
    await catalog.versions.register(replace(a_draft("a"), id=AssetId(2, 1, "a")))
    async with catalog.transaction() as connection:
        await connection.execute(
            "INSERT INTO assets (customer, space, name, version, state)"
            " VALUES (1, 1, 'declared', 1, 'ingesting')"
        )
    await catalog.close()
    return database


@pytest.fixture
async def selections(filled: Database) -> AsyncIterator[AssetSelections]:
    catalog = await Catalog.open(filled)
    yield catalog.selections
    await catalog.close()


async def names(selections: AssetSelections, selection: Selection) -> str:
    page = await selections.page(replace(selection, customer=1))
    return " ".join(each.id.name for each in page.assets)


SELECTED = {
    "one string": (Selection(strings=("book", None, None)), "a b c"),
    "two strings": (Selection(strings=("book", "one", None)), "a c"),
    "text that looks like SQL": (Selection(strings=(None, None, "x' OR '1'='1")), "d"),
    "a text longer than an index entry": (Selection(strings=(LONG, None, None)), "d"),
    "a prefix of it": (Selection(strings=(LONG[:-1], None, None)), ""),
    "a number": (Selection(numbers=(None, 2, None)), "b c"),
    "a large number": (Selection(numbers=(2**62, None, None)), "d"),
    "tags": (Selection(tags=("map", "old")), "a"),
    "a long tag": (Selection(tags=(LONG,)), "g"),
    "names": (Selection(names=("b", "d", "z")), "b d"),
    "a space": (Selection(spaces=(2,)), "a"),
    "the beginning of a word": (Selection(text="PLA"), "e_Plan 12.tif"),
    "words of the name": (Selection(text="plan tif 12"), "e_Plan 12.tif"),
    "a word that is not there": (Selection(text="plan 13"), ""),
    "a word from right to left": (Selection(text="\u0645\u062e\u0637"), "e_Plan 12.tif"),
    "markup is only words": (Selection(text="<b>bold'</b>"), "e_Plan 12.tif"),
    "a composed word finds a decomposed one": (Selection(text="caf\u00e9"), "cafe\u0301"),
    "what the public sees": (Selection(viewers=(), spaces=(1,)), "a b d e_Plan 12.tif g"),
    "what staff sees": (
        Selection(viewers=(Viewer(("staff",)),), spaces=(1,)),
        "a b c cafe\u0301 d e_Plan 12.tif g",
    ),
    "what another role sees": (
        Selection(viewers=(Viewer(("other",)),), spaces=(1,)),
        "a b cafe\u0301 d e_Plan 12.tif g",
    ),
    "what staff of another customer sees": (
        Selection(viewers=(Viewer(("staff",), customer=2),), spaces=(1,)),
        "a b d e_Plan 12.tif g",
    ),
    "what every role sees": (
        Selection(viewers=(Viewer(("*",), customer=1),), names=("c", "declared")),
        "c",
    ),
    "what several sessions see": (
        Selection(viewers=(Viewer(("x",), 2), Viewer(("staff",), 1)), names=("c", "g")),
        "c g",
    ),
    "manifests": (Selection(manifests=("m2", "m9")), "b"),
    "what is not servable": (Selection(names=("c", "declared"), servable=True), "c"),
}


@pytest.mark.parametrize(("selection", "expected"), SELECTED.values(), ids=SELECTED)
async def test_each_filter_selects_what_it_names(
    selections: AssetSelections, selection: Selection, expected: str
) -> None:
    assert await names(selections, selection) == expected
    found = replace(selection, customer=1)
    assert await selections.count(found) == len(expected.replace("Plan 12", "Plan").split())


ORDERS = {
    "numbers": ((OrderField("number1"),), "b c a"),
    "descending": ((OrderField("number2", True), OrderField("number1")), "b c a"),
    "both directions": ((OrderField("string2"), OrderField("number1", True)), "a c b"),
    "the first of two": ((OrderField("name", True), OrderField("name")), "c b a"),
    "times": ((OrderField("created", True), OrderField("updated"), OrderField("batch")), "c b a"),
}


@pytest.mark.parametrize(("order", "expected"), ORDERS.values(), ids=ORDERS)
async def test_pages_of_one_asset_give_the_same_order_as_one_page(
    selections: AssetSelections, order: tuple[OrderField, ...], expected: str
) -> None:
    selection = Selection(customer=1, strings=("book", None, None), order=order)
    assert await names(selections, selection) == expected
    pages = [page async for page in selections.stream(selection, page=1)]
    assert " ".join(asset.id.name for (asset,) in pages) == expected
    last = await selections.page(selection, skip=2)
    assert [asset.id.name for asset in last.assets] == expected.split()[2:]
    assert (await selections.page(selection, skip=3)).assets == []


async def test_all_customers_are_read_in_the_order_of_their_numbers(
    selections: AssetSelections,
) -> None:
    pages = [page async for page in selections.stream(Selection(names=("a", "b")), page=2)]
    found = [str(asset.id) for page in pages for asset in page]
    assert found == ["1/1/a", "1/1/b", "1/2/a", "2/1/a"]
    assert await selections.count(Selection(), at_most=2) == 2


async def test_spaces_are_listed_if_they_have_something_to_see(
    selections: AssetSelections,
) -> None:
    assert await selections.spaces(1, ()) == [1, 2]
    assert await selections.spaces(1, (), limit=1) == [1]
    assert await selections.spaces(1, (), after=1) == [2]
    assert await selections.spaces(3, (Viewer(("*",)),)) == []


@pytest.mark.parametrize("cursor", ["", "x", "!!", "W10", "WzEsMiwzXQ", "eyJhIjoxfQ", "\u00e9"])
async def test_a_cursor_of_another_order_is_refused(
    selections: AssetSelections, cursor: str
) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        await selections.page(Selection(customer=1), after=cursor)


@pytest.mark.parametrize("text", ["--", " ", "w " * 17])
async def test_a_search_without_words_or_with_too_many_is_refused(
    selections: AssetSelections, text: str
) -> None:
    with pytest.raises(InvalidInput, match="words"):
        await selections.page(Selection(text=text))
