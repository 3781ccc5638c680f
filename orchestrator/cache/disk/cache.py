"""A disk cache: one folder with one quota, shared by all processes of the host (ADR 0002).

What is found under a product's name is whole and of that product. Reading needs no index and takes
no lock; writing that cannot be done (no room, disk full, folder read-only, index being rebuilt) is
counted and logged, and the answer is served uncached. Never an error of a request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator.cache.disk.eviction import Limits, Reason
from orchestrator.cache.disk.eviction_policies import Candidate, policy_named
from orchestrator.cache.disk.file_names import Place, Product, asset_hash, place
from orchestrator.cache.disk.files import Tree, read_cached, read_whole
from orchestrator.cache.disk.index import Boot, Index, Totals, this_boot
from orchestrator.cache.disk.index_thread import MISSES_KEPT, Worker
from orchestrator.cache.disk.ledger import Ledger, room_for
from orchestrator.cache.disk.maintenance import Swept, Upkeep, Verification
from orchestrator.cache.disk.options import DiskOptions, DiskStats
from orchestrator.cache.disk.writer import Writing
from orchestrator.errors import NoRoom

__all__ = ["Candidate", "DiskCache", "DiskOptions", "DiskStats", "Product", "Writing"]

log = logging.getLogger(__name__)
R = TypeVar("R")
_QUEUED_BYTES = 512 * 1024**2
_LEASES_KEPT = 4096


class DiskCache:
    """Bytes by product, on disk, least recently used out first."""

    def __init__(self, name: str, root: Path, worker: Worker, options: DiskOptions) -> None:
        """Made by `open`."""
        self.name = name
        self.options = options
        self._root = f"{root}/"
        self._worker = worker
        self._index = worker.ledger.index
        self._queued_bytes = 0
        self._leases: dict[str, float] = {}
        self._now: Callable[[], float] = time.time

    @classmethod
    async def open(
        cls,
        folder: Path,
        options: DiskOptions,
        *,
        now: Callable[[], float] = time.time,
        boot: Boot | None = None,
    ) -> DiskCache:
        """Open the cache of `folder`; its index lies beside it, outside what the quota counts.

        Never fails: what cannot be written now is read only and tried again.
        """
        index = Index(
            folder.with_name(folder.name + ".index"),
            nothing_cached=lambda: next(tree.assets(), None) is None,
            now=now,
            boot=boot or this_boot(),
        )
        tree = Tree(folder, index.holder)
        order = policy_named(options.eviction, options.quota, options.lease_s)
        limits = Limits(options.quota, options.floor, options.shares, order)
        ledger = Ledger(index, tree, limits, now)
        upkeep = Upkeep(ledger, now)
        worker = Worker(folder.name, ledger, upkeep, options.use_flush_s, options.lease_s)
        worker.start()
        cache = cls(folder.name, folder, worker, options)
        cache._now = now
        await cache._call(lambda: None)
        return cache

    async def close(self) -> None:
        """Finish what is being written, record what was used, give back what was reserved."""
        await asyncio.to_thread(self._worker.stop)

    async def get(self, product: Product) -> bytes | None:
        """The product's bytes, or None. What memory already holds is read without a thread."""
        path = place(product).path
        full = self._root + path
        body = self._read_inline(full, path)
        if body is None:
            body = await asyncio.to_thread(read_whole, full)
        if not body:
            self._missed(path)
            return None
        self._used(product, path, self._now())
        return body

    async def path(self, product: Product) -> Path | None:
        """The product's file, not to be evicted for `lease_s` / 2 seconds at the least; or None."""
        path = place(product).path
        full = Path(self._root + path)
        now = self._now()
        if not self._trusted(full):
            self._missed(path)
            return None
        if self._leases.get(path, 0.0) < now + self.options.lease_s / 2:
            until = now + self.options.lease_s
            with suppress(NoRoom):  # no index: nobody can evict either
                if path not in await self._call(lambda: self._worker.upkeep.lease({path: until})):
                    self._missed(path)
                    return None
            self._remember_lease(path, until, now)
        self._used(product, path, now)
        return full

    @asynccontextmanager
    async def held(self, product: Product) -> AsyncIterator[Path | None]:
        """The product's file, not to be evicted for as long as the block lasts; or None.

        Should this process die, it is protected for `lease_s` seconds more.
        """
        path = place(product).path
        held = self._worker.held
        held[path] = held.get(path, 0) + 1
        try:
            yield await self.path(product)
        finally:
            held[path] -= 1
            if not held[path]:
                del held[path]

    async def put(self, product: Product, body: bytes) -> bool:
        """Keep `body` as the product; False if it could not be, which is counted and no error."""
        size = len(body)
        if not 0 < size <= self.options.max_entry or self._queued_bytes + size > _QUEUED_BYTES:
            self._worker.counts.oversized += 1
            return False
        self._queued_bytes += size
        try:
            where, pinned = place(product), product.pinned
            future = self._worker.put(where, body, product.extension, pinned=pinned)
            return await asyncio.wrap_future(future)
        finally:
            self._queued_bytes -= size

    @asynccontextmanager
    async def writing(self, product: Product, size: int = 0) -> AsyncIterator[Writing]:
        """Room for `size` bytes (more by `grow`) and a file to write them to; kept by `publish`
        only.

        Raises NoRoom when no room can be made.
        """
        need = room_for(size)
        writing = Writing(self._worker, product, need)
        claimed: Future[bool] = self._worker.call(lambda: self._worker.claim(need))
        try:
            granted = await asyncio.wrap_future(claimed)
        except asyncio.CancelledError:
            self._worker.call(lambda: writing.abort() if claimed.result() else None)
            raise
        if not granted:
            raise NoRoom("There is no room for this in the cache.")
        try:
            yield writing
        finally:
            await self._call(writing.abort)

    async def drop_asset(self, asset: str) -> int:
        """Remove everything made from the asset (its text id); returns the files gone."""
        return await self._drop(asset, None, "asset")

    async def drop_older(self, asset: str, version: int) -> int:
        """Remove what was made from versions before `version`; returns the files gone."""
        return await self._drop(asset, version, "outdated")

    async def drop_prefix(self, prefix: str) -> int:
        """Remove everything made from assets whose text id begins so, as far as their ids are known
        (`has_unnamed`); returns the files gone.
        """
        gone = 0
        try:
            while found := await self._call(lambda: self._worker.pins.assets_with(prefix)):
                before = gone
                for asset in found:
                    drop = partial(self._worker.upkeep.drop, asset, None, "prefix")
                    gone += await self._call(drop)
                if gone == before:  # what cannot be removed now would be found for ever
                    break
        except NoRoom:
            log.warning("cache not dropped", extra={"cache": self.name, "prefix": prefix})
        return gone

    async def has_unnamed(self) -> bool:
        """True if there may be files of assets whose ids an index begun anew has not learnt yet."""
        with suppress(NoRoom):
            return await self._call(self._worker.pins.has_unnamed)
        return False

    async def pin(self, asset: str, *, pinned: bool) -> None:
        """Never evict what there is, and will be, of this asset (its text id); or let it go."""
        pins = self._worker.pins
        with suppress(NoRoom):  # no index: nothing is evicted either, and pins are settled later
            await self._call(lambda: (pins.pin if pinned else pins.unpin)([asset]))

    async def settle_pins(self, wanted: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin the `wanted` assets and let go of others, unless `keep` says so; how many changed."""
        with suppress(NoRoom):
            return await self._call(lambda: self._worker.pins.settle(wanted, keep))
        return 0

    async def tend(self) -> None:
        """Do now what is done every `use_flush_s` seconds, and finish a rebuild under way."""
        await self._call(self._worker.tend)
        await self._call(self._worker.walk_through)

    async def look_after(self) -> None:
        """What is done every `use_flush_s` seconds, now; a rebuild goes on by itself."""
        await self._call(self._worker.tend)

    async def totals(self) -> Totals:
        """What the index counts, all processes together. Raises NoRoom while there is no index."""
        return await self._call(self._index.totals)

    async def stats(self) -> DiskStats:
        """Fill and counts; zeros for the fill while the index cannot be used."""
        totals, free = Totals(0, 0, 0, walking=True), 0
        with suppress(NoRoom):
            totals, free = await self.totals(), await self.free_bytes()
        counts, evictions = self._worker.counts, self._worker.ledger.evictions
        return DiskStats(
            self.name,
            files=totals.files,
            bytes=totals.bytes,
            pinned=totals.pinned,
            reserved=totals.reserved,
            quota=self.options.quota,
            free=free,
            rebuilding=totals.walking,
            hits=counts.hits,
            misses=counts.misses,
            puts=counts.puts,
            refused=counts.refused + counts.oversized,
            failed=counts.failed,
            evicted=evictions.files,
            evicted_bytes=evictions.bytes,
            evicted_age_s=evictions.last_age_s,
        )

    async def free_bytes(self) -> int:
        """Bytes free on the file system. Raises NoRoom when the folder cannot be asked."""
        try:
            return await self._call(self._worker.ledger.tree.free_bytes)
        except OSError as error:
            raise NoRoom("The cache's folder cannot be read now.") from error

    async def candidates(self, limit: int) -> list[Candidate]:
        """What may be evicted, about in the order of their turn."""
        return await self._call(lambda: self._worker.ledger.candidates(limit))

    async def victims(self, wanted: int) -> list[Candidate]:
        """What is to be evicted to free `wanted` bytes; a bounded number, so ask again."""
        return await self._call(lambda: self._worker.ledger.victims(wanted))

    async def over_shares(self) -> list[Candidate]:
        """What products over their share of the quota have to give up."""
        return await self._call(self._worker.ledger.over_shares)

    async def evict(
        self, candidates: Iterable[Candidate], reason: Reason = "quota"
    ) -> tuple[int, int]:
        """Remove those not used since they were found; returns (files, bytes) gone."""
        return await self._call(lambda: self._worker.ledger.evict(candidates, reason))

    def state(self) -> tuple[object, ...]:
        """Changes with every change of the index by any process, and of what is free below the
        floor. Blocking and cheap: it asks neither the index nor its thread.
        """
        try:
            found = os.statvfs(self._root)
        except OSError:
            return (None,)
        short = found.f_bavail * found.f_frsize < self.options.floor
        return (*self._index.state(), short)

    async def sweep(self) -> Swept:
        """Free what ended processes had reserved and remove their temporary files."""
        return await self._call(self._worker.upkeep.sweep)

    async def verify(self, *, repair: bool = False) -> Verification:
        """Compare every row with every file (a walk, for `cache verify`); settle it if asked to."""
        return await self._call(lambda: self._worker.upkeep.verify(repair=repair))

    async def clear(self) -> int:
        """Remove everything; returns the files gone."""
        gone = 0
        for asset in await self._call(self._worker.upkeep.assets):
            gone += await self._call(partial(self._worker.upkeep.drop, asset, None, "cleared"))
        return gone

    async def _drop(self, asset: str, below: int | None, reason: Reason) -> int:
        """Without an index nothing is dropped, which is safe: products are keyed by version."""
        drop = partial(self._worker.upkeep.drop, asset_hash(asset), below, reason)
        try:
            return await self._call(drop)
        except NoRoom:
            log.warning("cache not dropped", extra={"cache": self.name, "asset": asset})
            return 0

    async def _call(self, work: Callable[[], R]) -> R:
        return await asyncio.wrap_future(self._worker.call(work))

    def _read_inline(self, full: str, path: str) -> bytes | None:
        """The bytes; b"" for a miss; None when a thread has to read them (ADR 0010)."""
        try:
            descriptor = os.open(full, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            found = os.fstat(descriptor)
            if not self._sound(found):
                self._heal(path)
                return b""
            if found.st_size > self.options.inline_read:
                return None
            return read_cached(descriptor, found.st_size)
        finally:
            os.close(descriptor)

    def _used(self, product: Product, path: str, now: float) -> None:
        worker = self._worker
        worker.counts.hits += 1
        if product.pinned:
            worker.pinned.add(product.asset)
        if not worker.uses:
            worker.wake()
        worker.uses[path] = now

    def _missed(self, path: str) -> None:
        worker = self._worker
        worker.counts.misses += 1
        if not worker.missed:
            worker.wake()
        if len(worker.missed) < MISSES_KEPT:
            worker.missed.add(path)

    def _trusted(self, full: Path) -> bool:
        try:
            sound = self._sound(full.stat())
        except OSError:
            return False
        if not sound:
            self._heal(str(full).removeprefix(self._root))
        return sound

    def _sound(self, found: os.stat_result) -> bool:
        """False for what a power cut may have torn: no bytes, or written just before it."""
        start, end = self._index.distrusted
        return found.st_size > 0 and not start <= found.st_mtime < end

    def _heal(self, path: str) -> None:
        _, asset, name = path.split("/")
        self._worker.call(lambda: self._worker.upkeep.heal(Place(asset, name)))

    def _remember_lease(self, path: str, until: float, now: float) -> None:
        if len(self._leases) >= _LEASES_KEPT:
            self._leases = {known: end for known, end in self._leases.items() if end > now}
        self._leases[path] = until
