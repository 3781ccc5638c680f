"""Bulk changes: what they select and do, how far they have come, and what overtakes them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from orchestrator.catalog.jobs import JobDraft
from orchestrator.model import AssetId
from tests.integration.management.conftest import Installation
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def fill(installation: Installation, name: str, number: int) -> int:
    """A customer with assets p000, p001 ... in space 1; the string of every other one is odd."""
    customer = await installation.customer(name)
    async with installation.site.services.catalog.transaction() as connection:
        await connection.execute(
            """INSERT INTO assets (customer, space, name, version, state, width, height, origin,
                   strings, source)
               SELECT $1, 1, 'p' || to_char(n, 'FM000'), n + 1, 'ready', 10, 10, '/none/x.jpg',
                   ARRAY[CASE WHEN n % 2 = 1 THEN 'odd' ELSE '' END, '', ''], $3
               FROM generate_series(0, $2::int - 1) AS n""",
            customer,
            number,
            {
                "location": "file:///none/x.jpg",
                "kind": "original",
                "bytes": 1,
                "fingerprint": "1-1",
                "extension": "jpg",
                "tile_width": 256,
                "tile_height": 256,
                "levels": 1,
            },
        )
    return customer


async def post(installation: Installation, customer: int, status: int = 202, **body: Any) -> Any:
    reply = await installation.call("POST", f"/customers/{customer}/bulk", body)
    assert reply.status == status, reply.body
    return json.loads(reply.body)


async def show(installation: Installation, customer: int, job: int) -> Any:
    reply = await installation.call("GET", f"/customers/{customer}/bulk/{job}")
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


async def until_ended(installation: Installation, customer: int, job: int) -> Any:
    async with asyncio.timeout(30 * patience()):
        while (shown := await show(installation, customer, job))["finished"] is None:
            await asyncio.sleep(0.05)
    return shown


def counts(shown: dict[str, Any]) -> dict[str, int]:
    names = ("total", "changed", "unchanged", "superseded", "failed")
    assert shown["done"] == sum(shown[name] for name in names[1:])
    return {name: shown[name] for name in names if shown[name]}


async def test_a_patch_changes_the_selected_assets_and_reports_its_progress(
    installation: Installation,
):
    customer = await fill(installation, "patched", 120)
    dry = await post(
        installation,
        customer,
        200,
        action="patch",
        select={"string1": "odd"},
        change={"tags": "a,b"},
        dryRun=True,
    )
    assert dry == {"action": "patch", "images": 60}
    assets = installation.site.services.catalog.assets
    first = AssetId(customer, 1, "p001")
    before = await assets.get(first)
    assert before is not None
    assert before.tags == ()

    change = {"tags": "a,b", "number2": 5, "string1": "even now"}
    made = await post(
        installation, customer, action="patch", select={"string1": "odd"}, change=change
    )
    assert made["state"] in ("queued", "running", "done")
    shown = await until_ended(installation, customer, made["job"])
    assert (shown["state"], counts(shown)) == ("done", {"total": 60, "changed": 60})
    after = await assets.get(first)
    assert after is not None
    assert (after.tags, after.numbers, after.strings[0]) == (("a", "b"), (0, 5, 0), "even now")
    assert after.generation > before.generation
    untouched = await assets.get(AssetId(customer, 1, "p002"))
    assert untouched is not None
    assert untouched.tags == ()

    again = await post(
        installation, customer, action="patch", select={"tags": ["a"]}, change={"tags": ["a", "b"]}
    )
    shown = await until_ended(installation, customer, again["job"])
    assert counts(shown) == {"total": 60, "unchanged": 60}
    listed = await installation.call("GET", f"/customers/{customer}/bulk?limit=1")
    page = json.loads(listed.body)
    assert [each["job"] for each in page["bulk"]] == [again["job"]]
    older = json.loads((await installation.call("GET", page["next"])).body)
    assert [each["job"] for each in older["bulk"]] == [made["job"]]


async def test_a_reingest_submits_batches_of_ingests(installation: Installation):
    customer = await fill(installation, "reingested", 3)
    made = await post(installation, customer, action="reingest", select={"names": ["p000", "p001"]})
    shown = await until_ended(installation, customer, made["job"])
    assert counts(shown) == {"total": 2, "changed": 2}
    [batch] = shown["batches"]
    reply = await installation.call("GET", f"/customers/{customer}/queue/batches/{batch}/images")
    images = {each["image"] for each in json.loads(reply.body)["images"]}
    assert images == {f"{customer}/1/p000", f"{customer}/1/p001"}
    for name, is_asked in (("p000", True), ("p002", False)):
        asset = await installation.site.services.catalog.assets.get(AssetId(customer, 1, name))
        assert asset is not None
        assert (asset.ingest_generation > 0) is is_asked


async def test_a_deletion_of_everything_needs_the_number_that_a_dry_run_counted(
    installation: Installation,
):
    customer = await fill(installation, "deleted", 30)
    other = await fill(installation, "kept", 2)
    await post(installation, customer, 400, action="delete", select={})
    wrong = await post(installation, customer, 409, action="delete", select={}, expected=29)
    assert "30 assets" in wrong["error"]
    made = await post(installation, customer, action="delete", select={}, expected=30)
    shown = await until_ended(installation, customer, made["job"])
    assert counts(shown) == {"total": 30, "changed": 30}
    assets = installation.site.services.catalog.assets
    assert await assets.page(limit=9, customer=customer) == []
    assert len(await assets.page(limit=9, customer=other)) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"action": "patch", "select": {}},
        {"action": "patch", "select": {}, "change": {}},
        {"action": "patch", "change": {"tags": "x"}},
        {"action": "delete", "select": {"q": "x"}, "change": {"tags": "x"}},
        {"action": "burn", "select": {}},
        {"action": "reingest", "select": {"q": "!!"}},
        {"action": "reingest", "select": {"spaces": ["x"]}},
        {"action": "patch", "select": {}, "change": {"maxUnauthorised": -2}},
    ],
    ids=str,
)
async def test_a_request_that_cannot_be_carried_out_is_refused(
    installation: Installation, body: dict[str, Any]
):
    refused = await post(installation, 1, 400, **body)
    assert refused["code"] == "invalid_input"


async def test_the_bulk_changes_of_a_customer_are_its_own_and_few_at_a_time(
    installation: Installation,
):
    mine = await installation.customer("mine")
    other = await installation.customer("not mine")
    submitter = installation.site.services.submitter
    path = f"/customers/{mine}/bulk"
    body = {"action": "reingest", "select": {}}
    refused = await installation.call("POST", path, body, key=installation.keys[other])
    assert refused.status == 403
    work = {"action": "reingest", "selection": {"customer": mine}, "change": None}
    waiting = [JobDraft("bulk", work, mine, delay_s=3600) for _ in range(2)]
    jobs = (await submitter.submit(waiting)).ids
    assert (await installation.call("POST", path, body)).status == 409
    assert (await installation.call("POST", f"/jobs/{jobs[0]}/cancel")).status == 200
    assert (await show(installation, mine, jobs[0]))["state"] == "cancelled"
    reply = await installation.call("GET", f"/customers/{other}/bulk/{jobs[0]}")
    assert reply.status == 404
    assert (await installation.call("POST", path, body)).status == 202
