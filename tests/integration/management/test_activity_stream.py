"""The activity stream: created, changed, deleted; pages that stay as they are; and nothing of what
the public may not see.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from orchestrator.model import AssetId
from tests.integration.management.conftest import Installation

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = 100


async def pages(installation: Installation, customer: int | str) -> list[dict[str, Any]]:
    """All pages, read as a harvester does: from the last one backwards."""
    path = f"/iiif-activity/{customer}/all-changes"
    collection = await installation.document(path)
    assert collection["type"] == "OrderedCollection"
    assert collection["id"] == f"{installation.site.base}{path}"
    found, address = [], collection["last"]["id"]
    while address is not None:
        page = await installation.document(address.removeprefix(installation.site.base))
        assert page["id"] == address
        assert page["partOf"]["id"] == collection["id"]
        found.insert(0, page)
        address = page.get("prev", {}).get("id")
    assert found[0]["id"] == collection["first"]["id"]
    for page, following in pairwise(found):
        assert page["next"]["id"] == following["id"]
    assert "next" not in found[-1]
    times = [item["endTime"] for page in found for item in page["orderedItems"]]
    assert times == sorted(times)
    return found


async def items(installation: Installation, customer: int | str) -> list[tuple[str, str]]:
    """(type, name) of every activity, the oldest first."""
    return [
        (item["type"], item["object"]["id"].rpartition("/")[2])
        for page in await pages(installation, customer)
        for item in page["orderedItems"]
    ]


async def test_assets_are_created_changed_and_deleted_in_the_stream(installation: Installation):
    customer = await installation.customer("gallery")
    editor = installation.site.services.pipeline.editor
    assert await items(installation, customer) == []
    for name in ("a", "b/c"):
        await installation.register(AssetId(customer, 1, name))
    await editor.set_fields(AssetId(customer, 1, "a"), strings=("new", "", ""))
    await installation.register(AssetId(customer, 1, "a"), strings=("new", "", ""))  # no change
    await editor.delete(AssetId(customer, 1, "b/c"))
    expected = [("Create", "a"), ("Create", "b%2Fc"), ("Update", "a"), ("Delete", "b%2Fc")]
    assert await items(installation, customer) == expected
    assert await items(installation, "gallery") == expected
    [page] = await pages(installation, customer)
    manifest = f"{installation.site.base}/iiif-manifest/{customer}/1/a"
    assert page["orderedItems"][0]["object"] == {"id": manifest, "type": "Manifest"}


async def test_what_the_public_may_not_see_leaves_the_stream_and_never_changes_it(
    installation: Installation,
):
    customer = await installation.customer("archive")
    editor, stream = installation.site.services.pipeline.editor, f"/iiif-activity/{customer}"
    for name, roles in (("open", ()), ("closed", ("staff",)), ("small", ())):
        limit = 200 if name == "small" else -1
        await installation.register(AssetId(customer, 1, name), roles=roles, max_unauthorised=limit)
    assert await items(installation, customer) == [("Create", "open"), ("Create", "small")]

    before = [await installation.get(f"{stream}/{part}") for part in ("all-changes", "page/1")]
    hidden = AssetId(customer, 1, "closed")
    await editor.set_fields(hidden, strings=("secret", "", ""))
    await installation.register(hidden, roles=("staff",), width=2000)
    await editor.delete(hidden)
    await installation.register(AssetId(customer, 1, "new"), max_unauthorised=0)
    token = installation.site.services.tokens.create(["staff"], 600)
    for reply, part in zip(before, ("all-changes", "page/1"), strict=True):
        for headers in ({}, {"Authorization": f"Bearer {token}"}):
            again = await installation.get(f"{stream}/{part}", **headers)
            for field in ("etag", "last-modified", "cache-control"):
                assert again.headers[field] == reply.headers[field]
            assert again.body == reply.body

    await editor.set_access(AssetId(customer, 1, "open"), roles=("staff",))
    await editor.set_access(AssetId(customer, 1, "new"), max_unauthorised=400)
    changes = [("Delete", "open"), ("Create", "new")]
    assert (await items(installation, customer))[2:] == changes


async def test_full_pages_stay_as_they_are_and_answers_are_conditional(
    installation: Installation,
):
    customer = await installation.customer("library")
    stream = f"/iiif-activity/{customer}"
    async with installation.site.services.catalog.transaction() as connection:
        await connection.execute(
            """INSERT INTO assets (customer, space, name, version, state, width, height, source)
               SELECT $1, 1, 'p' || n, n, 'ready', 10, 10, '{}'
               FROM generate_series(1, $2::int) AS n""",
            customer,
            2 * PAGE + 1,
        )
    numbers = [len(page["orderedItems"]) for page in await pages(installation, customer)]
    assert numbers == [PAGE, PAGE, 1]
    full = await installation.get(f"{stream}/page/2")
    last = await installation.get(f"{stream}/page/3")
    async with installation.site.services.catalog.transaction() as connection:
        await connection.execute(
            "UPDATE assets SET rights = 'x' WHERE customer = $1 AND name = 'p150'", customer
        )
    again = await installation.get(f"{stream}/page/2", If_None_Match=full.headers["etag"])
    assert again.status == 304
    grown = await installation.get(f"{stream}/page/3", If_None_Match=last.headers["etag"])
    assert grown.status == 200
    assert (await installation.get(f"{stream}/page/2", method="HEAD")).body == b""
    assert full.headers["content-type"].startswith("application/ld+json")
    assert full.headers["access-control-allow-origin"] == "*"

    prune = installation.site.services.catalog.activities.prune
    assert await prune(3600) == 0
    async with installation.site.services.catalog.transaction() as connection:
        await connection.execute("DELETE FROM assets WHERE customer = $1 AND name < 'p2'", customer)
    assert await prune(0) >= 2 * (1 + 10 + 100)  # with their deletions
    left = await items(installation, customer)
    assert len(left) == 2 * PAGE + 1 - (1 + 10 + 100) == len(set(left))
    assert {kind for kind, _ in left} == {"Create"}


@pytest.mark.parametrize(
    "path",
    [
        "9999/all-changes",
        "no-such-name/all-changes",
        "1/page/0",
        "1/page/7",
        "1/page/x",
        "1/x",
        "1",
    ],
)
async def test_other_addresses_are_answered_404(installation: Installation, path: str):
    reply = await installation.get(f"/iiif-activity/{path}")
    assert reply.status == 404
    assert b'"error"' in reply.body
    assert reply.headers["access-control-allow-origin"] == "*"
