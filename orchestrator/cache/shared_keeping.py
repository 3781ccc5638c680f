"""Keeping house in a folder shared by several hosts: one process of them all, by a lease with a
term; when it dies another takes over within seconds.

It frees ahead of the writers, clears away what the dead were writing, drops what nobody reads any
more, and looks at all files once after an owner died. Serving goes on, and the quota holds, without
it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice

from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.shared import SharedFolder
from orchestrator.catalog.owners import NoLongerOwner, Owners, Ownership
from orchestrator.catalog.shared_files import LockedFolder
from orchestrator.errors import CatalogUnavailable, NoRoom

log = logging.getLogger(__name__)

LEASE_S = 3.0
"""A dead owner is followed this long after it last renewed its lease, and a second at the most."""
EVERY_S = 1.0
_WALK_FOR_S = 0.5
_BATCH = 16
_DOOMED_AT_ONCE = 64


class SharedKeeper:
    """Runs in the housekeeping process of every host; one of them is the owner."""

    def __init__(
        self,
        shared: SharedFolder,
        owners: Owners,
        *,
        low_water: float,
        report: Callable[[str, int, int], None] = lambda _name, _bytes, _files: None,
    ) -> None:
        """`report` is told the cache's name, the bytes used and the files there are whenever this
        process has kept house.
        """
        self._shared = shared
        self._room = shared.room
        self._owners = owners
        self._low_water = low_water
        self._report = report
        self._held: Ownership | None = None
        self._walk: Iterator[str] | None = None
        self._looked_at: set[str] = set()

    @property
    def is_owner(self) -> bool:
        """Whether this process was the owner when it last looked."""
        return self._held is not None

    async def run(self) -> None:
        """Keep house, or wait to, until cancelled; then the next may at once."""
        try:
            while True:
                await self.once()
                await asyncio.sleep(EVERY_S)
        finally:
            await asyncio.shield(self.release())

    async def once(self) -> bool:
        """Renew or take the lease, and keep house if it is ours; True if it is."""
        try:
            if not await self._hold():
                return False
            await self._keep()
        except NoLongerOwner:
            self._lost()
        except (NoRoom, CatalogUnavailable) as error:
            self._lost()
            extra = {"reason": error.public, "error": repr(error.__cause__)}
            log.warning("shared folder not kept", extra=extra)
        return self._held is not None

    async def release(self) -> None:
        """Let another keep house."""
        held, self._held = self._held, None
        if held is not None:
            with suppress(CatalogUnavailable):
                await self._owners.release(held)

    async def _hold(self) -> bool:
        folder, holder = self._room.folder, self._room.holder
        if folder is None:
            self._lost()
            return False
        before = self._held
        held = await self._owners.hold(folder, holder, self._shared.presence.host, LEASE_S)
        if held is None:
            self._lost()
            return False
        self._held = held
        if before is None or before.term != held.term:
            await self._taken_over(held)
        return True

    async def _taken_over(self, held: Ownership) -> None:
        extra = {"folder": str(held.folder), "term": held.term, "crashed": held.crashed}
        log.info("shared folder taken over", extra=extra)
        if held.crashed:
            self._begin_walk()

    def _begin_walk(self) -> None:
        self._walk, self._looked_at = self._room.tree.assets(), set()

    def _lost(self) -> None:
        if self._held is not None:
            log.warning("shared folder kept by another", extra={"term": self._held.term})
        self._held = self._walk = None

    async def _keep(self) -> None:
        await self._sweep()
        await self._free()
        if self._walk is None and (await self._shared.totals()).walking:
            self._begin_walk()
        await self._walk_on()
        totals = await self._shared.totals()
        self._report(self._shared.name, totals.bytes + totals.reserved, totals.files)

    async def _sweep(self) -> None:
        """After the dead, and what was dropped while somebody read it."""
        async with self._room.locked(self._held) as folder:
            left = await folder.leftovers()
            for row in left:
                await self._room.settle(folder, row)
            await self._room.remove(folder, await folder.doomed(_DOOMED_AT_ONCE), "outdated")
            dead, living = await folder.bury()
            writing = await folder.temporaries()
            swept = await asyncio.to_thread(self._remove_temporaries, living, writing)
        if left or dead or swept:
            extra = {"claims": len(left), "dead": dead, "temporaries": swept}
            log.info("shared folder swept", extra=extra)

    def _remove_temporaries(self, living: set[str], writing: set[str]) -> int:
        swept = 0
        for holder, path in self._room.tree.temporaries():
            if holder not in living and path.name not in writing:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    swept += 1
        return swept

    async def _free(self) -> None:
        """Ahead of the writers, down to low water."""
        files = freed = 0
        async with self._room.locked(self._held) as folder:
            short, reason = await asyncio.to_thread(
                self._room.short_of, await folder.totals(), self._low_water
            )
            if short > 0:
                files, freed = await self._room.evict(folder, short, reason)
        if files:
            log.info("shared folder scavenged", extra={"files": files, "bytes": freed})

    async def _walk_on(self) -> None:
        """Go on looking at all files, for a moment."""
        until = time.monotonic() + _WALK_FOR_S
        while self._walk is not None and time.monotonic() < until:
            batch = await asyncio.to_thread(lambda: list(islice(self._walk or (), _BATCH)))
            async with self._room.locked(self._held) as folder:
                for asset in batch:
                    await self._look_at(folder, asset)
            self._looked_at.update(batch)
            if not batch:
                await self._end_walk()

    async def _look_at(self, folder: LockedFolder, asset: str) -> None:
        names = {row.name for row in await folder.of_asset(asset) if not row.writer}
        ages = await asyncio.to_thread(self._room.ages, asset)
        for name in {*names, *ages}:
            await self._room.adopt(folder, Place(asset, name), ages.get(name, 0.0))

    async def _end_walk(self) -> None:
        """Rows of assets that have no folder have no files; then all is known."""
        known = await self._shared.files.assets(self._room.id())
        async with self._room.locked(self._held) as folder:
            for asset in known.keys() - self._looked_at:
                await self._look_at(folder, asset)
            await folder.set_known()
        self._walk, self._looked_at = None, set()
        log.info("shared folder looked through", extra={"folder": str(self._room.folder)})
