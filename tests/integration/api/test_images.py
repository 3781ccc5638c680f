"""Assets by the API: put, shown, listed, changed, reingested, deleted; `/asset-ingest`."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import pytest

from orchestrator.model import AssetId
from tests.integration.api.conftest import House
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def put(house: House, path: str, **body: object):
    return await house.ask("PUT", path, body)


@pytest.fixture
def at(request: pytest.FixtureRequest) -> str:
    """The address of an image of customer 1 that no other test has."""
    return f"/customers/1/spaces/1/images/{abs(hash(request.node.name))}"


async def test_put_creates_with_201_and_replaces_with_200(house: House, at: str):
    made = await put(house, at, origin=house.picture(300, 200), tags=["x"], string1="one")
    assert made.status == 201, made.body
    assert made.headers["location"] == at
    image = made.json
    assert (image["state"], image["width"], image["height"]) == ("ready", 300, 200)
    assert (image["changed"], image["tags"], image["string1"]) == (True, ["x"], "one")
    assert image["thumbnails"]["open"] == [[200, 133], [100, 67], [50, 33]]

    again = await put(house, at, origin=house.picture(100, 400))
    assert again.status == 200, again.body
    assert (again.json["width"], again.json["version"] > image["version"]) == (100, True)
    assert again.json["tags"] == ["x"], "what a body does not name stays"

    shown = await house.ask("GET", at)
    assert shown.status == 200
    assert [each["outcome"] for each in shown.json["attempts"]] == ["completed", "completed"]
    assert shown.headers["etag"] == again.headers["etag"]


async def test_the_same_bytes_again_change_nothing_unless_forced(house: House, at: str):
    origin = house.picture()
    first = (await put(house, at, origin=origin)).json
    same = (await put(house, at, origin=origin)).json
    assert (same["changed"], same["version"]) == (False, first["version"])
    forced = (await put(house, at, origin=origin, force=True)).json
    assert (forced["changed"], forced["version"] > first["version"]) == (True, True)


async def test_a_name_may_hold_slashes(house: House):
    path = "/customers/1/spaces/3/images/folder%2Fpage%201"
    made = await put(house, path, origin=house.picture())
    assert made.status == 201, made.body
    assert made.json["id"] == "1/3/folder%2Fpage 1"
    assert made.json["name"] == "folder/page 1"
    assert (await house.ask("GET", path)).status == 200
    assert (await house.ask("GET", made.headers["location"])).status == 200


async def test_a_body_with_another_id_or_without_an_origin_is_refused(house: House, at: str):
    assert (await put(house, at, id="1/1/other", origin=house.picture())).status == 400
    assert (await put(house, at)).status == 400
    assert (await put(house, at, origin="gopher://x/y")).status == 400
    assert (await put(house, at, origin="/etc/passwd")).status == 400
    assert (await put(house, at, origin="file:///etc/passwd")).status == 400
    unknown = await put(house, at, origin=house.picture(), thumbnailPolicy="https://h/p/none")
    assert unknown.status == 400
    assert "Use one of" in unknown.json["error"]
    assert (await house.ask("GET", at)).status == 404, "nothing was recorded"


@pytest.mark.parametrize(
    ("path", "status", "code", "stage"),
    [
        ("/html", 422, "not_an_image", "fetch"),
        ("/missing", 502, "origin_not_found", "fetch"),
        ("/hang", 504, "origin_timeout", "fetch"),
        ("/broken.jpg", 422, "damaged", "probe"),
    ],
)
async def test_a_failed_ingest_reports_the_cause_in_the_response_and_the_asset(
    house: House, path: str, status: int, code: str, stage: str
):
    house.origins.files["/broken.jpg"] = b"\xff\xd8\xff\xe0" + b"\0" * 500
    at = f"/customers/1/spaces/1/images/fails{path[1:]}"
    reply = await put(house, at, origin=house.origins.url(path))
    assert (reply.status, reply.code, reply.json["stage"]) == (status, code, stage), reply.body
    assert reply.json["detail"]
    shown = (await house.ask("GET", at)).json
    assert (shown["state"], shown["servable"]) == ("failed", False)
    assert shown["error"] == reply.json["error"]
    fault = shown["attempts"][0]["fault"]
    assert {**fault, "status": status} == {
        name: reply.json[name] for name in ("code", "stage", "retryable", "detail", "status")
    }
    mended = await put(house, at, origin=house.picture())
    assert (mended.status, mended.json["error"]) == (200, "")


async def test_a_failed_replacement_leaves_the_old_version_serving(house: House, at: str):
    old = (await put(house, at, origin=house.picture())).json
    assert (await put(house, at, origin=house.origins.url("/html"))).status == 422
    now = (await house.ask("GET", at)).json
    assert (now["version"], now["servable"], now["origin"]) == (old["version"], True, old["origin"])
    assert "web page" in now["error"]


async def test_patch_of_descriptive_fields_does_not_read_the_origin(house: House, at: str):
    origin = house.picture()
    before = (await put(house, at, origin=origin, string1="a", string2="b")).json
    house.origins.requests.clear()
    reply = await house.ask(
        "PATCH",
        at,
        {"string2": "B", "number3": 7, "tags": "x,y", "rights": "https://r/1", "manifests": ["m"]},
    )
    assert reply.status == 200, reply.body
    image = reply.json
    assert (image["string1"], image["string2"], image["number3"]) == ("a", "B", 7)
    assert (image["tags"], image["rights"]) == (["x", "y"], "https://r/1")
    assert image["manifests"] == ["m"]
    assert image["version"] == before["version"]
    assert house.origins.requests == []
    cleared = (await house.ask("PATCH", at, {"tags": [], "rights": ""})).json
    assert (cleared["tags"], cleared["rights"]) == ([], "")


async def test_patch_of_rights_refiles_the_thumbnails_under_a_new_version(house: House, at: str):
    before = (await put(house, at, origin=house.picture())).json
    reply = await house.ask("PATCH", at, {"roles": ["staff"], "maxUnauthorised": 100})
    image = reply.json
    assert (image["roles"], image["maxUnauthorised"]) == (["staff"], 100)
    assert image["version"] > before["version"]
    assert image["thumbnails"] == {"open": [[100, 67], [50, 33]], "auth": [[200, 133]]}


async def test_patch_of_the_origin_or_a_policy_ingests_again(house: House, at: str):
    first = (await put(house, at, origin=house.picture(300, 200))).json
    moved = await house.ask("PATCH", at, {"origin": house.picture(200, 300)})
    assert (moved.status, moved.json["width"]) == (200, 200)
    sizes = {"sizes": [60]}
    path = "/customers/1/thumbnailPolicies/small"
    assert (await house.ask("PUT", path, sizes)).status == 201
    other = await house.ask(
        "PATCH", at, {"thumbnailPolicy": "https://here/thumbnailPolicies/small"}
    )
    assert other.status == 200, other.body
    assert other.json["thumbnails"]["open"] == [[40, 60]]
    assert other.json["thumbnailPolicy"] == "small"
    assert other.json["version"] > moved.json["version"] > first["version"]


async def test_patch_of_an_unknown_asset_is_404(house: House, at: str):
    assert (await house.ask("PATCH", at, {"tags": []})).status == 404
    assert (await house.ask("GET", at)).status == 404
    assert (await house.ask("DELETE", at)).status == 404
    assert (await house.ask("POST", f"{at}/reingest")).status == 404


async def test_reingest_reads_the_stored_origin_and_converts_again(house: House, at: str):
    first = (await put(house, at, origin=house.picture(), roles=["staff"])).json
    again = await house.ask("POST", f"{at}/reingest")
    assert again.status == 200, again.body
    assert again.json["version"] > first["version"]
    assert again.json["roles"] == ["staff"]


async def test_a_deletion_reports_the_objects_and_bytes_it_removes(house: House, at: str):
    await put(house, at, origin=house.picture())
    done = await house.ask("DELETE", at)
    assert done.status == 200
    assert done.json["objects"] >= 4
    assert done.json["bytes"] > 0
    assert (await house.ask("GET", at)).status == 404


async def test_a_change_may_be_made_conditional(house: House, at: str):
    origin = house.picture()
    assert (await house.ask("PUT", at, {"origin": origin}, If_Match="*")).status == 412
    made = await house.ask("PUT", at, {"origin": origin}, If_None_Match="*")
    assert made.status == 201
    assert (await house.ask("PUT", at, {"origin": origin}, If_None_Match="*")).status == 412
    tag = made.headers["etag"]
    changed = await house.ask("PATCH", at, {"tags": ["a"]}, If_Match=tag)
    assert changed.status == 200
    assert changed.headers["etag"] != tag
    assert (await house.ask("PATCH", at, {"tags": ["b"]}, If_Match=tag)).status == 412
    assert (await house.ask("DELETE", at, If_Match=tag)).status == 412
    assert (await house.ask("DELETE", at, If_Match=changed.headers["etag"])).status == 200


async def test_listing_a_space_page_by_page(house: House):
    customer = await house.customer()
    origin = house.picture(60, 40)
    names = [f"n{at:02}" for at in range(5)]
    for name in names:
        path = f"/customers/{customer}/spaces/4/images/{name}"
        assert (await put(house, path, origin=origin)).status == 201
    seen: list[str] = []
    page: str | None = f"/customers/{customer}/spaces/4/images?limit=2"
    while page:
        reply = (await house.ask("GET", page)).json
        seen += [image["name"] for image in reply["images"]]
        page = reply["next"]
    assert seen == names
    assert (await house.ask("GET", f"/customers/{customer}/spaces/5/images")).json == {
        "images": [],
        "next": None,
    }


async def test_a_change_that_widens_access_waits_for_the_new_version(house: House, at: str):
    before = (await put(house, at, origin=house.picture(), roles=["staff"])).json
    refused = await put(house, at, origin=house.origins.url("/html"), roles=[])
    assert refused.status == 422
    now = (await house.ask("GET", at)).json
    assert (now["roles"], now["version"]) == (["staff"], before["version"])


async def test_a_change_that_narrows_access_takes_effect_at_once(house: House, at: str):
    await put(house, at, origin=house.picture())
    refused = await put(house, at, origin=house.origins.url("/html"), roles=["staff"])
    assert refused.status == 422
    now = (await house.ask("GET", at)).json
    assert (now["roles"], now["thumbnails"]["open"]) == (["staff"], [])


@pytest.mark.parametrize("way", ["put", "asset-ingest", "batch"])
@pytest.mark.parametrize(("before", "after"), [([], ["staff"]), (["staff"], [])])
async def test_queued_ingests_narrow_access_at_once_and_widen_it_later(
    house: House, at: str, way: str, before: list[str], after: list[str]
):
    await put(house, at, origin=house.picture(), roles=before)
    image = (await house.ask("GET", at)).json["id"]
    customer = int(image.partition("/")[0])
    body = {"id": image, "origin": house.origins.url("/html"), "roles": after}
    method, path, asked = {
        "put": ("PUT", at, body),
        "asset-ingest": ("POST", "/asset-ingest", body),
        "batch": ("POST", f"/customers/{customer}/queue", {"member": [body]}),
    }[way]
    posted = await house.ask(method, path, asked, key=customer, Prefer="respond-async")
    assert posted.status in (201, 202), posted.body
    now = (await house.ask("GET", at)).json
    assert (now["roles"], now["thumbnails"]["open"]) == (["staff"], [])
    assert now["ingesting"]


# --- /asset-ingest ------------------------------------------------------------------------------


async def test_the_basic_request_of_the_engine_is_accepted(house: House):
    customer = await house.customer()
    body = {"id": "basic-request", "space": 1, "origin": house.picture(), "whatever": {"a": 1}}
    reply = await house.ask("POST", "/asset-ingest", body, key=customer)
    assert reply.status == 200, reply.body
    assert reply.json["id"] == f"{customer}/1/basic-request"
    by_id = {"id": {"customer": customer, "space": 1, "asset": "basic-request"}, "batchId": 0}
    known = await house.ask("POST", "/image-ingest", by_id, key=customer)
    assert (known.status, known.json["changed"]) == (200, False)
    missing = {"id": {"customer": customer, "space": 1, "asset": "missing"}}
    unknown = await house.ask("POST", "/asset-ingest", missing, key=customer)
    assert (unknown.status, unknown.code) == (404, "asset_not_found")
    foreign = {"id": "1/1/x", "origin": house.picture()}
    assert (await house.ask("POST", "/asset-ingest", foreign, key=customer)).status == 403
    nowhere = {"id": "77777/1/x", "origin": house.picture()}
    assert (await house.ask("POST", "/asset-ingest", nowhere)).status == 404


async def test_an_sns_notification_with_a_legacy_event_is_accepted(house: House):
    image = json.dumps({"id": "1/8/event", "origin": house.picture(), "batch": 0})
    event = {"_type": "event", "message": "event::image-ingest", "params": {"image": image}}
    body = {"TopicArn": "arn:x", "Message": json.dumps(event)}
    reply = await house.ask("POST", "/asset-ingest", body, Content_Type="text/plain; charset=UTF-8")
    assert (reply.status, reply.json["id"]) == (200, "1/8/event")


async def test_a_client_that_prefers_async_gets_202_and_a_job(house: House, at: str):
    for method, path, body in (
        ("POST", "/asset-ingest", {"id": "1/7/later", "origin": house.picture()}),
        ("PUT", at, {"origin": house.picture()}),
    ):
        reply = await house.ask(method, path, body, key=1, Prefer="wait=5, Respond-Async")
        assert reply.status == 202, reply.body
        assert reply.headers["preference-applied"] == "respond-async"
        job = (await house.ask("GET", reply.headers["location"], key=1)).json
        assert (job["state"], job["image"]) == ("queued", reply.json["image"])
    declared = (await house.ask("GET", at)).json
    assert (declared["state"], declared["ingesting"], declared["servable"]) == (
        "ingesting",
        True,
        False,
    )
    patched = await house.ask("PATCH", at, {"tags": ["still"], "roles": ["staff"]})
    assert patched.status == 200, patched.body
    assert (patched.json["ingesting"], patched.json["tags"]) == (True, ["still"])


async def test_an_asset_over_the_quota_is_507_and_stores_nothing(house: House):
    customer = await house.customer()
    limits = {"maximumTotalSizeOfStoredImages": 10}
    storage = f"/customers/{customer}/storagePolicy"
    assert (await house.ask("PUT", storage, limits, key=house.admin)).status == 200
    path = f"/customers/{customer}/spaces/1/images/big"
    reply = await put(house, path, origin=house.picture())
    assert (reply.status, reply.code, reply.json["retryable"]) == (507, "over_quota", False)
    use = (await house.ask("GET", storage)).json
    assert (use["totalSizeOfStoredImages"], use["reservedSize"]) == (0, 0)
    assert use["maximumTotalSizeOfStoredImages"] == 10


async def test_more_waiting_clients_of_a_customer_than_allowed_get_503_with_retry_after(
    house: House,
):
    hang = house.origins.url("/hang")
    paths = [f"/customers/1/spaces/1/images/wait{number}" for number in range(3)]
    slow = [asyncio.create_task(put(house, path, origin=hang)) for path in paths[:2]]
    async with asyncio.timeout(5 * patience()):
        while house.origins.requests.count("/hang") < 2:
            await asyncio.sleep(0.01)
    refused = await put(house, paths[2], origin=house.picture())
    assert (refused.status, refused.code, refused.json["retryable"]) == (503, "overloaded", True)
    assert int(refused.headers["retry-after"]) >= 1
    assert [(await reply).status for reply in slow] == [504, 504]
    assert (await put(house, paths[2], origin=house.picture())).status == 201


async def test_a_client_that_disconnects_does_not_stop_its_ingest(house: House):
    _, writer = await asyncio.open_connection("127.0.0.1", house.port)
    body = json.dumps({"origin": house.picture(1500, 1000)}).encode()
    head = (
        f"PUT /customers/1/spaces/1/images/left HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {house.admin}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    house.origins.requests.clear()
    writer.write(head.encode() + body)
    async with asyncio.timeout(10 * patience()):
        while not house.origins.requests:
            await asyncio.sleep(0.005)
        writer.transport.abort()
        while True:
            asset = await house.services.catalog.assets.get(AssetId(1, 1, "left"))
            if asset is not None and asset.state == "ready":
                break
            await asyncio.sleep(0.05)
    assert asset.thumbnails.open
    with suppress(OSError):
        await writer.wait_closed()
