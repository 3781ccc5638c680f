"""Pictures shaped by their URL, in a folder and in a bucket: sizes, originals, and where results
are found.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from PIL import Image
from pydantic import SecretStr

from orchestrator import metrics
from orchestrator.settings import Ico
from tests.integration.ico.conftest import (
    PURGE_SECRET,
    SEED,
    Site,
    bucket_settings,
    jpeg,
    open_site,
)
from tests.support.patience import patience
from tests.support.server_fixtures import S3Server, new_database

pytestmark = pytest.mark.asyncio(loop_scope="module")
RED, BLUE = (200, 40, 40), (40, 40, 200)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["folder", "bucket"])
async def site(
    request: pytest.FixtureRequest,
    postgres: str,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("ico")
    where = {"folder": str(folder / "pictures")}
    if request.param == "bucket":
        where = bucket_settings(s3_server)
    settings = Ico(open=True, recheck_s=0, purge_secrets=[SecretStr(PURGE_SECRET)], **where)
    dsn = await new_database(postgres)
    async with open_site(dsn, folder / "data", settings) as opened:
        yield opened


def gif() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("P", (40, 20), colour) for colour in (1, 2, 3)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=[50, 70, 90])
    return buffer.getvalue()


async def test_the_url_of_the_document_gives_its_picture(site: Site) -> None:
    await site.put("header/promo/kittens-hats.jpg", jpeg(1000, 800))
    answer = await site.ask(f"/ico/{SEED}/header/promo/kittens-hats.jpg")
    assert (answer.status, answer.tier) == (200, "resize")
    assert answer.size == (500, 400)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == (
        "no-transform, public, max-age=86400, s-maxage=2592000"
    )
    stored = await site.until_stored(f"header/promo/{SEED}/kittens-hats.jpg")
    assert stored.media_type == "image/jpeg"
    await site.until_published()
    again = await site.ask(f"/ico/{SEED}/header/promo/kittens-hats.jpg")
    assert (again.tier, again.body) == ("disk", answer.body)


async def test_equivalent_spellings_share_one_result(site: Site) -> None:
    await site.put("same/a.jpg", jpeg(400, 300))
    first = await site.ask("/ico/width=100/same/a.jpg")
    await site.until_published()
    for spelling in ("d2lkdGg9MTAw", "height=0,width=100", "width=100%20,quality=75"):
        again = await site.ask(f"/ico/{spelling}/same/a.jpg")
        assert (again.tier, again.body) == ("disk", first.body)


@pytest.mark.parametrize(
    "params", ["width=-1", "quality=50", "width=41,height=5", "width=40,height=20", "height=65535"]
)
@pytest.mark.parametrize("name", ["a.jpg", "a.gif"])
async def test_the_original_is_returned_byte_for_byte_and_stored_once(
    site: Site, params: str, name: str
) -> None:
    body = gif() if name.endswith("gif") else jpeg(40, 20)
    await site.put(f"whole/{name}", body)
    answer = await site.ask(f"/ico/{params}/whole/{name}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == f"image/{'gif' if name.endswith('gif') else 'jpeg'}"
    assert answer.tier in ("original", "disk")
    head = await site.ask(f"/ico/{params}/whole/{name}", "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(body)))
    assert await site.keys(f"whole/{params}") == []


async def test_a_picture_of_one_pixel_requested_at_65535_is_the_original(site: Site) -> None:
    await site.put("one.jpg", jpeg(1, 1))
    answer = await site.ask("/ico/width=65535,height=65535/one.jpg")
    assert (answer.status, answer.body) == (200, jpeg(1, 1))


async def test_a_hundred_first_requests_make_one_result(site: Site) -> None:
    await site.put("flood/a.jpg", jpeg(600, 400))
    before = metrics.RENDERS._value.get(), metrics.ICO_RESULTS.labels("stored")._value.get()
    answers = await asyncio.gather(*(site.ask("/ico/width=300/flood/a.jpg") for _ in range(100)))
    assert {(each.status, each.body) for each in answers} == {(200, answers[0].body)}
    await site.until_stored("flood/width=300/a.jpg")
    after = metrics.RENDERS._value.get(), metrics.ICO_RESULTS.labels("stored")._value.get()
    assert (after[0] - before[0], after[1] - before[1]) == (1, 1)
    assert await site.keys("flood/") == ["flood/a.jpg", "flood/width=300/a.jpg"]


async def test_a_stored_result_is_used_by_a_host_that_has_no_copy(site: Site) -> None:
    await site.put("far/a.jpg", jpeg(500, 400))
    first = await site.ask("/ico/width=50/far/a.jpg", "HEAD")
    assert first.status == 200
    assert "far/width=50/a.jpg" in await site.keys("far/")  # HEAD waits until it is stored
    await site.until_published()
    await site.services.derivatives.assets.drop(f"ico:{_store(site)}/far/a.jpg")
    answer = await site.ask("/ico/width=50/far/a.jpg")
    assert (answer.tier, answer.size) == ("stored", (50, 40))


async def test_a_replaced_original_is_never_answered_from_old_results(site: Site) -> None:
    await site.put("news/a.jpg", jpeg(300, 200, RED))
    old = await site.ask("/ico/width=30/news/a.jpg")
    await site.until_stored("news/width=30/a.jpg")
    await site.ask("/ico/width=60/news/a.jpg", "HEAD")
    await site.put("news/a.jpg", jpeg(300, 202, BLUE))
    new = await site.ask("/ico/width=30/news/a.jpg")
    assert new.tier == "resize"
    assert new.headers["etag"] != old.headers["etag"]
    async with asyncio.timeout(
        30 * patience()
    ):  # the other result, which was not requested again, is deleted
        while "news/width=60/a.jpg" in await site.keys("news/"):
            await asyncio.sleep(0.02)
    stored = await site.until_stored("news/width=30/a.jpg")
    async with asyncio.timeout(30 * patience()):
        while stored.bytes != len(new.body):
            stored = await site.store.head("news/width=30/a.jpg")
    async with site.store.open("news/width=30/a.jpg") as stream:
        assert await stream.read() == new.body


async def test_results_of_a_replaced_original_are_deleted_also_if_the_answer_is_the_original(
    site: Site,
) -> None:
    await site.put("small/a.jpg", jpeg(300, 200))
    assert (await site.ask("/ico/width=100/small/a.jpg", "HEAD")).status == 200
    assert "small/width=100/a.jpg" in await site.keys("small/")
    await site.put("small/a.jpg", jpeg(50, 40))
    answer = await site.ask("/ico/width=100/small/a.jpg")
    assert (answer.tier, answer.body) == ("original", jpeg(50, 40))
    async with asyncio.timeout(30 * patience()):
        while await site.keys("small/") != ["small/a.jpg"]:
            await asyncio.sleep(0.02)


async def test_results_are_deleted_when_the_original_is_found_deleted(site: Site) -> None:
    await site.put("gone/a.jpg", jpeg(300, 200))
    assert (await site.ask("/ico/width=100/gone/a.jpg", "HEAD")).status == 200
    await site.store.delete(["gone/a.jpg"])
    assert (await site.ask("/ico/width=100/gone/a.jpg")).status == 404
    async with asyncio.timeout(30 * patience()):
        while await site.keys("gone/"):
            await asyncio.sleep(0.02)


async def test_a_truncated_original_is_refused_and_nothing_is_stored(site: Site) -> None:
    body = jpeg(800, 600)
    await site.put("cut/a.jpg", body[: len(body) // 2])
    for _ in range(2):
        answer = await site.ask("/ico/width=100/cut/a.jpg")
        assert answer.status == 422
    assert await site.keys("cut/") == ["cut/a.jpg"]


async def test_a_purge_deletes_the_results_of_one_picture(site: Site) -> None:
    for key in ("purge/a.jpg", "purge/promo/a.jpg", "purge/b.jpg"):
        await site.put(key, jpeg(300, 200))
    for path in ("a.jpg", "b.jpg", "promo/a.jpg"):
        assert (await site.ask(f"/ico/width=100/purge/{path}", "HEAD")).status == 200
    assert (await site.ask("/ico/width=50/purge/a.jpg", "HEAD")).status == 200
    await site.until_settled()
    secret = f"Bearer {PURGE_SECRET}"
    answer = await site.ask("/ico/purge/a.jpg", "DELETE", Authorization=secret)
    assert (answer.status, answer.body) == (200, b'{"result": true, "deleted": 2}')
    assert await site.keys("purge/") == [
        "purge/a.jpg",
        "purge/b.jpg",
        "purge/promo/a.jpg",
        "purge/promo/width=100/a.jpg",
        "purge/width=100/b.jpg",
    ]
    assert (await site.ask("/ico/width=100/purge/a.jpg")).tier == "resize"
    assert (await site.ask("/ico/width=100/purge/b.jpg")).tier == "disk"


async def test_an_unchanged_result_costs_no_body(site: Site) -> None:
    await site.put("tag.jpg", jpeg(300, 200))
    first = await site.ask("/ico/width=20/tag.jpg")
    again = await site.ask("/ico/width=20/tag.jpg", If_None_Match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    part = await site.ask("/ico/width=20/tag.jpg", Range="bytes=0-9")
    assert (part.status, part.body) == (206, first.body[:10])


def _store(site: Site) -> str:
    assert site.services.transformer is not None
    return site.services.transformer.stores.choose("", "")
