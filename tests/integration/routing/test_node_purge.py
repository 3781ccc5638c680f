"""Purges of the caches of Cantaloupe: each node, once per version, also when a node is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from orchestrator import metrics
from orchestrator.errors import ImageServerUnavailable
from orchestrator.model import Asset
from orchestrator.routing.image_servers.node_purge import MAX_PENDING, NodePurge, PoolPurge
from tests.support.builders import a_source, an_asset
from tests.support.cantaloupe_double import CREDENTIALS, CantaloupeDouble, cantaloupe_double
from tests.support.patience import patience
from tests.support.serve_process import free_port

NAME = "pictures/page.tif"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def asset_in_place(version: int = 1) -> Asset:
    source = a_source(location=f"file:///{NAME}")
    return an_asset(source=source, version=version)


async def until_purged(double: CantaloupeDouble, *names: str) -> None:
    async with asyncio.timeout(30 * patience()):
        while not set(names) <= set(double.purged):
            await asyncio.sleep(0.01)


async def test_what_was_asked_about_an_asset_is_purged_on_every_node_when_it_changes(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    asset, port = an_asset(), free_port()
    with cantaloupe_double(tmp_path) as near:
        purge = PoolPurge([near.address, f"http://127.0.0.1:{port}"], *CREDENTIALS)
        for name in ("1/a.tif", "1/b.tif"):
            await purge.before_use(session, near.address, asset, name)
        running = asyncio.create_task(purge.run(session))
        purge.on_change(lambda each: each == asset.id)
        await until_purged(near, "1/a.tif", "1/b.tif")
        with cantaloupe_double(tmp_path, port=port) as returned:
            await until_purged(returned, "1/a.tif", "1/b.tif")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        purge.on_change(lambda _: True)
        assert near.purged == ["1/a.tif", "1/b.tif"], "each only once"


async def test_a_file_that_is_read_in_place_is_purged_once_for_each_version_before_it_is_used(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with cantaloupe_double(tmp_path) as double:
        purge = PoolPurge([double.address], *CREDENTIALS)
        for version in (1, 2):
            asset = asset_in_place(version)
            uses = [purge.before_use(session, double.address, asset, NAME) for _ in range(20)]
            await asyncio.gather(*uses)
            assert double.purged == [NAME] * version


@pytest.mark.parametrize("secret", ["wrong", "secret"], ids=["refused", "away"])
async def test_a_node_that_did_not_purge_a_file_is_not_asked_about_it(
    session: aiohttp.ClientSession, tmp_path: Path, secret: str
) -> None:
    failed = metrics.IMAGE_SERVER_PURGES.labels(outcome="failed")._value
    before = failed.get()
    with cantaloupe_double(tmp_path) as double:
        address = double.address if secret == "wrong" else f"http://127.0.0.1:{free_port()}"
        purge = PoolPurge([address], "api", secret)
        with pytest.raises(ImageServerUnavailable):
            await purge.before_use(session, address, asset_in_place(), NAME)
    assert failed.get() - before == 1


async def test_more_items_than_a_node_can_wait_for_become_one_purge_of_everything(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    with cantaloupe_double(tmp_path) as double:
        purge = NodePurge(double.address, *CREDENTIALS)
        for number in range(MAX_PENDING + 1):
            purge.enqueue(f"{number}.tif")
        running = asyncio.create_task(purge.run(session))
        await until_purged(double, "*")
        assert double.purged == ["*"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
