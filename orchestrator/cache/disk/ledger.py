"""Room on disk: reserved before bytes are written, made by eviction, given back when it is not
needed.

Each process has one reservation and writes out of it. The used and reserved bytes of the index are
together never less than what `du` counts, and never more than the quota. The order of steps keeps
this true through a `kill -9`: a row is committed before its file gets its name, and a file is
removed before its bytes count as free, both under the index's lock. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from orchestrator.cache.disk.eviction import Evictor, Reason
from orchestrator.cache.disk.files import BLOCK, rounded
from orchestrator.cache.disk.index import Index, Totals, read_totals, transaction

SLACK = 8 * BLOCK
"""Reserved with each file for growth of folders (a new folder, its parent, a split)."""
_INDEX_ROOM = 12 * 1024**2
"""Always left free: the log of the index needs it, and without the log nothing can be evicted."""
_SPARE = 4 * 1024**2
_ROUNDS = 8
_RELIEF_FILES = 32


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """Reservations and temporary files of ended processes that were removed."""

    holders: int = 0
    """Processes that still had a reservation."""
    bytes: int = 0
    temporaries: int = 0


class Ledger:
    """The room this process has reserved."""

    def __init__(self, index: Index, evictor: Evictor) -> None:
        self.index = index
        self.evictor = evictor
        self.tree = evictor.tree
        self.limits = evictor.limits
        self.free = 0
        """Bytes reserved by this process that no write has claimed."""
        self._spare = spare_bytes(self.limits.quota)

    def claim(self, need: int) -> bool:
        """True if `need` bytes are now set aside for a write; evicts files if needed.

        Raises NoRoom when the index cannot be used.
        """
        for _ in range(_ROUNDS):
            if self.free >= need:
                self.free -= need
                return True
            if not self.index.run(lambda db: self._reserve(db, need - self.free)):
                return False
        return False

    def unclaim(self, need: int) -> None:
        """Give back what `claim` set aside and nothing was written into."""
        self.free += need

    def release_free(self) -> None:
        """Give room that this process does not need now to other processes."""
        if self.free > 0:
            self.index.run(self._release)

    def reclaim(self) -> Reclaimed:
        """Free the reservations of ended processes, and remove their temporary files."""
        return self.index.run(self._reclaim)

    def relieve(self) -> int:
        """Remove a few files without changing the index, when the disk is too full to write it.

        Their rows still count until the files are missed, so the index over-counts, which is safe.
        Returns the files removed.
        """
        candidates = self.index.run(lambda db: self.evictor.candidates(db, _RELIEF_FILES))
        return sum(self.tree.remove(candidate.place) for candidate in candidates)

    @contextmanager
    def charge(self, db: sqlite3.Connection) -> Iterator[None]:
        """A transaction; the used bytes that it adds are taken out of this process's
        reservation.
        """
        with transaction(db):
            before = _used_bytes(db)
            yield
            delta = _used_bytes(db) - before
            db.execute(
                "UPDATE reservations SET bytes = bytes - ? WHERE holder = ?",
                (delta, self.index.holder),
            )
        self.index.reserved -= delta
        self.free -= delta

    def _reserve(self, db: sqlite3.Connection, missing: int) -> bool:
        """Reserve `missing` bytes and some to spare; False if another attempt would not help."""
        with transaction(db):
            totals = read_totals(db)
            if totals.walking and self.limits.quota:
                return False
            target = missing + self._spare
            room, bound = self._room(totals)
            if room < target and room + totals.bytes - totals.pinned < missing:
                return False  # evicting everything would not be enough: evict nothing
            progress = room >= missing
            if room < target:
                evicted = self.evictor.make_room(db, target - room, bound)
                room, _ = self._room(read_totals(db))
                progress = progress or evicted > 0
            granted = missing + min(self._spare, (room - missing) // 4) if room >= missing else 0
            db.execute(
                "UPDATE reservations SET bytes = bytes + ? WHERE holder = ?",
                (granted, self.index.holder),
            )
        self.index.reserved += granted
        self.free += granted
        return progress

    def _room(self, totals: Totals) -> tuple[int, Reason]:
        """Bytes that can still be reserved, and the limit that bounds them."""
        floor = max(self.limits.floor, _INDEX_ROOM)
        disk = self.tree.free_bytes() - floor - totals.reserved
        quota = self.limits.quota - totals.bytes - totals.reserved
        if not self.limits.quota or disk < quota:
            return disk, "floor"
        return quota, "quota"

    def _release(self, db: sqlite3.Connection) -> None:
        db.execute(
            "UPDATE reservations SET bytes = bytes - ? WHERE holder = ?",
            (self.free, self.index.holder),
        )
        self.index.reserved -= self.free
        self.free = 0

    def _reclaim(self, db: sqlite3.Connection) -> Reclaimed:
        """Temporary files first: their bytes stay reserved until they are removed."""
        rows = dict(db.execute("SELECT holder, bytes FROM reservations").fetchall())
        files = self.tree.temporaries()
        holders = {*rows, *(holder for holder, _ in files)}
        ended = {holder for holder in holders if self.index.processes.has_ended(holder)}
        removed = 0
        for holder, path in files:
            if holder in ended:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    removed += 1
        if ended:
            with transaction(db):
                db.executemany("DELETE FROM reservations WHERE holder = ?", [(h,) for h in ended])
        freed = sum(rows.get(holder, 0) for holder in ended)
        return Reclaimed(len(ended & rows.keys()), freed, removed)


def spare_bytes(quota: int) -> int:
    """Bytes to reserve beyond what a write needs, so that most writes reserve nothing."""
    return min(_SPARE, quota // 64) if quota else _SPARE


def room_for(size: int) -> int:
    """Bytes to reserve for a file of `size` bytes: its blocks and the growth of folders."""
    return rounded(size) + SLACK


def _used_bytes(db: sqlite3.Connection) -> int:
    used: int = db.execute("SELECT bytes FROM totals").fetchone()[0]
    return used
