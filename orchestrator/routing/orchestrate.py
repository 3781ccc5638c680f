"""Orchestration: copies the source of an asset version to fast disk, once for all callers.

A copy is verified (length, and the ETag of the object that the version was recorded with) before it
gets its name, so a file in the source cache is complete and of that version. It is not evicted
while it is leased. Sources that are on this host already are read where they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cachetools import LRUCache

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.disk.product_writer import write_chunks
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    AssetNotFound,
    NoRoom,
    OrchestratorError,
    StorageUnavailable,
)
from orchestrator.model import FILE, STORE, Asset, AssetId, Source, SourceKind
from orchestrator.origins.file_reader import verify_file
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.settings import Delivery as DeliverySettings
from orchestrator.storage.store import LocalFiles, ObjectStore

log = logging.getLogger(__name__)
_FOUND_KEPT = 20_000


class SourceOrchestrator:
    """Finds the source of an asset on this host, or copies it to the source cache."""

    def __init__(
        self,
        store: ObjectStore,
        cache: DiskCache,
        flights: SingleFlight,
        settings: DeliverySettings,
        *,
        rules: CachingRules | None = None,
        origins: OptimisedOrigins | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._bytes = SourceBytes(store, origins)
        self._cache = cache
        self._flights = flights
        self._settings = settings
        self._rules = rules or CachingRules()
        self._copies = asyncio.Semaphore(settings.copies)
        self._now = now
        self._found: LRUCache[tuple[AssetId, int, str], _FoundFile] = LRUCache(_FOUND_KEPT)

    @asynccontextmanager
    async def lease(self, asset: Asset, *, waits: bool = True) -> AsyncIterator[Path]:
        """The source file, which is not evicted while the block runs. A source that is not on this
        host is copied; unless `waits`, one of at least `delivery.ranges_from` bytes is not.

        Raises NotOrchestrated if a rule forbids the copy, the disk has no room, or the caller does
        not wait for the copy; SourceChanged if the bytes are not those that the version was
        recorded with, AssetNotFound if the asset has no source, StorageUnavailable.
        """
        source = source_of(asset)
        local = await self._local_path(source)
        if local is not None:
            self._found[_found_key(asset, source)] = _FoundFile(local)
            yield local
            return
        if not self._rules.may_orchestrate(asset):
            raise NotOrchestrated("never")
        product = source_product(asset, source, pinned=self._rules.is_pinned(asset))
        async with self._cache.hold(product) as cached:
            if cached is None and not waits and self._is_large(source):
                raise NotOrchestrated("cold")
            path = cached or await self._copy_once(asset, product, source)
            self._found[_found_key(asset, source)] = _FoundFile(path, product)
            yield path

    def known_file(self, asset: Asset) -> Path | None:
        """The file that `lease` gave for this asset version before. It may have been replaced,
        evicted or deleted since. Counts as a use of a cached source; does not wait.
        """
        found = self._found.get(_found_key(asset, asset.source)) if asset.source else None
        if found is None:
            return None
        if found.product is not None:
            self._cache.count_use(found.product)
        return found.path

    async def orchestrate(self, asset: Asset) -> None:
        """Copy the source to fast disk before it is requested. Raises as `lease` does, except that
        a source that must not be or cannot be copied is ignored.
        """
        with suppress(NotOrchestrated):
            async with self.lease(asset):
                pass

    def _is_large(self, source: Source) -> bool:
        """True if waiting for the copy takes longer than reading the ranges of one tile."""
        is_tiled = source.kind is not SourceKind.ORIGINAL
        return is_tiled and source.bytes >= self._settings.ranges_from

    async def _local_path(self, source: Source) -> Path | None:
        """The source's file if it is on this host without a copy."""
        if source.location.startswith(FILE):
            return await asyncio.to_thread(verify_file, source)
        if isinstance(self._store, LocalFiles) and source.location.startswith(STORE):
            return await self._store.local_path(source.location.removeprefix(STORE))
        return None

    async def _copy_once(self, asset: Asset, product: Product, source: Source) -> Path:
        try:
            path = await self._flights.run(
                f"source {product.asset} {product.version} {product.name}",
                lambda: self._copy(asset, product, source),
                find=lambda: self._cache.path(product),
            )
        except NoRoom as error:
            raise NotOrchestrated("no_room") from error
        # Looking the path up leases the file, also if another process copied it.
        return await self._cache.path(product) or path

    async def _copy(self, asset: Asset, product: Product, source: Source) -> Path:
        try:
            async with asyncio.timeout(self._settings.copy_timeout_s):
                return await self._copy_verified(asset, product, source)
        except OrchestratorError as error:
            metrics.SOURCE_COPY_FAILURES.labels(error=type(error).__name__).inc()
            raise
        except TimeoutError as error:
            metrics.SOURCE_COPY_FAILURES.labels(error="TimeoutError").inc()
            raise StorageUnavailable(
                "The source was not copied from storage in time. Try again shortly."
            ) from error

    async def _copy_verified(self, asset: Asset, product: Product, source: Source) -> Path:
        # Room first: a copy without room must not occupy one of the parallel copies.
        async with self._cache.open_writer(product, source.bytes) as writer, self._copies:
            started = self._now()
            async with self._bytes.open(asset, source) as chunks:
                await write_chunks(writer.path, chunks)
                path = await writer.publish()
        _report_copy(product, source, self._now() - started)
        return path


@dataclass(frozen=True, slots=True)
class _FoundFile:
    """Where a source was found; `product` if it is in the source cache."""

    path: Path
    product: Product | None = None


def _found_key(asset: Asset, source: Source) -> tuple[AssetId, int, str]:
    return asset.id, asset.version, source.location


class NotOrchestrated(Exception):
    """The source is not on this host and is not copied: a rule says `never`, there is `no_room`, or
    it is `cold` and the caller does not wait for the copy. Stays within routing, which has other
    ways to answer.
    """

    def __init__(self, reason: Literal["never", "no_room", "cold"]) -> None:
        super().__init__(reason)
        self.reason = reason


def source_of(asset: Asset) -> Source:
    """The asset's source. Raises AssetNotFound if it has none yet."""
    if asset.source is None:
        raise AssetNotFound("This asset has no source yet. Wait for its ingest to finish.")
    return asset.source


def source_product(asset: Asset, source: Source, *, pinned: bool = False) -> Product:
    """The product that names the source of this asset version in the source cache. An original and
    its conversion have different locations, so different products.
    """
    name = f"source {source.location}"
    return Product(str(asset.id), asset.version, name, source.extension, pinned=pinned)


def _report_copy(product: Product, source: Source, elapsed_s: float) -> None:
    metrics.SOURCE_COPIES.inc()
    metrics.SOURCE_COPY_BYTES.inc(source.bytes)
    metrics.SOURCE_COPY_SECONDS.observe(elapsed_s)
    log.info(
        "source orchestrated",
        extra={
            "asset": product.asset,
            "bytes": source.bytes,
            "elapsed_ms": round(elapsed_s * 1000),
        },
    )
