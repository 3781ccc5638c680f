"""Promotion: an image that keeps drawing tiles from a slow source gets a pyramid on fast disk."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.disk.options import DiskOptions
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import SourceChanged
from orchestrator.iiif.geometry import Limits, ResolvedImage, resolve
from orchestrator.iiif.syntax import parse_image_request
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.recipes import FASTEST, Encoder
from orchestrator.model import Asset, AssetState, SourceKind, file_fingerprint
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.derivative_maker import DerivativeMaker
from orchestrator.routing.image_servers.builtin import BuiltinImageServer
from orchestrator.routing.image_servers.pools import ImageServerPools
from orchestrator.routing.image_servers.remote_pool import RemotePool
from orchestrator.routing.memory_sources import MemorySourceCache
from orchestrator.routing.orchestrate import SourceOrchestrator
from orchestrator.routing.plan import FromSource
from orchestrator.routing.promotion.promoted_sources import PromotedSources, promoted_product
from orchestrator.routing.promotion.promoter import Promoter, largest_bytes
from orchestrator.routing.promotion.tile_demand import TileDemand
from orchestrator.routing.unorchestrated import UnorchestratedRenderer
from orchestrator.settings import Delivery, ImageServerPool, Promotion
from orchestrator.storage.filesystem_store import FilesystemStore
from tests.support import pictures
from tests.support.builders import a_source, an_asset
from tests.support.patience import patience
from tests.support.promotion import hurry

SIZE = (1400, 1100)
TILE = 256
GRID = [(x, y) for y in range(0, SIZE[1], TILE) for x in range(0, SIZE[0], TILE)]
SHARE = 0.5
"""Of the pixels of the picture, after which it is promoted: 12 of its tiles."""
STEP = (FromSource(),)


@pytest.fixture(scope="module")
def jp2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promotion")
    return pictures.jp2_tiled(folder / "page.jp2", *SIZE, tile=TILE)


@dataclass
class Host:
    """What several processes of a host share, and the parts of one of them."""

    folder: Path
    store: FilesystemStore
    cache: DiskCache
    imaging: ImagingPool
    idle: float = 8.0
    """What is measured as the number of idle cores."""
    measured: int = 0
    kept_bytes: int = 10**9
    policies: dict[int, int] = field(default_factory=dict)
    """The scheduling policies of the workers, by process id."""
    settings: Promotion = field(
        default_factory=lambda: Promotion(share=SHARE, from_pixels=1, idle_cores=1)
    )

    async def measure(self) -> float:
        self.measured += 1
        await asyncio.sleep(0.01)
        return self.idle

    async def hurry(self) -> None:
        """Let the workers of promotions run, whatever else this machine does."""
        while True:
            for pid in self.imaging.idle_workers.pids:
                if pid not in self.policies:
                    with suppress(ProcessLookupError):  # it has just ended
                        self.policies[pid] = os.sched_getscheduler(pid)
                    hurry(pid)
            await asyncio.sleep(0.01)

    def sources(self) -> SourceOrchestrator:
        flights = SingleFlight(self.folder / "flights", remember=lambda _: 0)
        return SourceOrchestrator(self.store, self.cache, flights, Delivery())

    def process(self) -> Process:
        sources = self.sources()
        promoter = Promoter(
            self.cache,
            sources,
            self.imaging.idle_workers,
            self.settings,
            locks=self.folder / "promotions",
            idle_cores=self.measure,
        )
        demand = TileDemand(self.folder / "demand", self.settings.window_s)
        promoted = PromotedSources(
            self.cache, demand, self.settings, CachingRules(), promoter.enqueue,
            kept_bytes=self.kept_bytes,
        )  # fmt: skip
        builtin = BuiltinImageServer(self.imaging, Encoder(), cheap_pixels=16_384)
        memory = MemorySourceCache(self.store, 10**8)
        maker = DerivativeMaker(
            store=self.store,
            sources=sources,
            promoted=promoted,
            unorchestrated=UnorchestratedRenderer(memory, builtin, None),
            image_servers=ImageServerPools({"default": builtin}),
            pool=self.imaging,
            encoder=Encoder(),
            max_decode_pixels=10**9,
            on_cold=lambda _: None,
        )
        return Process(self, maker, promoted, promoter)

    async def asset_of(self, file: Path, kind: SourceKind, **changes: object) -> Asset:
        """An asset whose source is a file that is served in place."""
        source = a_source(
            location=f"file://{file}", bytes=file.stat().st_size, kind=kind, levels=3,
            fingerprint=file_fingerprint(file.stat()), extension=file.suffix[1:],
        )  # fmt: skip
        return an_asset(width=SIZE[0], height=SIZE[1], source=source, **changes)


@dataclass
class Process:
    host: Host
    maker: DerivativeMaker
    promoted: PromotedSources
    promoter: Promoter

    async def draw(self, asset: Asset, tiles: list[tuple[int, int]]) -> list[bytes]:
        return [(await self.maker.make(asset, tile(x, y), FromSource())).body for x, y in tiles]

    def ready(self, asset: Asset, image: ResolvedImage) -> bytes | None:
        return self.maker.ready(asset, image, STEP)

    @asynccontextmanager
    async def promoting(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each) for each in (self.promoter.run(), self.host.hurry())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


@pytest.fixture
async def host(tmp_path: Path, imaging: ImagingPool) -> AsyncIterator[Host]:
    async with open_host(tmp_path, imaging) as host:
        yield host


@asynccontextmanager
async def open_host(folder: Path, imaging: ImagingPool, quota: int = 10**9) -> AsyncIterator[Host]:
    cache = await DiskCache.open(folder / "sources", DiskOptions(quota=quota, use_flush_s=0.05))
    store = FilesystemStore(folder / "objects")
    try:
        yield Host(folder, store, cache, imaging)
    finally:
        await cache.close()
        await store.close()


def resolved(path: str) -> ResolvedImage:
    return resolve(parse_image_request(tuple(path.split("/")), 3), SIZE, Limits())


def tile(x: int, y: int, scale: int = 1, form: str = "jpg") -> ResolvedImage:
    """The tile of the grid of this scale factor that begins at (x, y)."""
    w, h = min(TILE * scale, SIZE[0] - x), min(TILE * scale, SIZE[1] - y)
    return resolved(f"{x},{y},{w},{h}/{-(-w // scale)},{-(-h // scale)}/0/default.{form}")


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60 * patience()
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


def outcomes(name: str) -> float:
    return metrics.PROMOTIONS.labels(outcome=name)._value.get()


def decodes() -> float:
    return metrics.DECODES.labels(kind="jpeg2000")._value.get()


def is_promoted(host: Host, asset: Asset) -> bool:
    assert asset.source is not None
    return host.cache.assets.has(promoted_product(asset, asset.source))


async def promote(host: Host, process: Process, asset: Asset) -> None:
    """Draw tiles until the asset has its pyramid."""
    await process.draw(asset, GRID)
    async with process.promoting():
        await until(lambda: is_promoted(host, asset), "promoted")


async def test_the_tiles_of_an_image_that_keeps_drawing_come_from_its_pyramid(
    host: Host, jp2: Path
) -> None:
    asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
    async with process.promoting():
        await process.draw(asset, GRID[:8])
        assert process.promoter._waiting.empty(), "one visit draws too little"
        before = await process.draw(asset, GRID[8:20])
        await until(lambda: is_promoted(host, asset), "promoted")
    assert process.ready(asset, tile(0, 0)) is None, "this process has not used it yet"
    decoded = decodes()
    assert_alike(before, await process.draw(asset, GRID[8:20]))
    assert decodes() == decoded
    assert process.ready(asset, tile(0, 0)) is not None
    assert process.maker.is_cheap(asset, resolved("0,0,50,50/50,50/0/default.jpg"), STEP)
    restarted = host.process()
    await restarted.draw(asset, GRID[:2])
    assert restarted.ready(asset, tile(0, 0)) is not None
    assert decodes() == decoded
    await host.cache.assets.drop_older(str(asset.id), asset.version + 1)  # as after a change
    assert process.ready(asset, tile(0, 0)) is None
    await process.draw(asset, GRID[:2])
    assert decodes() == decoded + 2
    assert files(host) == []


def files(host: Host) -> list[Path]:
    return [path for path in (host.folder / "sources").rglob("*") if path.is_file()]


def assert_alike(ours: list[bytes], theirs: list[bytes]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        a, b = (np.asarray(Image.open(io.BytesIO(each)), np.int16) for each in (one, other))
        assert a.shape == b.shape
        assert np.abs(a - b).mean() <= 2


async def test_all_tiles_together_are_the_picture_at_every_scale(host: Host, jp2: Path) -> None:
    asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
    await promote(host, process, asset)
    decoded, full = decodes(), Image.open(jp2).convert("RGB")
    for scale in (1, 2, 4):
        step = TILE * scale
        whole = np.zeros((-(-SIZE[1] // scale), -(-SIZE[0] // scale), 3), np.int16)
        for y in range(0, SIZE[1], step):
            for x in range(0, SIZE[0], step):
                body = (await process.maker.make(asset, tile(x, y, scale), FromSource())).body
                pixels = np.asarray(Image.open(io.BytesIO(body)))
                left, top = x // scale, y // scale
                whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        expected = np.asarray(full.resize(whole.shape[1::-1], Image.Resampling.BOX), np.int16)
        assert np.abs(whole - expected).mean() <= 2, scale
    assert decodes() == decoded
    await process.maker.make(asset, tile(0, 0, form="png"), FromSource())
    assert decodes() == decoded + 1, "a format without loss is cut from the source itself"


async def test_one_process_of_a_host_promotes_when_a_core_is_idle(host: Host, jp2: Path) -> None:
    host.idle = 0.5
    asset = await host.asset_of(jp2, SourceKind.JPEG2000)
    one, other = host.process(), host.process()
    made = outcomes("made")
    await one.draw(asset, GRID[:8])
    await other.draw(asset, GRID[8:16])
    assert not other.promoter._waiting.empty(), "the tiles of both processes count"
    await one.draw(asset, GRID[16:17])
    async with one.promoting(), other.promoting():
        await until(lambda: host.measured > 2, "measured again")
        assert not is_promoted(host, asset)
        assert host.imaging.idle_workers.pids == ()
        host.idle = 1.0
        await until(lambda: not one.promoter._in_hand and not other.promoter._in_hand, "both done")
    assert is_promoted(host, asset)
    assert outcomes("made") == made + 1


@asynccontextmanager
async def stopped_promotion(host: Host, process: Process, asset: Asset) -> AsyncIterator[int]:
    """The worker of a promotion that has begun, stopped during the block: its process id."""
    process.promoter.enqueue(asset)
    async with process.promoting():
        await until(lambda: host.imaging.idle_workers.pids != (), "begun")
        (pid,) = host.imaging.idle_workers.pids
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await until(lambda: not process.promoter._in_hand, "ended")


async def test_a_promotion_in_progress_takes_no_decode_slot_from_tiles(
    host: Host, jp2: Path
) -> None:
    """The pool has one worker for tiles. It answers while the promotion cannot proceed."""
    asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
    async with stopped_promotion(host, process, asset) as pid:
        await until(lambda: host.policies == {pid: os.SCHED_IDLE}, "seen")
        assert len(await process.draw(asset, GRID[:3])) == 3
        assert await host.imaging.probe(jp2)  # nor from conversions
        assert not is_promoted(host, asset)
    assert is_promoted(host, asset)
    assert host.imaging.idle_workers.pids == (), "the worker ends with its work"


async def test_a_change_of_the_asset_ends_its_promotion(host: Host, jp2: Path) -> None:
    asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
    changed = outcomes("changed")
    async with stopped_promotion(host, process, asset):
        process.promoter.on_change(asset.id)
        process.promoter.on_change(asset.id)
        await until(lambda: host.imaging.idle_workers.pids == (), "ended")
    assert outcomes("changed") == changed + 1
    assert files(host) == []
    process.promoter.enqueue(asset)
    process.promoter.on_change(asset.id)
    async with process.promoting():
        await until(process.promoter._waiting.empty, "passed over")
    assert host.imaging.idle_workers.pids == ()


async def test_the_pixels_of_a_replaced_file_are_never_those_of_its_version(
    host: Host, jp2: Path, tmp_path: Path
) -> None:
    file = Path(shutil.copy(jp2, tmp_path / "replaced.jp2"))
    asset, process = await host.asset_of(file, SourceKind.JPEG2000), host.process()
    status = file.stat()
    async with stopped_promotion(host, process, asset):
        os.utime(file, ns=(0, 0))
    assert not is_promoted(host, asset)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    await promote(host, process, asset)
    await process.draw(asset, GRID[:2])
    assert process.ready(asset, tile(0, 0)) is not None
    os.utime(file, ns=(0, 0))
    assert process.ready(asset, tile(0, 0)) is None
    with pytest.raises(SourceChanged):
        await process.draw(asset, GRID[:1])


async def test_a_promotion_stays_within_the_quota(
    tmp_path: Path, imaging: ImagingPool, jp2: Path
) -> None:
    async with open_host(tmp_path, imaging, quota=2_000_000) as host:
        asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
        no_room = outcomes("no_room")
        await process.draw(asset, GRID[:16])
        async with process.promoting():
            await until(lambda: outcomes("no_room") == no_room + 1, "refused")
        await process.draw(asset, GRID[16:17])
        assert process.promoter._waiting.empty(), "it is not tried again at once"
        assert files(host) == []
        await host.cache.maintenance.run_periodic_work()
        assert (await host.cache.maintenance.totals()).reserved == 0


async def test_the_room_for_a_pyramid_suffices_also_for_noise(host: Host, tmp_path: Path) -> None:
    for mode, bands in (("RGB", 3), ("RGBA", 4)):
        pixels = np.random.default_rng(1).integers(0, 256, (700, 900, bands), np.uint8)
        file = tmp_path / f"{mode}.png"
        Image.fromarray(pixels, mode).save(file)
        async with host.imaging.idle_workers.open() as worker:
            probe = await worker.probe(file)
            hurry(*host.imaging.idle_workers.pids)
            facts = await worker.write(file, tmp_path / f"{mode}.tif", FASTEST)
        assert largest_bytes(probe, FASTEST.tile) / 2 < facts.bytes
        assert facts.bytes <= largest_bytes(probe, FASTEST.tile)


async def test_a_promoted_source_that_cannot_be_read_is_removed_and_the_source_answers(
    host: Host, jp2: Path
) -> None:
    asset, process = await host.asset_of(jp2, SourceKind.JPEG2000), host.process()
    await promote(host, process, asset)
    (pyramid,) = files(host)
    pyramid.write_bytes(b"II*\0" + bytes(pyramid.stat().st_size - 4))
    decoded = decodes()
    assert len(await process.draw(asset, GRID[:1])) == 1
    assert decodes() == decoded + 1
    assert files(host) == []


async def test_which_images_count(host: Host, jp2: Path) -> None:
    jpeg2000 = await host.asset_of(jp2, SourceKind.JPEG2000)
    original = replace(await host.asset_of(jp2, SourceKind.ORIGINAL), version=2)
    pyramid = replace(await host.asset_of(jp2, SourceKind.PYRAMID_TIFF), version=3)
    cases = [
        (jpeg2000, tile(0, 0), 13),
        (original, tile(0, 0), 5 * 12),
        (pyramid, tile(0, 0), None),
        (replace(jpeg2000, version=4), resolved("full/300,/0/default.jpg"), None),
        (replace(jpeg2000, version=5), tile(0, 0, form="png"), None),
        (replace(jpeg2000, version=6, orchestrate=False), tile(0, 0), None),
        (replace(original, version=7, state=AssetState.REGISTERED), tile(0, 0), None),
        (replace(jpeg2000, version=8, source=None), tile(0, 0), None),
    ]
    for asset, image, needed in cases:
        process = host.process()
        for _ in range((needed or 200) - 2):
            process.promoted.count(asset, image)
        assert process.promoter._waiting.empty(), asset
        for _ in range(4):
            process.promoted.count(asset, image)
        assert process.promoter._waiting.empty() == (needed is None), asset
    host.kept_bytes = 10**6
    process = host.process()
    for count in range(3):
        assert process.promoter._waiting.empty(), count
        process.promoted.count(replace(original, version=10), tile(0, 0))
    assert not process.promoter._waiting.empty(), "each tile decodes the whole original"
    host.settings = Promotion(enabled=False, from_pixels=1, share=0.001)
    process = host.process()
    process.promoted.count(replace(jpeg2000, version=9), tile(0, 0))
    assert process.promoter._waiting.empty(), "it is turned off"


async def test_sources_that_other_image_servers_read_are_not_promoted(
    host: Host, jp2: Path
) -> None:
    asset = await host.asset_of(jp2, SourceKind.JPEG2000)
    builtin = BuiltinImageServer(host.imaging, Encoder())
    pool = RemotePool(ImageServerPool(addresses=["http://127.0.0.1:1"]), builtin)
    servers = ImageServerPools({"default": pool})
    assert servers.builtin_for(asset, tile(0, 0)) is None
    assert ImageServerPools({"default": builtin}).builtin_for(asset, tile(0, 0)) is builtin
    await pool.close()
