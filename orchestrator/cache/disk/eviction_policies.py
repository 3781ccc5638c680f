"""The two eviction policies of a disk cache, as orders over the rows of its index: LRU, and
S3-FIFO, where a scan does not evict what was used again (docs/adr/0012-eviction.md).

Both policies order entries by (queue, turn). LRU has one queue, and `turn` is the last use. S3-FIFO
has a small queue for new entries and a main queue for entries that were used again; `turn` is the
time when the entry joined its queue, so recording a use changes no order. The table `ghosts` keeps
the names of entries that left the small queue unused; such an entry joins the main queue when it is
written again. `scavenger/simulator.py` runs this code on an index in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.index import read_meta, transaction, write_meta

SMALL, MAIN = 0, 1
SMALL_PART = 0.1
"""Part of the quota for entries that were requested only once."""
ENOUGH_USES = 1
"""Uses after the first that move an entry from the small queue to the main queue."""
MOST_USES = 3
"""Highest number of uses counted for an entry; each use spares it once in the main queue."""
_MOVES_AT_ONCE = 512
"""Entries spared in one search. After that the next entry is evicted even if it was used, because
the search holds the lock of the index.
"""
_PAGE = 64
_TICK_S = 1e-6
_POLICY_NAME = "eviction"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be evicted, as it was when the search read it."""

    id: int
    place: Place
    bytes: int
    last_used: float
    queue: int = MAIN


Use = tuple[float, str, str]
"""(time used, asset, name)."""


