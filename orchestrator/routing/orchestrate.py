"""Orchestration: the source of an asset version on fast disk, copied there at most once however
many ask.

A copy is verified (length and ETag of the very object the version was recorded with) before it
gets its name, so a file in the source cache is whole and of that version; it is not evicted while
it is held. Sources already on this machine are read where they are.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Literal

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import (
    AssetNotFound,
    NoRoom,
    OrchestratorError,
    SourceChanged,
    StorageUnavailable,
)
from orchestrator.model import FILE, STORE, Asset, Source, file_fingerprint
from orchestrator.origins.optimised_origins import OptimisedOrigins
from orchestrator.routing.caching_rules import CachingRules
from orchestrator.routing.source_bytes import SourceBytes
from orchestrator.settings import Delivery as DeliverySettings
from orchestrator.storage.store import LocalFiles, ObjectStore

log = logging.getLogger(__name__)


class SourceOrchestrator:
    """Where the source of an asset is on this machine; brings it here when it is not."""

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

    @asynccontextmanager
    async def lease(self, asset: Asset) -> AsyncIterator[Path]:
        """The source file, which is not evicted while the block runs.

        Raises NotOrchestrated when a rule forbids the copy or the disk has no room, SourceChanged
        when the bytes are not those that the version was recorded with, AssetNotFound when the
        asset has no source, StorageUnavailable.
        """
        source = source_of(asset)
        here = await self._here(source)
        if here is not None:
            yield here
            return
        if not self._rules.may_orchestrate(asset):
            raise NotOrchestrated("never")
        product = source_product(asset, source, pinned=self._rules.is_pinned(asset))
        async with self._cache.held(product) as found:
            yield found or await self._brought(asset, product, source)

    async def orchestrate(self, asset: Asset) -> None:
        """Have the source here ahead of its use; as `held`, but what is not to be copied is not."""
        with suppress(NotOrchestrated):
            async with self.lease(asset):
                pass

    async def _here(self, source: Source) -> Path | None:
        """Where it is without being copied."""
        if source.location.startswith(FILE):
            return await asyncio.to_thread(_in_place, source)
        if isinstance(self._store, LocalFiles) and source.location.startswith(STORE):
            return await self._store.local_path(source.location.removeprefix(STORE))
        return None

    async def _brought(self, asset: Asset, product: Product, source: Source) -> Path:
        try:
            path = await self._flights.run(
                f"source {product.asset} {product.version} {product.name}",
                lambda: self._copy(asset, product, source),
                found=lambda: self._cache.path(product),
            )
        except NoRoom as error:
            raise NotOrchestrated("no_room") from error
        return await self._cache.path(product) or path  # which leases it, who ever copied it

    async def _copy(self, asset: Asset, product: Product, source: Source) -> Path:
        try:
            async with asyncio.timeout(self._settings.copy_timeout_s):
                return await self._copy_verified(asset, product, source)
        except OrchestratorError as error:
            metrics.SOURCE_COPY_FAILURES.labels(error=type(error).__name__).inc()
            raise
        except TimeoutError as error:
            metrics.SOURCE_COPY_FAILURES.labels(error="TimeoutError").inc()
            raise StorageUnavailable("The image could not be brought here in time.") from error

    async def _copy_verified(self, asset: Asset, product: Product, source: Source) -> Path:
        # Room first: a copy without room must not occupy one of the parallel copies.
        async with self._cache.writing(product, source.bytes) as reservation, self._copies:
            started = self._now()
            async with self._bytes.opened(asset, source) as chunks:
                await _write(reservation.path, chunks)
                path = await reservation.publish()
        _copied(product, source, self._now() - started)
        return path


class NotOrchestrated(Exception):
    """The source is not on this machine and will not be: it is `never` to be orchestrated, or there
    is `no_room`. For routing only, which has other ways to answer.
    """

    def __init__(self, why: Literal["never", "no_room"]) -> None:
        super().__init__(why)
        self.why = why


def source_of(asset: Asset) -> Source:
    """Where the asset's pixels are. Raises AssetNotFound when it has none yet."""
    if asset.source is None:
        raise AssetNotFound("This image has nothing to be served from yet.")
    return asset.source


def source_product(asset: Asset, source: Source, *, pinned: bool = False) -> Product:
    """The source cache's name for the source of this asset version (an original and its
    conversion differ).
    """
    name = f"source {source.location}"
    return Product(str(asset.id), asset.version, name, source.extension, pinned=pinned)


def _copied(product: Product, source: Source, elapsed_s: float) -> None:
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


async def _write(path: Path, chunks: AsyncIterator[bytes]) -> None:
    """Write the chunks to the file, off the loop. Raises NoRoom where the disk does not take them,
    so that they are had in another way.
    """
    with _of_the_disk():
        file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in chunks:
            with _of_the_disk():
                await asyncio.to_thread(file.write, chunk)
        with _of_the_disk():  # network file systems say it now
            await asyncio.to_thread(file.close)
    finally:
        with suppress(OSError):
            await asyncio.to_thread(file.close)


@contextmanager
def _of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("source cache cannot be written", extra={"error": repr(error)})
        raise NoRoom("The source cache cannot be written now.") from error


def _in_place(source: Source) -> Path:
    path = Path(source.location.removeprefix(FILE))
    try:
        status = path.stat()
    except OSError as error:
        raise SourceChanged("The image's file cannot be read.") from error
    if file_fingerprint(status) != source.fingerprint:
        raise SourceChanged("The image is being replaced; try again.")
    return path
