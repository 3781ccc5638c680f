"""Pages of documents, buckets with keys of their own, one bucket for both, the check of `doctor`,
and tiles of a pyramid that is cold.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator import metrics
from orchestrator.app import Services
from orchestrator.doctor import examine
from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset
from orchestrator.routing.derivative_maker import DerivativeMaker
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.memory_sources import MemorySourceCache
from orchestrator.routing.plan import FromSource
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.settings import Pyramids, Settings
from tests.integration.api.conftest import open_house, settings_for
from tests.integration.events.conftest import SECRET, PyramidSystem, jpeg, patient
from tests.support.bucket_events import PyramidBuckets
from tests.support.promotion import no_promotion
from tests.support.server_fixtures import S3Server, new_database
from tests.support.weed import CREDENTIALS


def a_document(pages: int) -> bytes:
    """A PDF with this many pages."""
    sheets = [Image.new("RGB", (300, 150), (40 * page, 90, 200)) for page in range(pages)]
    target = io.BytesIO()
    sheets[0].save(target, "PDF", save_all=True, append_images=sheets[1:], resolution=150)
    return target.getvalue()


@asynccontextmanager
async def a_system(
    postgres: str, endpoint: str, data: Path, **values: Any
) -> AsyncIterator[tuple[PyramidSystem, Settings]]:
    """An installation with these settings of pyramids."""
    settings = patient(settings_for(await new_database(postgres), data))
    with PyramidBuckets(endpoint) as buckets:
        changes = {
            name: value.format(**vars(buckets)) if isinstance(value, str) else value
            for name, value in values.items()
        }
        pyramids = Pyramids.model_validate(buckets.settings(event_secret=SECRET, **changes))
        delivery = settings.delivery.model_copy(update={"ranges_from": 1_000_000})
        changes = {"pyramids": pyramids, "delivery": delivery}
        settings = settings.model_copy(update=changes)
        async with open_house(settings) as house:
            yield PyramidSystem(house, buckets, None), settings


async def test_pages_become_pyramids_and_give_way_to_other_sources(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    async with a_system(postgres, s3_server.endpoint, tmp_path) as (system, _):
        await system.put("a/book_0002.jpg", jpeg())
        await system.put("a/book.pdf", a_document(3))
        await system.put("a/sheet.pdf", a_document(1))
        assert (await system.run()).done == 3
        pages = [f"a/book.pdf_000{page}.tif" for page in (1, 2, 3)]
        assert system.buckets.list_keys() == [*pages, "a/book_0002.tif", "a/sheet.tif"]
        await system.put("a/book.pdf", a_document(2))
        assert (await system.run()).done == 1
        assert system.buckets.list_keys() == [*pages[:2], "a/book_0002.tif", "a/sheet.tif"]
        assert await system.asset("a/book.pdf_0003") is None
        assert await system.asset("a/book.pdf_0002") is not None
        system.buckets.delete("a/book.pdf")
        await system.accept(system.buckets.record("a/book.pdf", name="ObjectRemoved:Delete"))
        await system.run()
        assert system.buckets.list_keys() == ["a/book_0002.tif", "a/sheet.tif"]


async def test_one_bucket_holds_originals_and_pyramids(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    one = {"image_bucket": "{source}", "image_prefix": "pyramids/"}
    async with a_system(postgres, s3_server.endpoint, tmp_path, **one) as (system, _):
        await system.put("a/1.tif", jpeg())
        own = system.buckets.record("pyramids/a/1.tif")
        assert (await system.accept(own))["ignored"] == 1, "the event of a pyramid"
        assert (await system.run()).done == 1
        assert system.buckets.list_keys(system.buckets.source) == ["a/1.tif", "pyramids/a/1.tif"]
        assert system.buckets.read(system.buckets.source, "a/1.tif") == jpeg()
        assert await system.asset("pyramids/a/1") is not None


async def test_a_bucket_may_have_keys_of_its_own_and_doctor_tries_each(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    access, secret = CREDENTIALS
    own = {"endpoint": s3_server.endpoint, "access_key": access, "secret_key": secret}
    values = {"access_key": "unknown", "logins": {"source": own, "image": own, "process": own}}
    async with a_system(postgres, s3_server.endpoint, tmp_path, **values) as (system, settings):
        await system.put("a/1.jpg", jpeg())
        assert (await system.run()).done == 1
        found = {each.check: each for each in await examine(settings)}
        assert found["pyramids"].status == "ok", found["pyramids"]
        assert system.buckets.list_keys() == ["a/1.tif"]
        changes = {"logins": {"source": own, "process": own}}
        wrong = settings.pyramids.model_dump() | changes
        settings = settings.model_copy(update={"pyramids": Pyramids.model_validate(wrong)})
        found = {each.check: each for each in await examine(settings)}
        assert found["pyramids"].status == "broken"
        assert "pyramids." in found["pyramids"].mend


async def test_the_settings_choose_prefixes_and_extensions(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    values = {"prefixes": ["digital/", "collections/"], "extensions": ["jpg", ".TIF"]}
    async with a_system(postgres, s3_server.endpoint, tmp_path, **values) as (system, _):
        keys = ["digital/1.JPG", "other/1.jpg", "digital/1.png", "collections/1.tif", "digital/1"]
        records = [system.buckets.record(key) for key in keys]
        counts = await system.accept(*records)
        assert (counts["accepted"], counts["ignored"]) == (2, 3)


@pytest.mark.parametrize("name", ["source_bucket", "image_bucket"])
async def test_without_buckets_events_are_not_found(
    postgres: str, s3_server: S3Server, tmp_path: Path, name: str
) -> None:
    async with a_system(postgres, s3_server.endpoint, tmp_path, **{name: ""}) as (system, _):
        assert (await system.post({"Records": []})).status == 404


def noise(width: int, height: int) -> bytes:
    """A picture whose pyramid is larger than most of that size."""
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=0)
    return target.getvalue()


def resolved(path: str, size: tuple[int, int]) -> ResolvedImage:
    return resolve(parse_image_request(tuple(path.split("/")), 3), size, Limits())


def a_maker(
    services: Services, memory: MemorySourceCache, on_cold: Callable[[Asset], None]
) -> DerivativeMaker:
    """What a serve process makes derivatives with."""
    server = BuiltinImageServer(services.imaging, Encoder())
    return DerivativeMaker(
        store=services.store,
        sources=services.source_warmer,
        promoted=no_promotion(services.sources, services.settings.data_dir),
        unorchestrated=UnorchestratedRenderer(memory, server, None),
        image_servers=ImageServerPools({"default": server}),
        pool=services.imaging,
        encoder=Encoder(),
        max_decode_pixels=10**9,
        on_cold=on_cold,
    )


async def test_a_tile_of_a_cold_pyramid_is_cut_from_ranges_of_the_object(
    postgres: str, s3_server: S3Server, tmp_path: Path
) -> None:
    size = 1500, 1300
    async with a_system(postgres, s3_server.endpoint, tmp_path) as (system, _):
        await system.put("cold/1.png", noise(*size))
        assert (await system.run()).done == 1
        asset = await system.asset("cold/1")
        assert asset is not None
        assert asset.source is not None
        assert asset.source.bytes > 1_000_000, "delivery.ranges_from of this test"
        services = system.house.services
        memory = MemorySourceCache(services.store, 10**8, services.origins.optimised)
        cold: list[Asset] = []
        maker = a_maker(services, memory, cold.append)
        tile = resolved("512,512,256,256/256,256/0/default.png", size)
        ranges, copies = metrics.SOURCE_RANGE_BYTES._value, metrics.SOURCE_COPIES._value
        before = ranges.get(), copies.get()
        from_ranges = await maker.make(asset, tile, FromSource())
        fetched = ranges.get() - before[0]
        assert 0 < fetched < asset.source.bytes / 4
        assert (copies.get() - before[1], cold) == (0, [asset])
        large = resolved("full/max/0/default.jpg", size)
        await maker.make(asset, large, FromSource())
        assert copies.get() - before[1] == 1, "it waits for the copy"
        from_copy = await maker.make(asset, tile, FromSource())
        assert ranges.get() - before[0] == fetched
        assert from_copy.body == from_ranges.body
        memory.close()
