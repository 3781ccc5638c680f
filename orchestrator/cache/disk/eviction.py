"""Which files a cache evicts, and their removal: files of products over their share first, then the
files that the eviction policy chooses (eviction_policies.py). Pinned and leased files are never
evicted.

Everything happens under the index's lock, files first and rows after. After a crash between the two
the index may over-count, never under-count. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from orchestrator import metrics
from orchestrator.cache.disk.eviction_policies import Candidate, EvictionOrder, Lru
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.files import Tree
from orchestrator.cache.disk.index_rows import remove_empty_folder
from orchestrator.cache.statistics import CacheStats

Reason = Literal["quota", "floor", "share", "outdated", "asset", "prefix", "cleared", "damaged"]
"""Why a file was removed. For room: of the `quota`, of the disk (`floor`), of its `share`. Because
a later version of its asset replaced it (`outdated`). Because its `asset`, a `prefix` of ids or the
whole cache (`cleared`) was dropped. Because it could not be trusted (`damaged`).
"""
EVICTED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a cache may use: `quota` of allocated blocks (0: no limit), leaving `floor` bytes of
    the disk free. `shares` are parts of the quota that only one kind of product uses.
    """

    quota: int
    floor: int
    shares: tuple[tuple[str, int], ...] = ()
    order: EvictionOrder = Lru()  # noqa: RUF009  it has no state

    def share(self, name: str) -> int | None:
        """The bytes of the share of this name; None if there is no such share."""
        return dict(self.shares).get(name)


class Evictor:
    """Chooses files and removes them, inside the caller's transaction."""

    def __init__(
        self, tree: Tree, limits: Limits, now: Callable[[], float], stats: CacheStats
    ) -> None:
        self.tree = tree
        self.limits = limits
        self.now = now
        self.stats = stats

    def candidates(self, db: sqlite3.Connection, limit: int) -> list[Candidate]:
        """The entries that may be evicted, about in order of eviction."""
        return self.limits.order.preview(db, self.now(), limit)

    def victims(self, db: sqlite3.Connection, to_free: int) -> list[Candidate]:
        """The entries to evict next, to free that many bytes; at most EVICTED_AT_ONCE entries."""
        return self.limits.order.choose_victims(
            db, self.now(), limit=EVICTED_AT_ONCE, to_free=to_free
        )

    def unused(self, db: sqlite3.Connection, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those that were neither used nor leased nor pinned since they were chosen."""
        query = (
            "SELECT 1 FROM entries WHERE id = ? AND last_used = ? AND lease_until <= ? "
            "AND pinned = 0"
        )
        now = self.now()
        return [c for c in candidates if db.execute(query, (c.id, c.last_used, now)).fetchone()]

    def make_room(self, db: sqlite3.Connection, missing: int, reason: Reason) -> int:
        """Evict until `missing` bytes are freed, a bounded number of files; returns their
        number.
        """
        files, freed = self.remove(db, self.over_shares(db), "share")
        if freed >= missing:
            return files
        victims = self.victims(db, missing - freed)
        return files + self.remove(db, victims, reason)[0]

    def over_shares(self, db: sqlite3.Connection) -> list[Candidate]:
        """The files to evict of products over their share, least recently used first; a bounded
        number.
        """
        victims: list[Candidate] = []
        for name, limit in self.limits.shares:
            excess = _share_bytes(db, name) - limit
            if excess > 0:
                victims += first_that_free(self._of_share(db, name), excess)
        return victims

    def fits_share(self, db: sqlite3.Connection, name: str, size: int, spared: set[Place]) -> bool:
        """True if the share has room for `size` more bytes. Evicts other files of the share for
        that, except those in `spared`.
        """
        limit = self.limits.share(name)
        if limit is None:
            return True
        while (excess := _share_bytes(db, name) + size - limit) > 0:
            others = [c for c in self._of_share(db, name) if c.place not in spared]
            if size > limit or not self.remove(db, first_that_free(others, excess), "share")[0]:
                return False
        return True

    def remove(
        self, db: sqlite3.Connection, candidates: list[Candidate], reason: Reason
    ) -> tuple[int, int]:
        """Remove the files, then their rows; returns (files, bytes) removed."""
        removed = [c for c in candidates if self.tree.remove(c.place)]
        db.executemany("DELETE FROM entries WHERE id = ?", [(c.id,) for c in removed])
        for asset in dict.fromkeys(c.place.asset for c in removed):
            remove_empty_folder(db, self.tree, asset)
        if not removed:
            return 0, 0
        now, freed = self.now(), sum(c.bytes for c in removed)
        self.limits.order.on_evicted(db, removed, now)
        self.stats.evicted += len(removed)
        self.stats.evicted_bytes += freed
        self.stats.evicted_age_s = max(0.0, now - removed[-1].last_used)
        self.count_removal(reason, len(removed), freed)
        age = metrics.CACHE_EVICTION_AGE.labels(cache=self.tree.root.name)
        for candidate in removed:
            age.observe(max(0.0, now - candidate.last_used))
        return len(removed), freed

    def count_removal(self, reason: Reason, files: int, size: int) -> None:
        """Add to the metrics of this process."""
        labels = {"cache": self.tree.root.name, "reason": reason}
        metrics.CACHE_EVICTIONS.labels(**labels).inc(files)
        metrics.CACHE_EVICTED_BYTES.labels(**labels).inc(size)

    def _of_share(self, db: sqlite3.Connection, name: str) -> list[Candidate]:
        rows = db.execute(
            "SELECT id, asset, name, bytes, last_used, queue FROM entries "
            "WHERE share = ? AND share <> '' AND pinned = 0 AND lease_until <= ? "
            "ORDER BY last_used LIMIT ?",
            (name, self.now(), EVICTED_AT_ONCE),
        )
        return [Candidate(row[0], Place(row[1], row[2]), *row[3:]) for row in rows]


def first_that_free(candidates: Iterable[Candidate], to_free: int) -> list[Candidate]:
    """The first candidates that free at least `to_free` bytes together; all of them if they free
    less.
    """
    chosen: list[Candidate] = []
    freed = 0
    for candidate in candidates:
        if freed >= to_free:
            break
        chosen.append(candidate)
        freed += candidate.bytes
    return chosen


def _share_bytes(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT bytes FROM shares WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0
