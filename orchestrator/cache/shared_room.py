"""Room in a folder shared by several hosts: claimed before bytes are written, settled when they are
published, made by evicting what was used least recently.

The rows are in the database, the files are not: a row is there before its file, a file is gone
before its row, all under the lock of the folder, so what is counted is never less than what is
there, whichever host dies when.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import UUID

from orchestrator import metrics
from orchestrator.cache.disk.eviction import Reason, first_of
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.files import BLOCK, Tree, allocated, rounded
from orchestrator.catalog.owners import Ownership
from orchestrator.catalog.shared_files import LockedFolder, SharedFile, SharedFiles, SharedTotals
from orchestrator.errors import CatalogUnavailable, NoRoom

FOLDERS = 258 * BLOCK
"""Counted from the start: the folder, its temporary one, and one for each pair of digits."""
_OF_A_FILE = 2 * BLOCK
"""Counted with every file: the folder of its asset, and what those above may grow by."""
_SLACK = 6 * BLOCK
"""Set apart besides while a file is written: what a file system adds to a long file."""
_EVICTED_AT_ONCE = 256
_PATIENCE_S = 10.0

Claim = Literal["granted", "present", "busy"]
"""Ours to write; there already; being written by a living process."""


class Room:
    """This process's way to room in the folder."""

    def __init__(
        self, name: str, files: SharedFiles, root: Path, *, quota: int, floor: int
    ) -> None:
        self.files = files
        self._name = name
        self._turn = asyncio.Lock()
        self.holder = secrets.token_hex(8)
        self.tree = Tree(root, self.holder)
        self.folder: UUID | None = None
        """None while the folder cannot be reached."""
        self.published = 0
        self.evicted_files = self.evicted_bytes = 0
        self.evicted_age_s = 0.0
        self._quota = quota
        self._floor = floor
        self._writing: set[str] = set()

    def id(self) -> UUID:
        """Which folder it is. Raises NoRoom while it cannot be reached."""
        if self.folder is None:
            raise NoRoom("The shared folder cannot be reached now.")
        return self.folder

    @asynccontextmanager
    async def locked(self, owner: Ownership | None = None) -> AsyncIterator[LockedFolder]:
        """The folder to oneself for a moment.

        Raises NoRoom when database or folder cannot be used, NoLongerOwner.
        """
        try:
            async with (
                asyncio.timeout(_PATIENCE_S),
                self._turn,  # waiting here takes no connection from those who only look things up
                self.files.locked(self.id(), owner) as folder,
            ):
                yield folder
        except (CatalogUnavailable, OSError, TimeoutError) as error:
            raise NoRoom("The shared folder cannot be written now.") from error

    async def claim(self, where: Place, temp: Path, size: int, *, pinned: bool) -> Claim:
        """Set room for `size` bytes apart, and be the one who writes the file. Raises NoRoom."""
        key, need = (where.asset, where.name), _need(size)
        async with self.locked() as folder:
            row = await folder.find(key)
            if row is not None and not row.writer:
                return "present"
            if row is not None and row.alive and not self._is_forgotten(row):
                return "busy"
            if row is not None:  # its writer is dead
                await asyncio.to_thread(self._remove_temp, row.temp)
                await folder.forget([key])
            granted = await self._have(folder, need)
            if granted:
                await folder.enter(
                    key, need, text=where.text, writer=self.holder, temp=temp.name, pinned=pinned
                )
                self._writing.add(temp.name)
        if not granted:  # raised out here: what was evicted for it is gone, and recorded as gone
            raise NoRoom("There is no room for this in the shared folder.")
        return "granted"

    async def grow(self, where: Place, temp: Path, size: int) -> None:
        """Set more room apart, for `size` bytes in all. Raises NoRoom."""
        need = _need(size)
        async with self.locked() as folder:
            row = await self._mine(folder, where, temp)
            granted = need <= row.bytes or await self._have(folder, need - row.bytes)
            if granted and need > row.bytes:
                await folder.enter(row.key, need, writer=self.holder, temp=temp.name)
        if not granted:
            raise NoRoom("There is no room for this in the shared folder.")

    async def publish(self, where: Place, temp: Path) -> Path:
        """Give the file its name, if the claim still stands. Raises NoRoom."""
        async with self.locked() as folder:
            row = await self._mine(folder, where, temp)
            size = allocated(await asyncio.to_thread(temp.stat)) + _OF_A_FILE
            if size > row.bytes and not await self._have(folder, size - row.bytes):
                raise NoRoom("The file outgrew its room.")
            await asyncio.to_thread(self.give_name, temp, where)
            await folder.enter(row.key, size)
        self._writing.discard(temp.name)
        metrics.CACHE_PUTS.labels(cache=self._name).inc()
        self.published += 1
        return self.tree.root / where.path

    async def abandon(self, where: Place, temp: Path) -> None:
        """Leave nothing of a file that was claimed and not published. What cannot be done now, the
        owner does when this process is gone, or the next to write the same. Raises NoRoom.
        """
        if temp.name not in self._writing:
            return
        self._writing.discard(temp.name)
        with suppress(OSError):
            await asyncio.to_thread(self._remove_temp, temp.name)
        async with self.locked() as folder:
            row = await folder.find((where.asset, where.name))
            if row is not None and row.temp == temp.name:
                await self.settle(folder, row)

    async def settle(self, folder: LockedFolder, row: SharedFile) -> None:
        """A claim that nobody works on: the file is there after all, or the claim is void."""
        await asyncio.to_thread(self._remove_temp, row.temp)
        size = await asyncio.to_thread(self.tree.size, Place(*row.key))
        if size:
            await folder.enter(row.key, size + _OF_A_FILE)
        else:
            await folder.forget([row.key])

    async def adopt(self, folder: LockedFolder, where: Place, age_s: float = 0.0) -> bool:
        """Enter a file that no row knows; drop the row of one that is not there. True if it is."""
        size = await asyncio.to_thread(self.tree.size, where)
        row = await folder.find((where.asset, where.name))
        if size and row is None:
            key = where.asset, where.name
            await folder.enter(key, size + _OF_A_FILE, text=where.text, age_s=age_s)
        elif not size and row is not None and not row.writer:
            await self.remove(folder, [row], "damaged")
        return bool(size)

    def sizes(self, asset: str) -> dict[str, int]:
        """What the files of an asset on disk count for, by name; 0 for empty ones. Blocking."""
        found = {place.name: self.tree.size(place) for place in self.tree.names(asset)}
        return {
            n: size + _OF_A_FILE if size else 0 for n, size in found.items() if size is not None
        }

    def ages(self, asset: str) -> dict[str, float]:
        """Seconds since the files of an asset on disk were written, by name. Blocking."""
        found: dict[str, float] = {}
        for each in self.tree.names(asset):
            with suppress(OSError):
                written = (self.tree.root / each.path).stat().st_mtime
                found[each.name] = max(0.0, time.time() - written)
        return found

    async def remove(
        self, folder: LockedFolder, rows: Sequence[SharedFile], reason: Reason
    ) -> tuple[int, int]:
        """Remove files, then rows; (files, bytes) gone."""
        gone = await asyncio.to_thread(self._remove, rows)
        await folder.forget([row.key for row in gone])
        freed = sum(row.bytes for row in gone)
        if gone:
            self._count(gone, freed, reason)
        return len(gone), freed

    async def evict(self, folder: LockedFolder, wanted: int, reason: Reason) -> tuple[int, int]:
        """Remove least recently used first until `wanted` bytes are freed; (files, bytes) gone."""
        rows = await folder.evictable(_EVICTED_AT_ONCE)
        return await self.remove(folder, first_of(rows, wanted), reason)

    def short_of(self, totals: SharedTotals, low_water: float = 1.0) -> tuple[int, Reason]:
        """Bytes to be freed so that `low_water` of the quota and the floor hold, negative for room
        that is left; and which of them bounds it. Blocking, OSError.
        """
        quotas = [quota for quota in (self._quota, totals.quota) if quota]
        used = totals.bytes + totals.reserved + FOLDERS
        over = used - int(min(quotas) * low_water) if quotas else -(1 << 62)
        under = self._floor + totals.reserved - self.tree.free_bytes()
        return (over, "quota") if over >= under else (under, "floor")

    async def _have(self, folder: LockedFolder, need: int) -> bool:
        """True if there is room for `need` bytes, made if need be; else nothing is evicted for it
        that could not do.
        """
        totals = await folder.totals()
        short, reason = await asyncio.to_thread(self.short_of, totals)
        if not totals.known and self._quota:
            return False
        missing = short + need
        if missing <= 0:
            return True
        if totals.bytes - totals.pinned < missing:
            return False
        chosen = first_of(await folder.evictable(_EVICTED_AT_ONCE), missing)
        if sum(row.bytes for row in chosen) < missing:
            return False
        return (await self.remove(folder, chosen, reason))[1] >= missing

    async def _mine(self, folder: LockedFolder, where: Place, temp: Path) -> SharedFile:
        row = await folder.find((where.asset, where.name))
        if row is None or (row.writer, row.temp) != (self.holder, temp.name):
            raise NoRoom("This process was taken for dead; its room is another's.")
        return row

    def _is_forgotten(self, row: SharedFile) -> bool:
        """A claim of this very process that it could not give back when it wanted to."""
        return row.writer == self.holder and row.temp not in self._writing

    def give_name(self, temp: Path, where: Place) -> None:
        """From here on readers see the file. Blocking, OSError."""
        self.tree.make_folder(where)
        self.tree.publish(temp, where)

    def _remove(self, rows: Sequence[SharedFile]) -> list[SharedFile]:
        gone = [row for row in rows if self.tree.remove(Place(*row.key))]
        for asset in {row.asset for row in gone}:
            self.tree.remove_folder(f"{asset[:2]}/{asset}")
        return gone

    def _remove_temp(self, name: str) -> None:
        (self.tree.temp / Path(name).name).unlink(missing_ok=True)

    def _count(self, gone: Sequence[SharedFile], freed: int, reason: Reason) -> None:
        name = self._name
        metrics.CACHE_EVICTIONS.labels(cache=name, reason=reason).inc(len(gone))
        metrics.CACHE_EVICTED_BYTES.labels(cache=name, reason=reason).inc(freed)
        if reason in ("quota", "floor"):
            age = metrics.CACHE_EVICTION_AGE.labels(cache=name)
            for row in gone:
                age.observe(max(0.0, row.age_s))
            self.evicted_files += len(gone)
            self.evicted_bytes += freed
            self.evicted_age_s = max(0.0, gone[-1].age_s)


def _need(size: int) -> int:
    return rounded(size) + _OF_A_FILE + _SLACK
