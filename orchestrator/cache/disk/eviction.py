"""What leaves a cache for room, and in which order: products over their share first, then whatever
has its turn (cache/disk/eviction_policies.py), wherever it counts. Pinned and leased files never.

All of it happens under the index's lock, files first and rows after: a kill between the two leaves
rows too many, which counts too much and never too little. One thread only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from orchestrator import metrics
from orchestrator.cache.disk.eviction_policies import Candidate, EvictionOrder, Lru
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.files import Tree

Reason = Literal["quota", "floor", "share", "outdated", "asset", "prefix", "cleared", "damaged"]
"""Why a file left: for room (of the quota, of the disk, of its share); because a later version of
its asset replaced it; because its asset, a prefix of ids or the whole cache was dropped; because it
could not be trusted.
"""
EVICTED_AT_ONCE = 256
_ENTRY = "SELECT id, asset, name, bytes, last_used, queue FROM entries "


class Sized(Protocol):
    """What can be evicted."""

    @property
    def bytes(self) -> int:
        """Bytes freed by that."""


S = TypeVar("S", bound=Sized)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes a cache may use: `quota` of allocated blocks (0: no limit), leaving `floor` free;
    `shares` are parts of the quota that products have of their own.
    """

    quota: int
    floor: int
    shares: tuple[tuple[str, int], ...] = ()
    order: EvictionOrder = Lru()  # noqa: RUF009  it holds nothing

    def share(self, name: str) -> int | None:
        """The bytes of the share of this name; None if it has no bound of its own."""
        return dict(self.shares).get(name)


@dataclass(slots=True)
class Evictions:
    """What evictions came to since the start of this process."""

    files: int = 0
    bytes: int = 0
    last_age_s: float = 0.0
    """Seconds between its last use and its eviction, of the entry evicted last."""


class Evictor:
    """Chooses and removes, within transactions that its caller has open."""

    def __init__(self, tree: Tree, limits: Limits, now: Callable[[], float]) -> None:
        self.done = Evictions()
        self._tree = tree
        self._limits = limits
        self._now = now

    def candidates(self, db: sqlite3.Connection, limit: int) -> list[Candidate]:
        """The entries that may be evicted, about in the order of their turn."""
        return self._limits.order.preview(db, self._now(), limit)

    def victims(self, db: sqlite3.Connection, wanted: int) -> list[Candidate]:
        """Whose turn it is, until they free `wanted` bytes together; a bounded number at once."""
        return self._limits.order.choose_victims(
            db, self._now(), limit=EVICTED_AT_ONCE, wanted=wanted
        )

    def unused(self, db: sqlite3.Connection, candidates: Iterable[Candidate]) -> list[Candidate]:
        """Those that were neither used nor leased nor pinned since they were found."""
        still = (
            "SELECT 1 FROM entries WHERE id = ? AND last_used = ? AND lease_until <= ? "
            "AND pinned = 0"
        )
        now = self._now()
        return [c for c in candidates if db.execute(still, (c.id, c.last_used, now)).fetchone()]

    def make_room(self, db: sqlite3.Connection, missing: int, reason: Reason) -> int:
        """Evict until `missing` bytes are freed, a bounded number at once; files gone."""
        files, freed = self.trim_shares(db)
        if freed >= missing:
            return files
        chosen = self.victims(db, missing - freed)
        return files + self.remove(db, chosen, reason)[0]

    def over_shares(self, db: sqlite3.Connection) -> list[Candidate]:
        """What products over their share have to give up, least recently used first; bounded."""
        chosen: list[Candidate] = []
        for name, limit in self._limits.shares:
            over = _share_bytes(db, name) - limit
            if over > 0:
                chosen += first_of(self._of_share(db, name), over)
        return chosen

    def trim_shares(self, db: sqlite3.Connection) -> tuple[int, int]:
        """Evict of products over their share; (files, bytes) gone."""
        return self.remove(db, self.over_shares(db), "share")

    def fits_share(self, db: sqlite3.Connection, name: str, size: int, kept: set[Place]) -> bool:
        """True if the share has room for `size` bytes more, for which others of it, but those
        `kept`, are evicted where need be.
        """
        limit = self._limits.share(name)
        if limit is None:
            return True
        while (over := _share_bytes(db, name) + size - limit) > 0:
            others = [c for c in self._of_share(db, name) if c.place not in kept]
            if size > limit or not self.remove(db, first_of(others, over), "share")[0]:
                return False
        return True

    def remove(
        self, db: sqlite3.Connection, candidates: list[Candidate], reason: Reason
    ) -> tuple[int, int]:
        """Remove files, then rows; (files, bytes) gone."""
        gone = [c for c in candidates if self._tree.remove(c.place)]
        db.executemany("DELETE FROM entries WHERE id = ?", [(c.id,) for c in gone])
        for asset in dict.fromkeys(c.place.asset for c in gone):
            self.leave_folder(db, asset)
        if not gone:
            return 0, 0
        now, freed = self._now(), sum(c.bytes for c in gone)
        self._limits.order.on_evicted(db, gone, now)
        self.done.files += len(gone)
        self.done.bytes += freed
        self.done.last_age_s = max(0.0, now - gone[-1].last_used)
        self.count(reason, len(gone), freed)
        age = metrics.CACHE_EVICTION_AGE.labels(cache=self._tree.root.name)
        for candidate in gone:
            age.observe(max(0.0, now - candidate.last_used))
        return len(gone), freed

    def count(self, reason: Reason, files: int, size: int) -> None:
        """Add to the figures of this process."""
        labels = {"cache": self._tree.root.name, "reason": reason}
        metrics.CACHE_EVICTIONS.labels(**labels).inc(files)
        metrics.CACHE_EVICTED_BYTES.labels(**labels).inc(size)

    def leave_folder(self, db: sqlite3.Connection, asset: str) -> None:
        """Remove an asset's folder if nothing is left in it."""
        folder = f"{asset[:2]}/{asset}"
        if self._tree.remove_folder(folder):
            db.execute("DELETE FROM folders WHERE path = ?", (folder,))

    def _of_share(self, db: sqlite3.Connection, name: str) -> list[Candidate]:
        rows = db.execute(
            f"{_ENTRY} WHERE share = ? AND share <> '' AND pinned = 0 AND lease_until <= ? "
            "ORDER BY last_used LIMIT ?",
            (name, self._now(), EVICTED_AT_ONCE),
        )
        return [_candidate(row) for row in rows]


def first_of(candidates: Iterable[S], wanted: int) -> list[S]:
    """The first of `candidates` that free at least `wanted` bytes together; all of them when they
    do not.
    """
    chosen: list[S] = []
    freed = 0
    for candidate in candidates:
        if freed >= wanted:
            break
        chosen.append(candidate)
        freed += candidate.bytes
    return chosen


def _candidate(row: tuple[int, str, str, int, float, int]) -> Candidate:
    return Candidate(row[0], Place(row[1], row[2]), row[3], row[4], row[5])


def _share_bytes(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT bytes FROM shares WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0
