"""A disk cache: one folder with one quota, shared by all processes of the host (ADR 2).

A file with a product's name is whole and has the product's bytes. Reads need no index and take no
lock. A body that cannot be stored (no room, disk full, folder read-only, index being rebuilt) is
counted and logged, and the answer is served uncached; it is never an error of a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from orchestrator.cache.disk.asset_files import AssetFiles
from orchestrator.cache.disk.batch_writer import BatchWriter, Put
from orchestrator.cache.disk.body_files import BodyFiles
from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.eviction import Evictor, Limits
from orchestrator.cache.disk.eviction_policies import policy_named
from orchestrator.cache.disk.file_names import Product, place
from orchestrator.cache.disk.files import Tree
from orchestrator.cache.disk.index import Boot, Index, Totals, this_boot
from orchestrator.cache.disk.index_thread import IndexThread
from orchestrator.cache.disk.ledger import Ledger, room_for
from orchestrator.cache.disk.maintenance import Maintenance
from orchestrator.cache.disk.options import DiskOptions
from orchestrator.cache.disk.periodic_work import MISSES_KEPT, Activity, PeriodicWork
from orchestrator.cache.disk.pins import Pins
from orchestrator.cache.disk.product_reader import ProductReader
from orchestrator.cache.disk.product_writer import ProductWriter
from orchestrator.cache.disk.publisher import Publisher, WriteFailures
from orchestrator.cache.disk.rebuild import Rebuild
from orchestrator.cache.disk.verification import Verifier
from orchestrator.cache.statistics import CacheStats
from orchestrator.errors import NoRoom

__all__ = ["DiskCache", "DiskOptions", "Product", "ProductWriter"]

_QUEUED_BYTES = 512 * 1024**2
_LEASES_KEPT = 4096


class DiskCache:
    """Reads and writes of bytes by product. `assets` drops and pins files; `maintenance` is for the
    scavenger and the `cache` commands.
    """

    def __init__(
        self,
        root: Path,
        options: DiskOptions,
        *,
        thread: IndexThread,
        activity: Activity,
        assets: AssetFiles,
        maintenance: Maintenance,
        now: Callable[[], float],
    ) -> None:
        """Use `open`."""
        self.name = root.name
        self.options = options
        self.assets = assets
        self.maintenance = maintenance
        self._thread = thread
        self._entries = assets.entries
        self._index = thread.writer.ledger.index
        self._reader = ProductReader(root, thread, assets.entries, inline_read=options.inline_read)
        self._activity = activity
        self._now = now
        self._queued_bytes = 0
        self._too_large = 0
        self._leases: dict[str, float] = {}
        self.bodies = BodyFiles(
            f"{root}/",
            lambda product, path: self._count_use(product, path, now()),
            max_bytes=options.inline_read,
        )
        """Files as bodies of responses, for the hot lane."""

    @classmethod
    async def open(
        cls,
        folder: Path,
        options: DiskOptions,
        *,
        now: Callable[[], float] = time.time,
        boot: Boot | None = None,
    ) -> DiskCache:
        """Open the cache of `folder`. Its index is beside it, outside the folder that the quota
        counts.

        Never fails: a cache that cannot be written now is only read, and writes are tried again.
        """
        cache = _assemble(folder, options, now, boot or this_boot())
        cache._thread.start()
        await cache.maintenance.open()
        return cache

    async def close(self) -> None:
        """Finish all writes, record uses, and give back the reservation."""
        await asyncio.to_thread(self._thread.stop)

    async def get(self, product: Product) -> bytes | None:
        """The product's bytes, or None. Bytes in the page cache are read without a thread."""
        path = place(product).path
        body = await self._reader.read(path)
        if not body:
            self._count_miss(path)
            return None
        self._count_use(product, path, self._now())
        return body

    def get_cached(self, product: Product) -> bytes | None:
        """The product's bytes if they are in the page cache, else None. Does not wait; a miss is
        not counted.
        """
        path = place(product).path
        body = self._reader.read_cached(path)
        if not body:
            return None
        self._count_use(product, path, self._now())
        return body

    def count_use(self, product: Product) -> None:
        """Record that the product's file was used, with the next batch."""
        self._count_use(product, place(product).path, self._now())

    async def path(self, product: Product) -> Path | None:
        """The product's file, or None. It is not evicted for at least `lease_s` / 2 seconds."""
        path = place(product).path
        now = self._now()
        file = self._reader.find(path)
        if file is None:
            self._count_miss(path)
            return None
        until = now + self.options.lease_s
        # No lease is longer, except before the clock was set back.
        if not until - self.options.lease_s / 2 <= self._leases.get(path, 0.0) <= until:
            with suppress(NoRoom):  # without an index no process can evict either
                if path not in await self._thread.run(lambda: self._entries.lease({path: until})):
                    self._count_miss(path)
                    return None
            self._remember_lease(path, until, now)
        self._count_use(product, path, now)
        return file

    @asynccontextmanager
    async def hold(self, product: Product) -> AsyncIterator[Path | None]:
        """The product's file, or None. It is not evicted until the end of the block.

        If this process dies, the file is protected for `lease_s` more seconds.
        """
        path = place(product).path
        reads = self._activity.reads
        reads[path] = reads.get(path, 0) + 1
        try:
            yield await self.path(product)
        finally:
            reads[path] -= 1
            if not reads[path]:
                del reads[path]

    async def put(self, product: Product, body: bytes) -> bool:
        """Store `body` as the product. False if it was not stored; that is counted, not an
        error.
        """
        size = len(body)
        if not 0 < size <= self.options.max_entry or self._queued_bytes + size > _QUEUED_BYTES:
            self._too_large += 1
            self._thread.writer.refused["size"].inc()
            return False
        self._queued_bytes += size
        try:
            put = Put(place(product), body, product.extension, product.pinned)
            return await asyncio.wrap_future(self._thread.put(put))
        finally:
            self._queued_bytes -= size

    @asynccontextmanager
    async def open_writer(self, product: Product, size: int = 0) -> AsyncIterator[ProductWriter]:
        """Room for `size` bytes (more by `grow`) and a file to write them to. The file is stored
        only if the block calls `publish`.

        Raises NoRoom when no room can be made.
        """
        need = room_for(size)
        writer = ProductWriter(self._thread, product, need)
        claimed: Future[bool] = self._thread.call(lambda: self._thread.writer.claim(need))
        try:
            is_granted = await asyncio.wrap_future(claimed)
        except asyncio.CancelledError:
            self._thread.call(lambda: writer.abort() if claimed.result() else None)
            raise
        if not is_granted:
            raise NoRoom("There is no room for this in the cache.")
        try:
            yield writer
        finally:
            await self._thread.run(writer.abort)

    async def stats(self) -> CacheStats:
        """The statistics of the cache; how full it is counts 0 while the index cannot be used."""
        totals, free = Totals(0, 0, 0, walking=True), 0
        with suppress(NoRoom):
            totals, free = await self.maintenance.totals(), await self.maintenance.free_bytes()
        counts = self._thread.writer.stats
        return replace(
            counts,
            files=totals.files,
            bytes=totals.bytes,
            pinned=totals.pinned,
            reserved=totals.reserved,
            quota=self.options.quota,
            free=free,
            rebuilding=totals.walking,
            refused=counts.refused + self._too_large,
        )

    def _count_use(self, product: Product, path: str, now: float) -> None:
        activity = self._activity
        self._thread.writer.stats.hits += 1
        if product.pinned:
            activity.pinned.add(product.asset)
        if not activity.uses:
            self._thread.wake()
        activity.uses[path] = now

    def _count_miss(self, path: str) -> None:
        activity = self._activity
        self._thread.writer.stats.misses += 1
        if not activity.missed:
            self._thread.wake()
        if len(activity.missed) < MISSES_KEPT:
            activity.missed.add(path)

    def _remember_lease(self, path: str, until: float, now: float) -> None:
        if len(self._leases) >= _LEASES_KEPT:
            self._leases = {known: end for known, end in self._leases.items() if end > now}
        self._leases[path] = until


