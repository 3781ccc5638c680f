"""Sources that are not copied to fast disk: images are cut from memory or by the special pool, or
the client gets 503. Memory and descriptors are bounded, and each source is read once.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from orchestrator import metrics
from orchestrator.cache.disk.cache import Product
from orchestrator.errors import NoRoom, Overloaded, SourceChanged
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging.intervals import Spans
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, Source, SourceKind
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.image_servers.builtin import BuiltinImageServer, recipe_for
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.memory_sources import WORTH_PARTS, MemorySourceCache, WholeSourceRequired
from orchestrator.routing.orchestrate import source_product
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.settings import CacheRule, ImageServerPool
from orchestrator.storage.filesystem_store import FilesystemStore
from tests.support import pictures
from tests.support.builders import a_source, an_asset
from tests.support.descriptors import open_memory_files

KEY = "1/1/sample/1/source.tif"
TILE = "256,256,512,512/256,256/0/default.jpg"


class CountingStore(FilesystemStore):
    """A store that counts how often an object is opened."""

    opened = 0

    def open(self, key, **options):
        self.opened += 1
        return super().open(key, **options)


@pytest.fixture
async def store(tmp_path) -> AsyncIterator[CountingStore]:
    store = CountingStore(tmp_path / "objects")
    yield store
    await store.close()


async def stored(store: CountingStore, path: Path, kind: SourceKind, key: str = KEY) -> Asset:
    info = await store.put(key, path)
    source = a_source(
        location=f"store:{key}",
        bytes=path.stat().st_size,
        fingerprint=info.etag,
        kind=kind,
        extension=path.suffix[1:],
        levels=2,
    )
    return an_asset(width=1500, height=1000, source=source)


def resolved(path: str = TILE):
    return resolve(parse_image_request(tuple(path.split("/")), 3), (1500, 1000), Limits())


def answers_counted(why: str, how: str) -> float:
    return metrics.SOURCES_NOT_COPIED.labels(why=why, how=how)._value.get()


def product_of(asset: Asset) -> tuple[Asset, Product, Source]:
    assert asset.source is not None
    return asset, source_product(asset, asset.source), asset.source


@pytest.fixture
def renderer(imaging) -> BuiltinImageServer:
    return BuiltinImageServer(imaging, Encoder())


@pytest.mark.parametrize("make", [pictures.pyramid_tiff, pictures.jp2_tiled], ids=["tif", "jp2"])
async def test_an_image_cut_from_memory_has_the_same_pixels_as_one_cut_from_the_file(
    tmp_path, store, renderer, make
):
    suffix = "jp2" if make is pictures.jp2_tiled else "tif"
    kind = SourceKind.JPEG2000 if suffix == "jp2" else SourceKind.PYRAMID_TIFF
    path = make(tmp_path / f"source.{suffix}", 1500, 1000)
    asset = await stored(store, path, kind)
    memory = MemorySourceCache(store, 100_000_000)
    before = answers_counted("never", "memory")
    bodies = await asyncio.gather(
        *(
            UnorchestratedRenderer(memory, renderer, None).render(asset, resolved(), "never")
            for _ in range(8)
        )
    )
    assert set(bodies) == {await renderer.render(asset, path, resolved())}
    assert answers_counted("never", "memory") - before == 8
    assert store.opened == 1, "read once for all callers"
    memory.close()
    assert memory.bytes == 0


async def test_sources_in_memory_stay_within_their_budget(tmp_path, store):
    assets = []
    for number in range(3):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes([number]) * 1_000_000)
        assets.append(await stored(store, path, SourceKind.PYRAMID_TIFF, f"k/{number}"))
    memory = MemorySourceCache(store, 2_500_000)

    def open_source(number: int):
        return memory.open_whole(*product_of(assets[number]))

    async with open_source(0) as one, open_source(1):
        with pytest.raises(NoRoom):
            async with open_source(2):
                pass
        assert one.read_bytes() == bytes(1_000_000)
    async with open_source(2):  # the least recently used one is dropped
        assert memory.bytes == 2_000_000
    async with open_source(1):
        assert store.opened == 3, "was still in memory"
    before = open_memory_files()
    memory.close()
    assert open_memory_files() == before - 2


async def test_sources_in_memory_use_at_most_the_permitted_descriptors(tmp_path, store):
    assets = []
    for number in range(4):
        path = tmp_path / f"{number}"
        path.write_bytes(bytes([number]) * 1000)
        assets.append(await stored(store, path, SourceKind.PYRAMID_TIFF, f"k/{number}"))
    memory = MemorySourceCache(store, 10**6, max_files=2)

    async def read(number: int) -> None:
        async with memory.open_whole(*product_of(assets[number])) as path:
            assert path.read_bytes() == bytes([number]) * 1000

    before = open_memory_files()
    for number in range(4):
        await read(number)
    assert open_memory_files() == before + 2
    await read(3)
    assert store.opened == 4, "the last used ones are still in memory"
    async with AsyncExitStack() as stack:
        for asset in assets:  # more readers than files that are kept
            await stack.enter_async_context(memory.open_whole(*product_of(asset)))
    assert open_memory_files() == before + 2
    assert memory.bytes == 2000
    memory.close()
    assert (open_memory_files(), memory.bytes) == (before, 0)


async def test_making_room_examines_only_the_sources_that_are_dropped(tmp_path, store, monkeypatch):
    path = tmp_path / "source"
    path.write_bytes(bytes(4096))
    asset = await stored(store, path, SourceKind.PYRAMID_TIFF)
    _, product, source = product_of(asset)
    memory = MemorySourceCache(store, 100 * 4096)
    for number in range(100):
        async with memory.open_whole(asset, replace(product, version=number), source):
            pass
    examined, total = [], Spans.total.fget
    monkeypatch.setattr(Spans, "total", property(lambda held: examined.append(0) or total(held)))
    async with memory.open_whole(asset, replace(product, version=100), source):
        assert memory.bytes == 100 * 4096
    assert 0 < len(examined) < 10
    memory.close()


async def test_a_source_that_cannot_be_read_in_parts_leaves_no_partial_file(tmp_path, store):
    path = tmp_path / "source"
    path.write_bytes(bytes(2 * WORTH_PARTS))
    asset, product, source = product_of(await stored(store, path, SourceKind.PYRAMID_TIFF))
    memory = MemorySourceCache(store, 10**8)
    before = open_memory_files()
    recipe = recipe_for(asset, Path(), resolved(), Encoder())
    with pytest.raises(WholeSourceRequired):
        async with memory.open_parts(asset, product, source, recipe):
            pass
    assert (open_memory_files(), memory.bytes) == (before, 0)


async def test_a_replaced_source_is_not_used(tmp_path, store):
    path = tmp_path / "source.tif"
    path.write_bytes(bytes(5000))
    asset = await stored(store, path, SourceKind.PYRAMID_TIFF)
    await store.put(KEY, b"other bytes")
    memory = MemorySourceCache(store, 10**6)
    with pytest.raises(SourceChanged):
        async with memory.open_whole(*product_of(asset)):
            pass
    assert memory.bytes == 0


async def test_a_cancelled_reader_does_not_affect_the_next_one(tmp_path, store):
    path = tmp_path / "source.tif"
    path.write_bytes(os.urandom(3_000_000))
    asset = await stored(store, path, SourceKind.PYRAMID_TIFF)
    memory = MemorySourceCache(store, 10**7)

    async def read() -> bytes:
        async with memory.open_whole(*product_of(asset)) as at:
            return at.read_bytes()

    first, second = asyncio.create_task(read()), asyncio.create_task(read())
    await asyncio.sleep(0.002)
    first.cancel()
    assert await second == path.read_bytes()
    await asyncio.gather(first, return_exceptions=True)
    memory.close()


@asynccontextmanager
async def special_pool() -> AsyncIterator[tuple[RemotePool, list[str]]]:
    """A fake of Cantaloupe with S3Source."""
    requests: list[str] = []
    jpeg = io.BytesIO()
    Image.new("RGB", (256, 256), (9, 9, 9)).save(jpeg, "JPEG")

    async def answer(request: web.Request) -> web.Response:
        requests.append(request.raw_path)
        return web.Response(body=jpeg.getvalue(), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    server = RemotePool(
        ImageServerPool(addresses=[address], reads="objects"), BuiltinImageServer, "special"
    )
    try:
        yield server, requests
    finally:
        await server.close()
        await runner.cleanup()


async def test_a_source_that_does_not_fit_in_memory_goes_to_the_special_pool(
    tmp_path, store, renderer
):
    path = pictures.pyramid_tiff(tmp_path / "source.tif", 1500, 1000)
    asset = await stored(store, path, SourceKind.PYRAMID_TIFF)
    before = answers_counted("no_room", "special")
    async with special_pool() as (special, requests):
        unorchestrated = UnorchestratedRenderer(MemorySourceCache(store, 1000), renderer, special)
        assert await unorchestrated.render(asset, resolved(), "no_room")
        assert requests == [f"/iiif/3/{KEY.replace('/', '%2F')}/256,256,512,512/256,/0/default.jpg"]
        with pytest.raises(
            Overloaded
        ):  # the special pool cannot make webp, and no other way is left
            await unorchestrated.render(asset, resolved(TILE.replace("jpg", "webp")), "no_room")
    assert answers_counted("no_room", "special") - before == 1
    assert store.opened == 0


async def test_without_a_special_pool_the_client_gets_503_with_retry_after(store, renderer, caplog):
    asset = an_asset()
    before = answers_counted("no_room", "refused")
    with pytest.raises(Overloaded) as refused:
        await UnorchestratedRenderer(MemorySourceCache(store, 0), renderer, None).render(
            asset, resolved(), "no_room"
        )
    assert refused.value.retry_after_s == 5
    assert answers_counted("no_room", "refused") - before == 1
    assert "source not orchestrated" in [record.message for record in caplog.records]


def test_rules_and_fields_of_the_asset_decide_pins_and_copies():
    rules = CachingRules.of(
        [
            CacheRule(asset_id="^1/2/", pinned=True),
            CacheRule(asset_id="/giga", orchestrate=False),
        ]
    )
    asset = an_asset()  # 1/1/sample
    treasure = replace(asset, id=replace(asset.id, space=2))
    giga = replace(asset, id=replace(asset.id, name="giga"))
    assert [rules.is_pinned(each) for each in (asset, treasure, giga)] == [False, True, False]
    assert [rules.may_orchestrate(each) for each in (asset, treasure, giga)] == [True, True, False]
    assert rules.is_pinned(replace(asset, pinned=True))
    assert not rules.may_orchestrate(replace(asset, orchestrate=False))
    assert not CachingRules().is_pinned(asset)
    assert CachingRules().may_orchestrate(asset)
