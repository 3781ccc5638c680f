"""Pictures shaped by their URL, in a folder and in a bucket: sizes, originals, and where results
are found.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from orchestrator.settings import Ico
from tests.integration.ico.conftest import (
    SEED,
    Site,
    bucket_settings,
    jpeg,
    new_database,
    open_site,
)
from tests.support.server_fixtures import S3Server

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
    settings = Ico(open=True, recheck_s=0, **where)
    dsn = await new_database(postgres)
    async with open_site(dsn, folder / "data", settings) as opened:
        yield opened


async def test_the_url_of_the_document_gives_its_picture(site: Site) -> None:
    await site.put("header/promo/kittens-hats.jpg", jpeg(1000, 800))
    answer = await site.ask(f"/ico/{SEED}/header/promo/kittens-hats.jpg")
    assert (answer.status, answer.tier) == (200, "resize")
    assert answer.size == (500, 400)
    assert answer.headers["content-type"] == "image/jpeg"
    stored = await site.until_stored(f"header/promo/{SEED}/kittens-hats.jpg")
    assert stored.media_type == "image/jpeg"
    again = await site.ask(f"/ico/{SEED}/header/promo/kittens-hats.jpg")
    assert (again.tier, again.body) == ("disk", answer.body)
