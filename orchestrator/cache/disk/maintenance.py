"""Maintenance of a disk cache, for the scavenger and the `cache` commands: figures, eviction,
sweep, verification, clearing. All of it runs on the index thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.eviction import Reason
from orchestrator.cache.disk.eviction_policies import Candidate
from orchestrator.cache.disk.index import Totals, transaction
from orchestrator.cache.disk.index_thread import IndexThread
from orchestrator.cache.disk.ledger import Reclaimed
from orchestrator.cache.disk.publisher import WriteFailures
from orchestrator.cache.disk.verification import Verification, Verifier
from orchestrator.errors import NoRoom

R = TypeVar("R")


class Maintenance:
    """Maintenance of one cache. Its methods raise NoRoom when the index cannot be used."""

    def __init__(
        self, thread: IndexThread, entries: Entries, verifier: Verifier, failures: WriteFailures
    ) -> None:
        self._thread = thread
        self._entries = entries
        self._verifier = verifier
        self._failures = failures
        self._ledger = thread.writer.ledger
        self._evictor = self._ledger.evictor
        self._index = self._ledger.index

    async def open(self) -> None:
        """Create the folders, count them, and sweep. A failure is logged, not raised."""
        await self._thread.run(self._open)

    async def run_periodic_work(self) -> None:
        """Do now what is done every `use_flush_s` seconds; a rebuild continues in the
        background.
        """
        await self._thread.run(self._thread.periodic.run)

    async def finish_rebuild(self) -> None:
        """Do the periodic work now, and finish a rebuild."""
        await self.run_periodic_work()
        await self._thread.run(self._thread.periodic.finish_rebuild)

    async def totals(self) -> Totals:
        """The counts of the index, for all processes."""
        return await self._thread.run(self._index.totals)

    async def free_bytes(self) -> int:
        """Free bytes of the file system."""
        try:
            return await self._thread.run(self._ledger.tree.free_bytes)
        except OSError as error:
            raise NoRoom("The cache's folder cannot be read now.") from error

    def state(self) -> tuple[object, ...]:
        """A value that changes with each change of the index by any process, and when the free
        bytes go below the floor or above it. Blocking and cheap: it does not use the index or its
        thread.
        """
        try:
            status = os.statvfs(self._ledger.tree.root)
        except OSError:
            return (None,)
        is_below_floor = status.f_bavail * status.f_frsize < self._ledger.limits.floor
        return (*self._index.state(), is_below_floor)

    async def candidates(self, limit: int) -> list[Candidate]:
        """The files that may be evicted, about in order of eviction."""
        return await self._run(lambda db: self._evictor.candidates(db, limit))

    async def victims(self, to_free: int) -> list[Candidate]:
        """The files to evict next, to free that many bytes; a bounded number, so call it again."""

        def choose(db: sqlite3.Connection) -> list[Candidate]:
            with transaction(db):
                return self._evictor.victims(db, to_free)

        return await self._run(choose)

    async def over_shares(self) -> list[Candidate]:
        """The files to evict of products over their share of the quota; a bounded number."""
        return await self._run(self._evictor.over_shares)

    async def evict(self, candidates: list[Candidate], reason: Reason = "quota") -> tuple[int, int]:
        """Remove those that were not used since they were chosen. Returns (files, bytes)
        removed.
        """

        def remove(db: sqlite3.Connection) -> tuple[int, int]:
            with transaction(db):
                return self._evictor.remove(db, self._evictor.unused(db, candidates), reason)

        return await self._run(remove)

    async def sweep(self) -> Reclaimed:
        """Free what ended processes had reserved, and remove their temporary files."""
        return await self._thread.run(self._ledger.reclaim)

    async def verify(self, *, repair: bool = False) -> Verification:
        """Compare all rows with all files; with `repair`, correct the rows. Walks the whole
        tree.
        """
        return await self._thread.run(lambda: self._verifier.verify(repair=repair))

    async def clear(self) -> int:
        """Remove all files; returns their number."""
        total = 0
        for asset in await self._thread.run(self._verifier.assets):
            drop = partial(self._entries.drop, asset, None, "cleared")
            total += await self._thread.run(drop)
        return total

    def _open(self) -> None:
        try:
            self._ledger.tree.prepare()
            self._entries.open()
            self._thread.writer.reclaim()
        except (NoRoom, OSError) as error:
            self._failures.report("open", error)

    async def _run(self, operation: Callable[[sqlite3.Connection], R]) -> R:
        return await self._thread.run(lambda: self._index.run(operation))
