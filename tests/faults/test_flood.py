"""A thousand concurrent requests over four processes: one fetch of the source, one render per tile,
and correct answers.
"""

from __future__ import annotations

import asyncio
import io
from collections import defaultdict

import aiohttp
import pytest
from PIL import Image
from yarl import URL

from loadtests.benches.s3_server import counted_s3_server, s3_settings
from tests.support import pictures
from tests.support.serve_process import assert_log_clean, run_server, wait_until

CALLERS, PROCESSES = 1000, 4
TILES = [f"{x},{y},512,512/512,512/0/default.jpg" for y in (0, 512) for x in range(0, 2560, 512)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with counted_s3_server(tmp_path_factory.mktemp("weed")) as counted:
        yield counted


async def flood(urls: list[str]) -> dict[str, list[tuple[int, bytes]]]:
    answers: dict[str, list[tuple[int, bytes]]] = defaultdict(list)

    async def fetch(http: aiohttp.ClientSession, url: str) -> None:
        async with http.get(URL(url, encoded=True)) as response:
            answers[url].append((response.status, await response.read()))

    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=90)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
        asyncio.TaskGroup() as group,
    ):
        for url in urls:
            group.create_task(fetch(http, url))
    return answers


def test_a_thousand_callers_cost_one_fetch_and_one_render_per_tile(tmp_path, store):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "large.jpg", 3000, 2000)
    with run_server(
        folder, workers=PROCESSES, data=tmp_path / "data", env=s3_settings(store.address)
    ) as server:
        server.wait_converted()
        store.clear()
        before = server.metric("renders_total")
        base = f"{server.public}/iiif/3/1%2F1%2Flarge"
        urls = [f"{base}/{TILES[n % len(TILES)]}" for n in range(CALLERS)]
        answers = asyncio.run(flood(urls))
        assert sum(map(len, answers.values())) == CALLERS
        for url, responses in answers.items():
            assert {status for status, _ in responses} == {200}, url
            assert len({body for _, body in responses}) == 1, url
            assert Image.open(io.BytesIO(responses[0][1])).size == (
                (512, 512) if "2560" not in url else (440, 512)
            )
        wait_until(
            lambda: server.metric("renders_total") - before >= len(TILES),
            "the metrics of all processes are written, each within a second",
            5,
        )
        assert server.metric("renders_total") - before == len(TILES)
        assert len(store.requests("GET", "/source.")) == 1
        assert_log_clean(server.log())


def test_a_source_deleted_from_the_store_is_made_again_from_the_original_for_all_callers(
    tmp_path, store
):
    """The image is ingested again, and the callers do not flood the store with requests."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "lost.jpg", 2000, 1500)
    with run_server(
        folder, workers=2, data=tmp_path / "data", env=s3_settings(store.address)
    ) as server:
        server.wait_converted()
        asyncio.run(delete_sources(store.address))
        store.clear()
        base = f"{server.public}/iiif/3/1%2F1%2Flost"
        answers = asyncio.run(flood([f"{base}/{TILES[0]}"] * 200))
        statuses = {status for responses in answers.values() for status, _ in responses}
        assert statuses == {200}
        assert 1 <= len(store.requests("GET", "/source.")) <= 8
        thumbnail = asyncio.run(flood([f"{base}/full/200,/0/default.jpg"]))
        assert [status for responses in thumbnail.values() for status, _ in responses] == [200]


async def delete_sources(address: str) -> None:
    """Delete every source from the store without the product."""
    from orchestrator.settings import Storage
    from orchestrator.storage.s3_store import open_s3

    env = s3_settings(address)
    values = {
        name.removeprefix("ORCHESTRATOR_STORAGE__").lower(): value
        for name, value in env.items()
        if name.startswith("ORCHESTRATOR_STORAGE__")
    }
    async with open_s3(Storage(**values)) as store:
        keys = [info.key async for info in store.list("") if "/source." in info.key]
        assert keys
        await store.delete(keys)
