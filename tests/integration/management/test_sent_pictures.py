"""Pictures in the body of PUT: stored, ingested as from any origin, and kept as long as their asset
has them as its origin.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model import AssetId
from tests.integration.management.conftest import Installation
from tests.support import pictures
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="module")
JPEG = {"Content_Type": "image/jpeg"}


def picture(folder: Path, width: int, height: int = 60) -> bytes:
    return pictures.jpeg(folder / f"{width}.jpg", width, height).read_bytes()


async def put(
    installation: Installation, path: str, body: bytes, status: int, **headers: str
) -> Any:
    reply = await installation.call("PUT", path, body, **{**JPEG, **headers})
    assert reply.status == status, reply.body
    return json.loads(reply.body)


async def uploads(installation: Installation, asset_id: AssetId) -> dict[str, str]:
    """The states of the objects that were sent for an asset."""
    rows = await installation.site.services.catalog.objects.of(asset_id)
    return {row.object.key: row.state for row in rows if row.object.kind == "upload"}


async def test_a_picture_in_the_body_is_ingested_with_its_properties_and_can_be_again(
    installation: Installation, tmp_path: Path
):
    path, asset_id = "/customers/1/spaces/1/images/sent%2Fa", AssetId(1, 1, "sent/a")
    query = "?imageOptimisationPolicy=fastest&roles=staff&maxUnauthorised=40&tags=x,y&number1=7"
    made = await put(installation, path + query, picture(tmp_path, 90), 201)
    assert (made["state"], made["width"], made["height"]) == ("ready", 90, 60)
    assert (made["roles"], made["maxUnauthorised"]) == (["staff"], 40)
    assert (made["tags"], made["number1"]) == (["x", "y"], 7)
    assert made["origin"].startswith("upload:1/1/")
    key = made["origin"].removeprefix("upload:")
    assert await uploads(installation, asset_id) == {key: "live"}
    info = await installation.document("/iiif-img/1/1/sent%2Fa/info.json")
    assert (info["width"], info["maxWidth"]) == (90, 40)

    again = await installation.call("POST", f"{path}/reingest")
    assert again.status == 200, again.body
    assert json.loads(again.body)["version"] > made["version"]
    same = {"origin": made["origin"], "string1": "from the JSON that GET showed"}
    assert (await installation.call("PUT", path, same)).status == 200
    assert await uploads(installation, asset_id) == {key: "live"}

    replaced = await put(installation, path, picture(tmp_path, 120), 200)
    assert (replaced["width"], replaced["roles"]) == (120, ["staff"])
    states = await uploads(installation, asset_id)
    assert states.pop(replaced["origin"].removeprefix("upload:")) == "live"
    assert set(states.values()) <= {"unwanted"}
    assert (await installation.call("DELETE", path)).status == 200
    assert set((await uploads(installation, asset_id)).values()) <= {"unwanted"}


async def test_a_client_that_does_not_wait_gets_a_job_that_reads_the_stored_picture(
    installation: Installation, tmp_path: Path
):
    path = "/customers/1/spaces/1/images/sent-async"
    accepted = await put(installation, path, picture(tmp_path, 91), 202, Prefer="respond-async")
    async with asyncio.timeout(30 * patience()):
        while True:
            shown = json.loads((await installation.call("GET", path)).body)
            if shown["state"] != "ingesting":
                break
            await asyncio.sleep(0.05)
    assert (shown["state"], shown["width"]) == ("ready", 91)
    job = await installation.site.services.catalog.jobs.get(accepted["job"])
    assert job is not None
    assert "origin" not in job.payload


async def test_a_body_that_is_refused_leaves_nothing(installation: Installation, tmp_path: Path):
    path, asset_id = "/customers/1/spaces/1/images/sent-bad", AssetId(1, 1, "sent-bad")
    html = await put(installation, path, b"<html>no picture</html>", 422)
    assert html["code"] == "not_an_image"
    assert (await put(installation, path, b"", 422))["code"] == "not_an_image"
    unknown = await put(installation, f"{path}?thumbnailPolicy=none-such", b"x", 400)
    assert "none-such" in unknown["error"]
    await put(installation, path, b"x", 412, If_Match='"other"')
    assert await uploads(installation, asset_id) == {}
    assert (await installation.call("GET", path)).status == 404

    quota = {"maximumTotalSizeOfStoredImages": 10}
    customer = await installation.customer("small")
    limit = await installation.call("PUT", f"/customers/{customer}/storagePolicy", quota)
    assert limit.status == 200
    over = f"/customers/{customer}/spaces/1/images/a"
    assert (await put(installation, over, picture(tmp_path, 92), 507))["code"] == "over_quota"
    assert (await installation.call("GET", over)).status == 404
    assert "live" not in (await uploads(installation, AssetId(customer, 1, "a"))).values()


async def test_the_picture_of_another_asset_is_no_origin(
    installation: Installation, tmp_path: Path
):
    made = await put(
        installation, "/customers/1/spaces/1/images/sent-own", picture(tmp_path, 93), 201
    )
    stolen = {"origin": made["origin"]}
    reply = await installation.call("PUT", "/customers/1/spaces/1/images/sent-other", stolen)
    assert reply.status == 400, reply.body
    query = await installation.call("PUT", "/customers/1/spaces/1/images/x?tags=a", stolen)
    assert query.status == 400
    strategy = {"regex": "x", "strategy": "upload"}
    assert (
        await installation.call("POST", "/customers/1/originStrategies", strategy)
    ).status == 400


async def test_a_large_body_is_streamed_and_one_over_the_limit_refused(
    installation: Installation,
):
    path = "/customers/1/spaces/1/images/sent-large"

    async def chunks() -> AsyncIterator[bytes]:
        yield b"\xff\xd8\xff" + bytes(1000)
        for _ in range(64):
            yield bytes(1024**2)

    url = f"{installation.site.private}{path}"
    headers = {"Authorization": f"Bearer {installation.admin}", "Content-Type": "image/jpeg"}
    async with installation.site.session.put(url, data=chunks(), headers=headers) as response:
        assert response.status == 422  # received whole, and no picture
        assert (await response.json())["code"] in ("damaged", "unsupported", "not_an_image")
    limit = installation.site.services.settings.ingest.max_bytes
    host, port = installation.site.private.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"PUT {path} HTTP/1.1", "Host: x", *(f"{k}: {v}" for k, v in headers.items())]
    writer.write("\r\n".join([*lines, f"Content-Length: {limit + 1}", "", ""]).encode())
    async with asyncio.timeout(30 * patience()):
        assert b" 413 " in await reader.readline()
    writer.close()
