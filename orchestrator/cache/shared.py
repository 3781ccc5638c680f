"""A source cache in a folder that several hosts share (a NAS): one quota, one housekeeping owner,
each source copied once for all of them. Used like a DiskCache.

SQLite on a network file system is not safe between hosts, so what lies in the folder is recorded in
the database: few, large files, for which a round trip is little (docs/adr/0015). Files are found by
name and are whole, as in any disk cache; without the database they are read on, and nothing is
written or evicted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskOptions, DiskStats
from orchestrator.cache.disk.file_names import Place, Product, asset_hash, place
from orchestrator.cache.disk.index import Totals
from orchestrator.cache.disk.maintenance import Verification
from orchestrator.cache.shared_presence import Presence
from orchestrator.cache.shared_room import FOLDERS, Room
from orchestrator.cache.shared_upkeep import SharedUpkeep
from orchestrator.catalog.shared_files import Key, SharedFiles
from orchestrator.errors import CatalogUnavailable, NoRoom

log = logging.getLogger(__name__)

_FIRST_LOOK_S, _LAST_LOOK_S = 0.05, 0.5
_LEASES_KEPT = 4096


class SharedWriting:
    """A product being written to `path`, within room set apart for it; or `present` already."""

    def __init__(self, room: Room, product: Product) -> None:
        self.path = room.tree.temp_path(product.extension)
        self.present: Path | None = None
        """Where another host has put it meanwhile: nothing is to be written."""
        self.where = place(product)
        self._room = room

    async def grow(self, size: int) -> None:
        """Make sure of room for `size` bytes in all. Raises NoRoom."""
        await self._room.grow(self.where, self.path, size)

    async def publish(self) -> Path:
        """Let all hosts find the file; returns where. Raises NoRoom: nothing is kept."""
        return await self._room.publish(self.where, self.path)


class SharedFolder:
    """Files by product, least recently used out first, whichever host used them."""

    def __init__(self, name: str, root: Path, files: SharedFiles, options: DiskOptions) -> None:
        """Made by `opened`."""
        self.name = name
        self.options = options
        self.room = Room(name, files, root, quota=options.quota, floor=options.floor)
        self.presence = Presence(self.room, files, options)
        self._root = root
        self.files = files
        self._upkeep = SharedUpkeep(self.room, files)
        self._leases: dict[Key, float] = {}
        self._hits = self._misses = self._refused = self._failed = 0

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, root: Path, files: SharedFiles, options: DiskOptions, name: str = "sources"
    ) -> AsyncIterator[SharedFolder]:
        """The cache of `root` for as long as the block lasts; this process is heard of meanwhile.

        Never fails: what cannot be reached now is not used and tried again.
        """
        folder = cls(name, root, files, options)
        await folder.presence.beat()
        # Not a TaskGroup: that would wrap what the block raises, which may be anything.
        beating = asyncio.ensure_future(folder.presence.keep_up())
        try:
            yield folder
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating
            await folder.presence.leave()

    async def path(self, product: Product) -> Path | None:
        """The product's file, not to be evicted for `lease_s` / 2 seconds at the least; or None."""
        where = place(product)
        key = where.asset, where.name
        if not await asyncio.to_thread(self._is_there, where):
            self._missed()
            return None
        now = time.monotonic()
        if self._leases.get(key, 0.0) < now + self.options.lease_s / 2:
            with suppress(CatalogUnavailable, NoRoom):  # nobody can evict either
                if not await self._lease(where):
                    self._missed()
                    return None
                self._remember_lease(key, now)
        self._hits += 1
        metrics.CACHE_LOOKUPS.labels(cache=self.name, outcome="hit").inc()
        self.presence.uses[key] = now
        return self._root / where.path

    @asynccontextmanager
    async def held(self, product: Product) -> AsyncIterator[Path | None]:
        """The product's file, not to be evicted for as long as the block lasts; or None."""
        where = place(product)
        key = where.asset, where.name
        held = self.presence.held
        held[key] = held.get(key, 0) + 1
        try:
            yield await self.path(product)
        finally:
            held[key] -= 1
            if not held[key]:
                del held[key]

    @asynccontextmanager
    async def writing(self, product: Product, size: int = 0) -> AsyncIterator[SharedWriting]:
        """Room for `size` bytes and a file to write them to; kept by `publish` only. While another
        host writes the same this waits for it, and then says where it is (`present`).

        Raises NoRoom when no room can be made.
        """
        writing = SharedWriting(self.room, product)
        try:  # around the claim as well: it may stand, though its answer was lost
            try:
                writing.present = await self._claimed(writing, size, pinned=product.pinned)
            except NoRoom as error:
                self._refuse(error)
                raise
            yield writing
        finally:
            with suppress(NoRoom):
                await asyncio.shield(self.room.abandon(writing.where, writing.path))

    async def drop_asset(self, asset: str) -> int:
        """Remove everything made from the asset (its text id); returns the files gone."""
        return await self._upkeep.drop(asset_hash(asset), None, "asset")

    async def drop_older(self, asset: str, version: int) -> int:
        """Remove what was made from versions before `version`; returns the files gone."""
        return await self._upkeep.drop(asset_hash(asset), version, "outdated")

    async def drop_prefix(self, prefix: str) -> int:
        """Remove everything made from assets whose text id begins so; returns the files gone."""
        return await self._upkeep.drop_prefix(prefix)

    async def has_unnamed(self) -> bool:
        """True if there may be files of assets whose ids are not known."""
        return await self._upkeep.has_unnamed()

    async def pin(self, asset: str, *, pinned: bool) -> None:
        """Never evict what there is of this asset (its text id); or let it go."""
        await self._upkeep.pin(asset, pinned=pinned)

    async def settle_pins(self, wanted: Iterable[str], keep: Callable[[str], bool]) -> int:
        """Pin the `wanted` assets and let go of others, unless `keep` says so; how many changed."""
        return await self._upkeep.settle_pins(wanted, keep)

    async def verify(self, *, repair: bool = False) -> Verification:
        """Compare every row with every file (a walk); settle it if asked to. Raises NoRoom."""
        return await self._upkeep.verify(repair=repair)

    async def clear(self) -> int:
        """Remove everything nobody reads just now, for all hosts; returns the files gone."""
        return await self._upkeep.clear()

    async def totals(self) -> Totals:
        """What the folder holds, all hosts together. Raises NoRoom while it cannot be told."""
        try:
            found = await self.files.totals(self.room.id())
        except CatalogUnavailable as error:
            raise NoRoom("The shared folder's records cannot be read now.") from error
        used = found.bytes + FOLDERS
        return Totals(found.files, used, found.reserved, not found.known, found.pinned)

    async def stats(self) -> DiskStats:
        """Fill and counts; zeros for the fill while it cannot be told."""
        totals, free = Totals(0, 0, 0, walking=True), 0
        with suppress(NoRoom, OSError):
            totals = await self.totals()
            free = await asyncio.to_thread(self.room.tree.free_bytes)
        return DiskStats(
            self.name,
            files=totals.files,
            bytes=totals.bytes,
            pinned=totals.pinned,
            reserved=totals.reserved,
            quota=self.options.quota,
            free=free,
            rebuilding=totals.walking,
            hits=self._hits,
            misses=self._misses,
            puts=self.room.published,
            refused=self._refused,
            failed=self._failed,
            evicted=self.room.evicted_files,
            evicted_bytes=self.room.evicted_bytes,
            evicted_age_s=self.room.evicted_age_s,
        )

    # --- finding and claiming ---------------------------------------------------------------

    async def _claimed(self, writing: SharedWriting, size: int, *, pinned: bool) -> Path | None:
        """Where the file is by now; None when it is ours to write. Raises NoRoom."""
        pause_s = _FIRST_LOOK_S
        while True:
            claim = await self.room.claim(writing.where, writing.path, size, pinned=pinned)
            if claim == "granted":
                return None
            if claim == "present":
                if await asyncio.to_thread(self._is_there, writing.where, look_again=True):
                    return self._root / writing.where.path
                log.info("shared file vanished", extra={"path": writing.where.path})
                async with self.room.locked() as folder:
                    await self.room.adopt(folder, writing.where)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_LOOK_S)

    async def _lease(self, where: Place) -> bool:
        """True if the file is there and protected."""
        key, lease_s = (where.asset, where.name), self.options.lease_s
        if key in await self.files.lease(self.room.id(), [key], lease_s):
            return True
        async with self.room.locked() as folder:  # found by name, but no row knows it
            if not await self.room.adopt(folder, where):
                return False
        return key in await self.files.lease(self.room.id(), [key], lease_s)

    def _is_there(self, where: Place, *, look_again: bool = False) -> bool:
        """True for a file with bytes in it. Blocking.

        A network file system may remember for a while that there was none: `look_again` reads the
        folder, which makes it ask.
        """
        full = self._root / where.path
        if look_again:
            with suppress(OSError):
                list(full.parent.iterdir())
        try:
            return full.stat().st_size > 0
        except OSError:
            return False

    def _remember_lease(self, key: Key, now: float) -> None:
        if len(self._leases) >= _LEASES_KEPT:
            self._leases = {known: end for known, end in self._leases.items() if end > now}
        self._leases[key] = now + self.options.lease_s

    def _missed(self) -> None:
        self._misses += 1
        metrics.CACHE_LOOKUPS.labels(cache=self.name, outcome="miss").inc()

    def _refuse(self, error: NoRoom) -> None:
        failed = error.__cause__ is not None
        self._failed += failed
        self._refused += not failed
        why = "failed" if failed else "room"
        metrics.CACHE_REFUSED.labels(cache=self.name, why=why).inc()
