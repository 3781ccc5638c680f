"""Whole pictures and low zooms of a source that is not on this host: ranges of the object, then the
special pool, then the copy.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from PIL import Image

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.disk.options import DiskOptions
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.iiif.geometry import Limits, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, SourceKind
from orchestrator.routing.derivative_maker import DerivativeMaker
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.memory_sources import MemorySourceCache
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.plan import FromSource
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.settings import Delivery, ImageServerPool
from orchestrator.storage.filesystem_store import FilesystemStore
from tests.support import pictures
from tests.support.builders import a_source, an_asset
from tests.support.cantaloupe_double import CantaloupeDouble, cantaloupe_double
from tests.support.promotion import no_promotion

SIZE = (3000, 2600)
KEY = "1/1/sample/1/source.tif"


class RemoteStore(FilesystemStore):
    """A store on another host: it gives no local paths."""

    local_path = None  # type: ignore[assignment]


@dataclass
class Scene:
    """A cold asset, and what makes its derivatives."""

    maker: DerivativeMaker
    asset: Asset
    special: CantaloupeDouble
    warmed: list[Asset] = field(default_factory=list)
    _copies: float = field(default_factory=metrics.SOURCE_COPIES._value.get)

    @property
    def copies(self) -> float:
        return metrics.SOURCE_COPIES._value.get() - self._copies

    async def size_of(self, path: str) -> tuple[int, int]:
        """The size of the image made for these IIIF parameters."""
        image = resolve(parse_image_request(tuple(path.split("/")), 3), SIZE, Limits())
        body = (await self.maker.make(self.asset, image, FromSource())).body
        return Image.open(io.BytesIO(body)).size


@pytest.fixture
async def scene(tmp_path: Path, imaging: ImagingPool) -> AsyncIterator[Scene]:
    file = pictures.pyramid_tiff(tmp_path / "object.tif", *SIZE)
    async with open_scene(tmp_path, imaging, file, SourceKind.PYRAMID_TIFF) as scene:
        yield scene


@asynccontextmanager
async def open_scene(
    tmp_path: Path, imaging: ImagingPool, file: Path, kind: SourceKind
) -> AsyncIterator[Scene]:
    """A cold asset whose source is this file in the object store."""
    store = RemoteStore(tmp_path / "objects")
    given = shutil.copy(file, tmp_path / "given")
    info = await store.put(KEY, Path(given))
    source = a_source(
        location=f"store:{KEY}", bytes=file.stat().st_size, fingerprint=info.etag,
        kind=kind, extension=file.suffix[1:], levels=2,
    )  # fmt: skip
    asset = an_asset(width=SIZE[0], height=SIZE[1], source=source)
    cache = await DiskCache.open(tmp_path / "sources", DiskOptions(quota=10**9))
    delivery = Delivery(ranges_from=1)
    flights = SingleFlight(tmp_path / "locks", remember=lambda _: 0)
    builtin = BuiltinImageServer(imaging, Encoder())
    memory = MemorySourceCache(store, 10**8)
    with cantaloupe_double(tmp_path, find={KEY: file}.get) as double:
        settings = ImageServerPool(addresses=[double.address], reads="objects", canary_s=0)
        special = RemotePool(settings, builtin, "special")
        warmed: list[Asset] = []
        maker = DerivativeMaker(
            store=store,
            sources=SourceOrchestrator(store, cache, flights, delivery),
            promoted=no_promotion(cache, tmp_path),
            unorchestrated=UnorchestratedRenderer(memory, builtin, special),
            image_servers=ImageServerPools({"default": builtin}),
            pool=imaging,
            encoder=Encoder(),
            max_decode_pixels=10**9,
            on_cold=warmed.append,
        )
        yield Scene(maker, asset, double, warmed)
        await special.close()
    memory.close()
    await flights.close()
    await cache.close()
    await store.close()


async def test_the_special_pool_is_asked_only_for_what_ranges_cannot_answer(scene: Scene) -> None:
    assert await scene.size_of("full/300,/0/default.jpg") == (300, 260)
    assert await scene.size_of("0,0,1200,1200/300,/0/default.jpg") == (300, 300)
    assert scene.special.images == []
    counted = metrics.SOURCES_NOT_COPIED.labels(why="cold", how="special")._value
    before = counted.get()
    assert await scene.size_of("full/max/0/default.jpg") == SIZE
    assert len(scene.special.images) == 1
    assert counted.get() - before == 1
    assert scene.copies == 0


async def test_a_tile_has_the_source_copied_and_a_whole_picture_has_not(scene: Scene) -> None:
    await scene.size_of("full/max/0/default.jpg")
    await scene.size_of("full/300,/0/default.jpg")
    assert scene.warmed == []
    await scene.size_of("0,0,256,256/256,/0/default.jpg")
    assert scene.warmed == [scene.asset]


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        ("status 500", 1),
        ("half", 2),  # a load balancer may have lost the server behind it
        ("wrong size", 1),
    ],
)
async def test_the_copy_answers_if_the_special_pool_does_not(
    scene: Scene, fault: str, requests: int
) -> None:
    scene.special.fault = fault
    assert await scene.size_of("full/max/0/default.jpg") == SIZE
    assert len(scene.special.images) == requests
    assert scene.copies == 1


async def test_a_source_that_is_never_copied_goes_to_the_special_pool_before_it_is_read_whole(
    tmp_path: Path, imaging: ImagingPool
) -> None:
    """Its 30 tiles are not listed in its header, so that no range of it can be chosen."""
    file = tmp_path / "object.jp2"
    options = {"tile_size": (512, 512), "num_resolutions": 3, "irreversible": True}
    pictures.picture(*SIZE, 1).save(file, "JPEG2000", **options)
    async with open_scene(tmp_path, imaging, file, SourceKind.JPEG2000) as scene:
        scene.asset = replace(scene.asset, orchestrate=False)
        assert await scene.size_of("full/300,/0/default.jpg") == (300, 260)
        assert len(scene.special.images) == 1
        scene.special.fault = "status 500"
        assert await scene.size_of("full/310,/0/default.jpg") == (310, 269)
        assert len(scene.special.images) == 2
        assert scene.copies == 0
