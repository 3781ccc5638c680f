"""The jobs that store results of /ico: several results in one job, each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import orjson
import pytest
import pytest_asyncio

from orchestrator.settings import Ico
from orchestrator.transform.parameters import parse_parameters
from orchestrator.transform.result_jobs import ResultItem, job_draft
from tests.integration.ico.conftest import Site, jpeg, open_site
from tests.support.patience import patience
from tests.support.server_fixtures import new_database

pytestmark = pytest.mark.asyncio(loop_scope="module")
WIDTHS = range(40, 60)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("ico")
    dsn = await new_database(postgres)
    async with open_site(dsn, folder / "data", Ico(open=True, folder=str(folder / "in"))) as opened:
        yield opened


async def payloads(site: Site) -> list[list[dict[str, str]]]:
    """The results of each job that was recorded."""
    connection = await asyncpg.connect(site.services.settings.database.dsn.get_secret_value())
    try:
        rows = await connection.fetch("SELECT payload FROM jobs WHERE kind = 'ico_store'")
    finally:
        await connection.close()
    return [orjson.loads(row["payload"])["results"] for row in rows]


def item(site: Site, key: str, width: int, etag: str = "") -> ResultItem:
    store = site.services.transformer
    assert store is not None
    params = f"width={width}"
    canonical = parse_parameters(params).canonical
    return ResultItem(store.stores.choose("", ""), key, params, canonical, etag)


async def test_results_of_the_same_moment_are_recorded_as_one_job(site: Site) -> None:
    await site.put("many/a.jpg", jpeg(300, 200))
    await asyncio.gather(*(site.ask(f"/ico/width={width}/many/a.jpg") for width in WIDTHS))
    for width in WIDTHS:
        await site.until_stored(f"many/width={width}/a.jpg")
    recorded = await payloads(site)
    assert sum(map(len, recorded)) == len(WIDTHS)
    assert len(recorded) < len(WIDTHS) / 2


async def test_a_result_that_cannot_be_stored_keeps_no_other_one_from_it(site: Site) -> None:
    await site.put("mixed/broken.jpg", jpeg(300, 200)[:200])
    await site.put("mixed/whole.jpg", jpeg(300, 200))
    await site.services.submitter.submit(
        [job_draft([item(site, f"mixed/{name}.jpg", 50) for name in ("broken", "whole")])]
    )
    await site.until_stored("mixed/width=50/whole.jpg")
    async with asyncio.timeout(30 * patience()):
        while not (failed := await site.services.catalog.jobs.page(10, states=("failed",))):
            await asyncio.sleep(0.05)
    assert failed[0].fault is not None
    assert not failed[0].fault.retryable
    assert "mixed/width=50/broken.jpg" not in await site.keys("mixed/")


async def test_an_older_version_is_not_stored(site: Site) -> None:
    await site.put("old/a.jpg", jpeg(300, 200))
    etag = (await site.store.head("old/a.jpg")).etag
    await site.put("old/a.jpg", jpeg(301, 200))
    await site.services.submitter.submit(
        [job_draft([item(site, "old/a.jpg", 50, etag), item(site, "old/a.jpg", 60)])]
    )
    await site.until_stored("old/width=60/a.jpg")
    assert await site.keys("old/") == ["old/a.jpg", "old/width=60/a.jpg"]