class EvictionOrder(Protocol):
    """An eviction policy over the index; every method runs inside the caller's transaction."""

    name: str
    is_by_last_use: bool
    """True if `turn` is the time of the last use."""

    def position_of_new(
        self, db: sqlite3.Connection, place: Place, used: float
    ) -> tuple[int, float]:
        """The (queue, turn) of a new entry."""
        ...

    def record_uses(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """Record uses; returns how many of the entries the index knows."""
        ...

    def choose_victims(
        self, db: sqlite3.Connection, now: float, *, limit: int, to_free: int
    ) -> list[Candidate]:
        """The entries to evict next, in order: at most `limit`, and no more than are needed to free
        `to_free` bytes. Entries that the policy spares move to another position.
        """
        ...

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """About the same entries as `choose_victims`; changes nothing."""
        ...

    def on_evicted(self, db: sqlite3.Connection, evicted: Iterable[Candidate], now: float) -> None:
        """Called after these entries were evicted."""
        ...


class Lru:
    """Evicts the least recently used entry first."""

    name = "lru"
    is_by_last_use = True

    def position_of_new(
        self, db: sqlite3.Connection, place: Place, used: float
    ) -> tuple[int, float]:
        """See EvictionOrder."""
        return MAIN, used

    def record_uses(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """See EvictionOrder."""
        update = (
            "UPDATE entries SET last_used = max(last_used, ?1), turn = max(turn, ?1) "
            "WHERE asset = ?2 AND name = ?3"
        )
        return db.executemany(update, uses).rowcount

    def choose_victims(
        self, db: sqlite3.Connection, now: float, *, limit: int, to_free: int
    ) -> list[Candidate]:
        """See EvictionOrder."""
        victims: list[Candidate] = []
        freed = 0
        for candidate, _ in _read_queue(db, MAIN, now):
            if len(victims) >= limit or freed >= to_free:
                break
            victims.append(candidate)
            freed += candidate.bytes
        return victims

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """See EvictionOrder."""
        return _in_order(db, now, limit)

    def on_evicted(self, db: sqlite3.Connection, evicted: Iterable[Candidate], now: float) -> None:
        """See EvictionOrder."""


class S3Fifo:
    """New entries go through a small queue; entries used again go to the main queue."""

    name = "s3-fifo"
    is_by_last_use = False

    def __init__(self, quota: int, settle_s: float) -> None:
        """`quota` is in bytes, 0 for no quota. A use within `settle_s` seconds after the entry
        joined its queue belongs to the same visit and does not count.
        """
        self._quota = quota
        self._settle_s = settle_s

    def position_of_new(
        self, db: sqlite3.Connection, place: Place, used: float
    ) -> tuple[int, float]:
        """See EvictionOrder."""
        known = db.execute("DELETE FROM ghosts WHERE key = ?", (_ghost_key(place),)).rowcount
        return MAIN if known else SMALL, used

    def record_uses(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """See EvictionOrder."""
        update = (
            "UPDATE entries SET uses = min(uses + (?1 - turn >= ?4), ?5), "
            "last_used = max(last_used, ?1) WHERE asset = ?2 AND name = ?3"
        )
        rows = [(*use, self._settle_s, MOST_USES) for use in uses]
        return db.executemany(update, rows).rowcount

    def choose_victims(
        self, db: sqlite3.Connection, now: float, *, limit: int, to_free: int
    ) -> list[Candidate]:
        """See EvictionOrder."""
        small_bytes, small_limit = self._small_queue(db)
        heads = {queue: _read_queue(db, queue, now) for queue in (SMALL, MAIN)}
        victims: list[Candidate] = []
        freed = moves = 0
        while heads and len(victims) < limit and freed < to_free:
            from_small = SMALL in heads and (small_bytes > small_limit or MAIN not in heads)
            queue = SMALL if from_small else MAIN
            head = next(heads[queue], None)
            if head is None:
                del heads[queue]
                continue
            candidate, uses = head
            small_bytes -= candidate.bytes if queue == SMALL else 0
            if uses >= ENOUGH_USES and moves < _MOVES_AT_ONCE:
                _spare(db, candidate, uses - 1 if queue == MAIN else 0, now)
                moves += 1
            else:
                victims.append(candidate)
                freed += candidate.bytes
        return victims

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """See EvictionOrder."""
        return _in_order(db, now, limit)

    def on_evicted(self, db: sqlite3.Connection, evicted: Iterable[Candidate], now: float) -> None:
        """Remember the names of entries of the small queue, up to the bytes of the main queue."""
        ghosts = [(_ghost_key(c.place), c.bytes, now) for c in evicted if c.queue == SMALL]
        db.executemany("INSERT OR IGNORE INTO ghosts VALUES (?, ?, ?)", ghosts)
        _, small_limit = self._small_queue(db)
        most_bytes = small_limit / SMALL_PART - small_limit
        total = db.execute("SELECT ghosts FROM totals").fetchone()[0]
        while total > most_bytes:
            row = db.execute("SELECT key, bytes FROM ghosts ORDER BY since LIMIT 1").fetchone()
            if row is None:
                break
            db.execute("DELETE FROM ghosts WHERE key = ?", (row[0],))
            total -= row[1]

    def _small_queue(self, db: sqlite3.Connection) -> tuple[int, float]:
        """Bytes in the small queue, and the bytes it may have. Without a quota the limit is a part
        of the bytes in use.
        """
        small_bytes, used = db.execute("SELECT small, bytes FROM totals").fetchone()
        return small_bytes, (self._quota or used) * SMALL_PART


def policy_named(name: str, quota: int, settle_s: float) -> EvictionOrder:
    """The policy of this name (`lru`, `s3-fifo`); see S3Fifo for the other parameters."""
    return S3Fifo(quota, settle_s) if name == S3Fifo.name else Lru()


def reorder_index(db: sqlite3.Connection, order: EvictionOrder) -> None:
    """Put an index that another policy has ordered into this order; once, in time that grows with
    the number of its rows.
    """
    if (read_meta(db, _POLICY_NAME) or Lru.name) == order.name:
        return
    with transaction(db):
        db.execute("UPDATE entries SET queue = 1, turn = last_used, uses = 0")
        db.execute("DELETE FROM ghosts")
        write_meta(db, _POLICY_NAME, order.name)


def _read_queue(db: sqlite3.Connection, queue: int, now: float) -> Iterator[tuple[Candidate, int]]:
    """(entry, uses) from the head of a queue; entries that join it during the search come last."""
    turn, last_id = -1.0, 0
    while True:
        rows = db.execute(
            "SELECT id, asset, name, bytes, last_used, uses, turn FROM entries "
            "WHERE pinned = 0 AND queue = ? AND (turn, id) > (?, ?) AND lease_until <= ? "
            "ORDER BY turn, id LIMIT ?",
            (queue, turn, last_id, now, _PAGE),
        ).fetchall()
        for row in rows:
            candidate = Candidate(row[0], Place(row[1], row[2]), row[3], row[4], queue)
            yield candidate, row[5]
        if not rows:
            return
        turn, last_id = rows[-1][6], rows[-1][0]


def _in_order(db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
    rows = db.execute(
        "SELECT id, asset, name, bytes, last_used, queue FROM entries "
        "WHERE pinned = 0 AND lease_until <= ? ORDER BY queue, turn, id LIMIT ?",
        (now, limit),
    )
    return [Candidate(row[0], Place(row[1], row[2]), row[3], row[4], row[5]) for row in rows]


def _spare(db: sqlite3.Connection, candidate: Candidate, uses: int, now: float) -> None:
    """Move the entry to the end of the main queue."""
    db.execute(
        "UPDATE entries SET queue = 1, turn = ?, uses = ? WHERE id = ?",
        (_last_turn(db, now), uses, candidate.id),
    )


def _last_turn(db: sqlite3.Connection, now: float) -> float:
    """A turn after all others in the main queue: now, or just after the last entry's turn, so that
    turns differ.
    """
    last = db.execute(
        "SELECT turn FROM entries WHERE pinned = 0 AND queue = 1 ORDER BY turn DESC LIMIT 1"
    ).fetchone()
    return now if last is None else max(now, float(last[0]) + _TICK_S)


def _ghost_key(place: Place) -> int:
    digest = blake2b(place.path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