def _assemble(
    folder: Path, options: DiskOptions, now: Callable[[], float], boot: Boot
) -> DiskCache:
    """The parts of a cache and their connections; nothing is opened."""
    index = Index(
        folder.with_name(folder.name + ".index"),
        nothing_cached=lambda: next(tree.assets(), None) is None,
        now=now,
        boot=boot,
    )
    tree = Tree(folder, index.holder)
    order = policy_named(options.eviction, options.quota, options.lease_s)
    limits = Limits(options.quota, options.floor, options.shares, order)
    stats, activity = CacheStats(folder.name), Activity()
    evictor = Evictor(tree, limits, now, stats)
    ledger = Ledger(index, evictor)
    publisher, entries, pins = Publisher(ledger), Entries(index, evictor), Pins(index)
    failures = WriteFailures(folder.name, ledger)
    periodic = PeriodicWork(
        entries=entries,
        pins=pins,
        publisher=publisher,
        rebuild=Rebuild(index, evictor),
        activity=activity,
        failures=failures,
        stats=stats,
        every_s=options.use_flush_s,
        lease_s=options.lease_s,
    )
    writer = BatchWriter(publisher, failures, stats, periodic.record_uses)
    thread = IndexThread(folder.name, writer, periodic)
    verifier = Verifier(index, evictor, entries)
    maintenance = Maintenance(thread, entries, verifier, failures)
    assets = AssetFiles(folder.name, thread, entries, pins)
    return DiskCache(
        folder,
        options,
        thread=thread,
        activity=activity,
        assets=assets,
        maintenance=maintenance,
        now=now,
    )
