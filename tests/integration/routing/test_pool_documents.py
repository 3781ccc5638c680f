"""The tiles that a pool states in its info documents: requested once, kept, and never believed
about a picture of another size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.disk.options import DiskOptions
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import Encoder
from orchestrator.model import Asset, AssetState
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pool_documents import PoolDocuments
from orchestrator.routing.image_servers.pools import ImageServerPools, build_pools
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.settings import Delivery, ImageServer
from orchestrator.storage.filesystem_store import FilesystemStore
from tests.support.builders import a_source, an_asset
from tests.support.cantaloupe_double import CantaloupeDouble, cantaloupe_double

SIZE = (1400, 1000)
KEY = "1/1/sample/1/source.jp2"


@dataclass
class Scene:
    double: CantaloupeDouble
    sources: SourceOrchestrator
    cache: DiskCache
    flights: SingleFlight
    builtin: BuiltinImageServer
    opened: list[ImageServerPools] = field(default_factory=list)

    def documents(self, **changes: object) -> PoolDocuments:
        """What a process that has just started knows of the pool."""
        pool = {"addresses": [self.double.address], "reads": "objects", "info": "pool", **changes}
        rules = [{"requests": ["info"], "pool": "far"}]
        settings = ImageServer.model_validate({"pools": {"far": pool}, "rules": rules})
        pools = build_pools(settings, self.builtin)
        self.opened.append(pools)
        return PoolDocuments(pools, self.sources, self.cache, self.flights)


@pytest.fixture
async def scene(tmp_path: Path, imaging: ImagingPool) -> AsyncIterator[Scene]:
    picture = tmp_path / "picture.png"
    Image.new("RGB", SIZE).save(picture)
    store = FilesystemStore(tmp_path / "objects")
    cache = await DiskCache.open(tmp_path / "derivatives", DiskOptions(quota=10**8))
    flights = SingleFlight(tmp_path / "locks", remember=lambda _: 0)
    with cantaloupe_double(tmp_path, find={KEY: picture}.get) as double:
        scene = Scene(
            double,
            SourceOrchestrator(store, cache, flights, Delivery()),
            cache,
            flights,
            BuiltinImageServer(imaging, Encoder()),
        )
        yield scene
        for pools in scene.opened:
            await pools.close()
    await flights.close()
    await cache.close()
    await store.close()


def an_asset_of(size: tuple[int, int] = SIZE, version: int = 1) -> Asset:
    source = a_source(location=f"store:{KEY}", tile_width=256, tile_height=256)
    width, height = size
    return an_asset(
        source=source, width=width, height=height, version=version, state=AssetState.READY
    )


async def test_a_document_is_requested_once_for_each_version_and_kept_over_a_restart(
    scene: Scene,
) -> None:
    documents = scene.documents()
    tiles = await asyncio.gather(*(documents.tile_of(an_asset_of()) for _ in range(20)))
    assert set(tiles) == {(512, 512)}
    again = scene.documents()
    assert await again.tile_of(an_asset_of()) == (512, 512)
    assert len(scene.double.documents) == 1
    assert await again.tile_of(an_asset_of(version=2)) == (512, 512)
    assert len(scene.double.documents) == 2


async def test_a_document_is_requested_again_when_the_paths_of_the_pool_change(
    scene: Scene,
) -> None:
    documents = scene.documents()
    changed = scene.documents(path_template="/iiif/2/{path}/{image}")
    assert await documents.tile_of(an_asset_of()) == (512, 512)
    assert await changed.tile_of(an_asset_of()) == (512, 512)
    assert [target.split("/")[2] for target in scene.double.documents] == ["3", "2"]


async def test_a_document_about_a_picture_of_another_size_is_counted_and_not_used(
    scene: Scene,
) -> None:
    counted = metrics.UPSTREAM_REFUSED.labels(reason="dimensions")._value
    before = counted.get()
    documents = scene.documents()
    assert await documents.tile_of(an_asset_of((1200, 900))) is None
    assert counted.get() - before == 1
    assert await documents.tile_of(an_asset_of((1200, 900))) is None
    assert len(scene.double.documents) == 2, "it is not kept"


async def test_our_own_record_counts_if_the_pool_is_away_or_has_no_say(scene: Scene) -> None:
    away = scene.documents(addresses=["http://127.0.0.1:1"])
    silent = scene.documents(info="record")
    assert await away.tile_of(an_asset_of()) is None
    assert await silent.tile_of(an_asset_of()) is None
    assert scene.double.documents == []
