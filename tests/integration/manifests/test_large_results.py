"""A named query over many assets: the time to the first byte, and the memory of the server."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
import pytest_asyncio

from orchestrator.settings import Ico
from tests.integration.ico.conftest import Site, open_site
from tests.support.patience import patience
from tests.support.server_fixtures import new_database
from tests.support.turn_length import LIMIT_S, longest_turn

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGE = 1000
FIRST_BYTE_S = 0.1
MAX_GROWTH = 40 * 1000**2
"""More memory than this is not the page of one request, which has about 5 MB."""
_INSERT = """INSERT INTO assets (customer, space, name, version, state, width, height, origin,
        media_type, strings, numbers, tags, thumbnails, source)
    SELECT 1, 1 + n % 3, 'page_' || lpad(n::text, 7, '0') || '.tif', 1 + n, 'ready', 4000, 3000,
        's3://bucket/pages/' || n || '.tif', 'image/tiff', ARRAY['atlas', 'v' || n / 500, ''],
        ARRAY[n, n % 1000, 0], ARRAY['t' || n % 50],
        '{"o": [[1000, 750], [400, 300], [200, 150], [100, 75]], "a": []}',
        jsonb_build_object('location', 'store:1/1/page/1/source.jp2', 'kind', 'jpeg2000',
            'bytes', 5000000, 'fingerprint', md5(n::text), 'extension', 'jp2', 'tile_width', 256,
            'tile_height', 256, 'levels', 5, 'natively_tiled', false)
    FROM generate_series(0, $1::int - 1) AS n"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    dsn = await new_database(postgres)
    async with open_site(dsn, tmp_path_factory.mktemp("large"), Ico()) as site:
        queries = site.services.catalog.named_queries
        await queries.put(1, "by_name", "s1=p1")
        await queries.put(1, "by_number", "s1=p1&assetOrder=n2 desc;n1")
        yield site


async def fill(site: Site, assets: int) -> None:
    """Have exactly as many assets."""
    async with site.services.catalog.connection() as connection:
        if await connection.fetchval("SELECT count(*) FROM assets") == assets:
            return
        await connection.execute("TRUNCATE assets CASCADE")
        await connection.execute(_INSERT, assets, timeout=300 * patience())
        await connection.execute("VACUUM (ANALYZE) assets", timeout=300 * patience())


async def index_scans(site: Site) -> int:
    """How often the index of the first string was read."""
    async with site.services.catalog.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'assets_string1'"
            )
        )


async def read(session: aiohttp.ClientSession, url: str) -> tuple[float, bytes]:
    """Seconds to the first byte of the body, and the body."""
    began = time.perf_counter()
    async with session.get(url) as response:
        first = await response.content.readany()
        first_s = time.perf_counter() - began
        body = first + await response.read()
        assert response.status == 200, body
    return first_s, body


@pytest.mark.parametrize(
    "assets", [pytest.param(100_000, marks=pytest.mark.soak), 5_000], ids=["100000", "5000"]
)
async def test_the_first_byte_comes_soon_and_memory_does_not_grow(site: Site, assets: int) -> None:
    await fill(site, assets)
    scans = await index_scans(site)
    for query in ("by_name", "by_number"):
        url = f"{site.base}/iiif-resource/v3/1/{query}/atlas"
        collection_s = [(await read(site.session, url))[0] for _ in range(5)]
        members = json.loads((await read(site.session, url))[1])["items"]
        assert len(members) == assets // PAGE
        process = psutil.Process()
        await read(site.session, members[0]["id"])
        before, page_s, found = process.memory_info().rss, [], 0
        for member in members[:: max(1, len(members) // 10)]:
            seconds, body = await read(site.session, member["id"])
            page_s.append(seconds)
            found += body.count(b'"type":"Canvas"')
        growth = process.memory_info().rss - before
        figures = (
            f"{query}: collection {1000 * statistics.median(collection_s):.0f} ms, page"
            f" {1000 * statistics.median(page_s):.0f} ms, growth {growth / 1e6:.1f} MB"
        )
        print(figures)
        assert found == len(page_s) * PAGE
        assert growth < MAX_GROWTH, figures
        # The figure is that of a quiet machine.
        assert statistics.median(collection_s) < FIRST_BYTE_S * patience(), figures
        assert statistics.median(page_s) < 4 * FIRST_BYTE_S * patience(), figures
    async with asyncio.timeout(30 * patience()):  # a session reports its scans when it is idle
        while await index_scans(site) < scans + 4:
            await asyncio.sleep(0.05)


async def test_no_long_list_or_batch_keeps_the_event_loop_from_other_requests(site: Site) -> None:
    await fill(site, 5_000)
    key = (await site.services.catalog.keys.create(1, admin=True)).token
    members = [
        {"id": f"new-{n}", "space": 9, "origin": f"http://127.0.0.1:9/{n}.tif"} for n in range(PAGE)
    ]
    batch = json.dumps({"member": members}).encode()
    api, lists = {"Authorization": f"Bearer {key}"}, f"limit={PAGE}"
    page = f"{site.base}/iiif-resource/v3/1/by_name/atlas?page=2"
    await read(site.session, f"{site.base}/?{lists}")  # what a first request prepares once
    requests = [
        ("GET", f"{site.base}/?{lists}", {"Accept": "application/json"}),
        ("GET", f"{site.base}/?{lists}", {"Accept": "text/html"}),
        ("GET", f"{site.base}/?{lists}&q=atlas", {"Accept": "application/json"}),
        ("GET", page, {"Accept-Encoding": "gzip"}),
        ("GET", page.replace("/v3/", "/v2/"), {"Accept-Encoding": "identity"}),
        ("GET", f"{site.base}/iiif-collection/v3/1/1?page=1", {}),
        ("GET", f"{site.private}/customers/1/spaces/1/images?{lists}", api),
        ("GET", f"{site.private}/customers/1/allImages?{lists}", api),
        ("POST", f"{site.private}/customers/1/queue", api | {"Content-Type": "application/json"}),
        ("GET", f"{site.private}/jobs?{lists}", api),
    ]
    turns = {}
    for method, url, headers in requests:
        async with longest_turn() as longest:
            body = batch if method == "POST" else None
            async with site.session.request(method, url, headers=headers, data=body) as response:
                async for _ in response.content.iter_any():
                    pass
                assert response.status in (200, 201), url
        turns[f"{method} {url}"] = longest.seconds
    assert not {name: used for name, used in turns.items() if used > LIMIT_S}, turns
