"""Origin strategies, policies and storage policies by the API."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.integration.api.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def customer(house: House) -> int:
    return await house.customer()


@pytest_asyncio.fixture(loop_scope="module")
async def at(customer: int) -> str:
    return f"/customers/{customer}/originStrategies"


def basic(**more: Any) -> dict[str, Any]:
    return {
        "regex": r"https?://127\.0\.0\.1.*/locked",
        "strategy": "basic-http-authentication",
        "credentials": {"user": "me", "password": "s3cret"},
        **more,
    }


async def test_a_strategy_is_created_shown_changed_and_deleted_without_its_secrets(
    house: House, at: str
):
    made = await house.ask("POST", at, {**basic(), "unknown": 1, "Place": "2"})
    assert made.status == 201, made.body
    where = made.headers["location"]
    strategy = made.json
    assert (strategy["strategy"], strategy["credentials"]) == ("basic-http-auth", "xxx")
    assert strategy["place"] == 2
    for reply in (
        await house.ask("GET", where),
        await house.ask("GET", at),
        await house.ask("PATCH", where, {"place": 5}),
        await house.ask("PUT", where, basic(credentials="xxx")),
    ):
        assert reply.status == 200, reply.body
        assert b"s3cret" not in reply.body
    assert (await house.ask("GET", where)).json["place"] == 0
    assert (await house.ask("DELETE", where)).status == 204
    for method in ("GET", "DELETE"):
        assert (await house.ask(method, where)).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        basic(regex=""),
        basic(regex="("),
        basic(regex="(?=a)b"),
        basic(regex="x" * 2000),
        basic(strategy="nonsense"),
        basic(credentials=None),
        basic(credentials={"user": "x"}),
        basic(credentials="no json"),
        basic(credentials=7),
        basic(optimised=True),
        basic(place=-1),
        {"regex": "x", "strategy": "s3-ambient", "credentials": {"user": "a", "password": "b"}},
    ],
    ids=range(13),
)
async def test_an_invalid_strategy_is_refused(house: House, at: str, body: Any):
    reply = await house.ask("POST", at, body)
    assert (reply.status, reply.code) == (400, "invalid_input"), reply.body
    assert (await house.ask("GET", at)).json == {"originStrategies": []}


async def test_a_second_strategy_with_the_same_regex_is_a_conflict(house: House, at: str):
    assert (await house.ask("POST", at, basic())).status == 201
    assert (await house.ask("POST", at, basic())).status == 409


async def test_the_test_of_an_origin_names_the_matching_strategy_and_whether_it_can_be_fetched(
    house: House, customer: int, at: str
):
    open_origin = house.picture()
    house.picture(name="locked1")
    house.origins.logins["/locked1.jpg"] = ("me", "s3cret")
    locked = house.origins.url("/locked1.jpg")

    plain = await house.ask("POST", f"{at}/test", {"origin": open_origin})
    assert plain.status == 200, plain.body
    assert (plain.json["strategy"], plain.json["originStrategy"]) == ("default", None)
    assert (plain.json["fetchable"], plain.json["fault"]) == (True, None)

    refused = (await house.ask("POST", f"{at}/test", {"origin": locked})).json
    assert (refused["fetchable"], refused["fault"]["code"]) == (False, "origin_refused")
    made = (await house.ask("POST", at, basic())).json
    now = (await house.ask("POST", f"{at}/test", {"origin": locked})).json
    assert (now["originStrategy"], now["strategy"]) == (made["id"], "basic-http-auth")
    assert now["fetchable"], now

    missing = (await house.ask("POST", f"{at}/test", {"origin": house.origins.url("/none")})).json
    assert missing["fault"]["code"] == "origin_not_found"
    html = (await house.ask("POST", f"{at}/test", {"origin": house.origins.url("/html")})).json
    assert html["fault"]["code"] == "not_an_image"

    path = f"/customers/{customer}/spaces/1/images/locked"
    assert (await house.ask("PUT", path, {"origin": locked})).status == 201
    for bad in ("/etc/passwd", "", "nothing", "gopher://x", 7):
        reply = await house.ask("POST", f"{at}/test", {"origin": bad})
        assert reply.status in (200, 400)
        assert reply.status == 400 or not reply.json["fetchable"]


async def test_a_policy_of_a_customer_has_precedence_over_a_global_one(house: House, customer: int):
    own = f"/customers/{customer}/thumbnailPolicies"
    listed = (await house.ask("GET", own)).json["policies"]
    assert [(each["name"], each["scope"], each["default"]) for each in listed] == [
        ("default", "built-in", True)
    ]
    assert (await house.ask("PUT", "/thumbnailPolicies/shared", {"sizes": [300]})).status == 201
    assert (await house.ask("GET", f"{own}/shared")).json["scope"] == "global"
    made = await house.ask("PUT", f"{own}/shared", {"sizes": ["!90,90", 40], "name": "ignored"})
    assert (made.status, made.headers["location"]) == (201, f"{own}/shared")
    shown = (await house.ask("GET", f"{own}/shared")).json
    assert (shown["scope"], shown["sizes"], shown["name"]) == ("customer", ["!90,90", 40], "shared")
    assert (await house.ask("PUT", f"{own}/shared", {"sizes": [50]})).status == 200
    other = await house.customer()
    theirs = await house.ask("GET", f"/customers/{other}/thumbnailPolicies/shared")
    assert theirs.json["sizes"] == [300]
    assert (await house.ask("DELETE", f"{own}/shared")).status == 204
    assert (await house.ask("DELETE", f"{own}/shared")).status == 404
    assert (await house.ask("GET", f"{own}/shared")).json["sizes"] == [300]
    assert (await house.ask("DELETE", "/thumbnailPolicies/shared")).status == 204


async def test_longest_edges_may_be_written_as_one_text(house: House, customer: int):
    own = f"/customers/{customer}/thumbnailPolicies"
    for text, sizes in (("1000,400,200,100", [1000, 400, 200, 100]), (" 300 ", [300])):
        assert (await house.ask("PUT", f"{own}/text", {"sizes": text})).status in (200, 201)
        assert (await house.ask("GET", f"{own}/text")).json["sizes"] == sizes
    for wrong in ("", "1000;400", "!200,200", "1000,", "a,b", "1,0"):
        assert (await house.ask("PUT", f"{own}/text", {"sizes": wrong})).status == 400


async def test_a_query_parameter_that_the_operation_does_not_have_is_refused(
    house: House, customer: int
):
    for path, query in (
        ("/jobs", "status=failed"),
        (f"/customers/{customer}/queue/batches", "state=running&page=2"),
        (f"/customers/{customer}/spaces/1/images", "Limit=5"),
        (f"/customers/{customer}/storagePolicy", "x="),
    ):
        refused = await house.ask("GET", f"{path}?{query}")
        assert (refused.status, refused.code) == (400, "invalid_input")
        assert query.rpartition("&")[2].partition("=")[0] in refused.json["error"]
    refused = await house.ask("DELETE", f"/customers/{customer}/spaces/1/images/none?dryRun=true")
    assert refused.status == 400
    twice = await house.ask("GET", f"/customers/{customer}/spaces/1/images?limit=1&limit=2")
    assert twice.status == 400
    assert (await house.ask("GET", f"/customers/{customer}/spaces/1/images?limit=5")).status == 200


@pytest.mark.parametrize("name", ["a{b}", "{", "}{", "{image}", "{0}"])
async def test_the_name_of_an_asset_may_have_braces(house: House, customer: int, name: str):
    at = f"/customers/{customer}/spaces/1/images/{quote(name)}"
    made = await house.ask("PUT", at, {"origin": house.picture()})
    assert (made.status, made.headers["location"]) == (201, at)
    assert (await house.ask("GET", at)).json["id"].endswith(name)
    assert (await house.ask("DELETE", at)).status in (200, 204)


async def test_an_optimisation_policy_decides_how_the_source_is_made(house: House, customer: int):
    own = f"/customers/{customer}/imageOptimisationPolicies"
    names = {each["name"] for each in (await house.ask("GET", own)).json["policies"]}
    assert names >= {"fastest", "fast-higher", "fast-lossy", "max-quality", "use-original"}
    body = {"format": "tiff", "quality": "60", "tile": 256}
    assert (await house.ask("PUT", f"{own}/mine", body)).status == 201
    image = await house.ask(
        "PUT",
        f"/customers/{customer}/spaces/1/images/steered",
        {"origin": house.picture(), "imageOptimisationPolicy": f"https://here{own}/mine"},
    )
    assert image.status == 201, image.body
    assert image.json["source"] == "pyramid-tiff"
    assert image.json["imageOptimisationPolicy"] == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        ("thumbnail", "x", {}),
        ("thumbnail", "x", {"sizes": []}),
        ("thumbnail", "x", {"sizes": "100;50"}),
        ("thumbnail", "x", {"sizes": ["nonsense"]}),
        ("thumbnail", "x", {"sizes": [-1]}),
        ("thumbnail", "x", {"sizes": [0]}),
        ("thumbnail", "x", {"sizes": ["max"]}),
        ("thumbnail", "x", {"sizes": list(range(1, 60))}),
        ("thumbnail", "a b", {"sizes": [100]}),
        ("thumbnail", "..%2F..", {"sizes": [100]}),
        ("imageOptimisation", "x", {"format": "bmp"}),
        ("imageOptimisation", "x", {"format": "jpeg2000", "quality": 101}),
        ("imageOptimisation", "x", {"format": "jpeg2000", "quality": 50, "lossless": True}),
        ("imageOptimisation", "x", {"format": "tiff", "psnr": 40}),
    ],
    ids=range(14),
)
async def test_an_invalid_policy_is_refused(house: House, kind: str, name: str, body: Any):
    reply = await house.ask("PUT", f"/customers/1/{kind}Policies/{name}", body)
    assert reply.status == 400, reply.body


async def test_a_preview_lists_the_thumbnails_of_an_image_size(house: House):
    preview = "/customers/1/thumbnailPolicies/default/preview"
    for method in ("GET", "POST"):
        reply = await house.ask(method, f"{preview}?width=1000&height=500")
        assert reply.status == 200, reply.body
        assert reply.json["thumbnails"] == [[200, 100], [100, 50], [50, 25]]
    assert (await house.ask("GET", f"{preview}?width=1&height=1")).json["thumbnails"] == [[1, 1]]
    for query in ("", "?width=0&height=1", "?width=x&height=1", "?width=1"):
        assert (await house.ask("GET", preview + query)).status == 400
    unknown = "/customers/1/thumbnailPolicies/none/preview?width=1&height=1"
    assert (await house.ask("GET", unknown)).status == 404
    assert (await house.ask("GET", "/thumbnailPolicies/default/preview?width=9&height=9")).json


async def test_a_storage_policy_is_shown_with_its_use(house: House, customer: int):
    at = f"/customers/{customer}/storagePolicy"
    empty = (await house.ask("GET", at)).json
    assert (empty["maximumNumberOfStoredImages"], empty["totalSizeOfStoredImages"]) == (None, 0)
    limits = {"maximumNumberOfStoredImages": 1, "maximumTotalSizeOfStoredImages": "50000000"}
    put = await house.ask("PUT", at, limits, key=house.admin)
    assert put.json["maximumTotalSizeOfStoredImages"] == 50_000_000
    images = f"/customers/{customer}/spaces/1/images"
    assert (await house.ask("PUT", f"{images}/a", {"origin": house.picture()})).status == 201
    used = (await house.ask("GET", at)).json
    assert (used["numberOfStoredImages"], used["totalSizeOfStoredImages"] > 0) == (1, True)
    assert (await house.ask("PUT", f"{images}/b", {"origin": house.picture()})).status == 507
    await house.ask("DELETE", f"{images}/a")
    assert (await house.ask("PUT", f"{images}/b", {"origin": house.picture()})).status in (200, 201)
    for bad in ({"maximumNumberOfStoredImages": -1}, {"maximumTotalSizeOfStoredImages": "x"}):
        assert (await house.ask("PUT", at, bad, key=house.admin)).status == 400
