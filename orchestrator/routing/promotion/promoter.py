"""Makes promoted sources in the background (docs/adr/0032-promotion.md).

One promotion runs at a time on a host, or as many as the setting says, and it begins only while
processor cores are idle. Its decode worker has the lowest priority. Room in the source cache is
reserved before anything is written, and nothing has the name of a promoted source before it is
complete and checked. Clients never wait for a promotion and never see its failure.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cachetools import TTLCache

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.locks import try_lock
from orchestrator.errors import AssetNotFound, NoRoom, OrchestratorError, SourceChanged
from orchestrator.exception_text import describe_error
from orchestrator.imaging.decoded_original import scratch_bytes
from orchestrator.imaging.idle_workers import IdleWorkers
from orchestrator.imaging.recipes import Probe, pyramid_levels
from orchestrator.model import FILE, Asset, AssetId, Source
from orchestrator.origins.file_reader import verify_file
from orchestrator.routing.orchestrate import NotOrchestrated, SourceOrchestrator, source_of
from orchestrator.routing.promotion.idle_cores import measure_idle_cores
from orchestrator.routing.promotion.promoted_sources import promoted_product, promotion_policy
from orchestrator.settings import Promotion

log = logging.getLogger(__name__)
_QUEUED = 64
_REFUSED_KEPT = 4096
_POLL_S = 1.0
_TILE_BYTES = 4096
"""More than the tables and markers of a stored tile."""


class Promoter:
    """Promotes the sources of the assets that it is given."""

    def __init__(
        self,
        cache: DiskCache,
        sources: SourceOrchestrator,
        workers: IdleWorkers,
        settings: Promotion,
        *,
        locks: Path,
        idle_cores: Callable[[], Awaitable[float]] = measure_idle_cores,
    ) -> None:
        """`cache` is the source cache. `locks` is a folder that all processes of the host share.
        `idle_cores` takes the time that it needs.
        """
        self._cache = cache
        self._sources = sources
        self._workers = workers
        self._settings = settings
        self._locks = locks
        self._idle_cores = idle_cores
        self._waiting: asyncio.Queue[Asset] = asyncio.Queue(_QUEUED)
        self._in_hand: set[tuple[AssetId, int]] = set()
        self._running: dict[AssetId, asyncio.Timeout] = {}
        self._refused: TTLCache[tuple[AssetId, int], bool] = TTLCache(
            _REFUSED_KEPT, settings.window_s
        )

    def enqueue(self, asset: Asset) -> None:
        """Have the source of the asset promoted, unless it waits or has failed lately. If too many
        wait, it is dropped and counted; its next tile asks again.
        """
        key = asset.id, asset.version
        if key in self._in_hand or key in self._refused:
            return
        try:
            self._waiting.put_nowait(asset)
        except asyncio.QueueFull:
            metrics.PROMOTIONS.labels(outcome="dropped").inc()
            return
        self._in_hand.add(key)

    def on_change(self, asset_id: AssetId) -> None:
        """End or drop the promotion of this asset, if there is one: its result would not be
        used.
        """
        self._in_hand = {key for key in self._in_hand if key[0] != asset_id}
        running = self._running.get(asset_id)
        if running is not None and not running.expired():
            running.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Promote what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._settings.at_once):
                group.create_task(self._promote_waiting())

    async def _promote_waiting(self) -> None:
        while True:
            asset = await self._waiting.get()
            key = asset.id, asset.version
            if key not in self._in_hand:
                continue  # it has changed
            try:
                outcome = await self._promote_guarded(asset)
            finally:
                self._in_hand.discard(key)
            if outcome in ("no_room", "failed"):
                self._refused[key] = True
            if outcome != "found":
                metrics.PROMOTIONS.labels(outcome=outcome).inc()

    async def _promote_guarded(self, asset: Asset) -> str:
        """The outcome, as the metric names it; "found" if another process has done it."""
        fields = {"asset": str(asset.id)}
        try:
            async with asyncio.timeout(None) as self._running[asset.id]:
                return await self._promote_when_idle(asset)
        except (TimeoutError, SourceChanged, AssetNotFound):
            return "changed"
        except (NoRoom, NotOrchestrated):
            log.info("promotion without room", extra=fields)
            return "no_room"
        except (OrchestratorError, OSError) as error:
            log.warning("promotion failed", extra={**fields, "reason": describe_error(error)})
        except Exception:  # the loop must survive any failure of one source; logged
            log.exception("promotion failed", extra=fields)
        finally:
            self._running.pop(asset.id, None)
        return "failed"

    async def _promote_when_idle(self, asset: Asset) -> str:
        source = source_of(asset)
        product = promoted_product(asset, source)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._settings.window_s
        while loop.time() < deadline:
            with self._lock_of(asset) as is_locked:
                if self._cache.assets.has(product):
                    return "found"
                if is_locked and await self._idle_cores() >= self._settings.idle_cores:
                    await self._promote(asset, source, product)
                    return "made"
            await asyncio.sleep(_POLL_S)
        return "dropped"

    async def _promote(self, asset: Asset, source: Source, product: Product) -> None:
        """Write and publish the pyramid. Raises what `SourceOrchestrator.lease` and
        `PyramidCalls.write` raise.
        """
        started, policy = time.perf_counter(), promotion_policy(source)
        async with self._sources.lease(asset) as path, self._workers.open() as worker:
            probe = await worker.probe(path)
            if probe.dimensions != asset.dimensions:
                raise SourceChanged("The source is not the one that its record describes.")
            room = scratch_bytes(probe) + largest_bytes(probe, policy.tile)
            async with self._cache.open_writer(product, room) as writer:
                facts = await worker.write(path, writer.path, policy)
                if source.location.startswith(FILE):
                    # A file that was replaced meanwhile has the pixels of another version.
                    await asyncio.to_thread(verify_file, source)
                await writer.publish()
        elapsed_s = time.perf_counter() - started
        metrics.PROMOTION_SECONDS.observe(elapsed_s)
        metrics.PROMOTION_BYTES.inc(facts.bytes)
        log.info(
            "source promoted",
            extra={
                "asset": product.asset,
                "bytes": facts.bytes,
                "elapsed_ms": round(elapsed_s * 1000),
            },
        )

    @contextmanager
    def _lock_of(self, asset: Asset) -> Iterator[bool]:
        """True if no other promotion runs in the slot of this asset, on the whole host. An asset
        always has the same slot, so it is never promoted twice at a time. The kernel releases the
        slot of a process that is killed.
        """
        slot = zlib.crc32(str(asset.id).encode()) % self._settings.at_once
        self._locks.mkdir(parents=True, exist_ok=True)
        descriptor = try_lock(self._locks / f"slot-{slot}")
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def largest_bytes(probe: Probe, tile: int) -> int:
    """More bytes than the pyramid of a picture can have: those of its samples, in whole tiles of
    `tile` pixels. JPEG of the quality of `fastest` and deflate never need more.
    """
    total, bands = 0, max(probe.bands, 3)  # a palette has one
    for n in range(pyramid_levels(probe.dimensions, tile) + 1):
        across, down = (max(1, -(-(side >> n) // tile)) for side in probe.dimensions)
        total += across * down * (tile * tile * bands + _TILE_BYTES)
    return total
