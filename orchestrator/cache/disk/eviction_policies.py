"""Whose turn it is to be evicted, by the order the index keeps: LRU, or S3-FIFO, which a scan
cannot spoil (docs/adr/0012-eviction.md).

Both order entries by (queue, turn). LRU has one queue and `turn` is the last use. S3-FIFO has a
small queue for the new and a main one for what was used again; `turn` is when an entry joined its
queue, so recording a use touches no order; `ghosts` remember who left the small queue unused and
enter the main queue when they come back. scavenger/simulated_policies.py simulates it.
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
"""Of the quota, for what has been asked for once only."""
ENOUGH_USES = 1
"""Uses after the first that let an entry out of the small queue into the main one."""
MOST_USES = 3
"""Uses of an entry that are counted; each spares it once in the main queue."""
_MOVES_AT_ONCE = 512
"""Entries spared in one search; then the next goes, used or not: the lock is held meanwhile."""
_PAGE = 64
_TICK_S = 1e-6
_NAME = "eviction"


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be evicted, as it was found."""

    id: int
    place: Place
    bytes: int
    last_used: float
    queue: int = MAIN


Use = tuple[float, str, str]
"""(time used, asset, name)."""


class Turns(Protocol):
    """An eviction policy over the index; every method inside the caller's transaction."""

    name: str
    by_use: bool
    """Whether `turn` is the last use."""

    def joining(self, db: sqlite3.Connection, place: Place, used: float) -> tuple[int, float]:
        """The (queue, turn) of a new entry."""
        ...

    def used(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """Take down uses; returns how many of the entries are there."""
        ...

    def next(
        self, db: sqlite3.Connection, now: float, *, limit: int, wanted: int
    ) -> list[Candidate]:
        """Whose turn it is, in order, until they are `limit` or `wanted` bytes together."""
        ...

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """About the same, changing nothing."""
        ...

    def evicted(self, db: sqlite3.Connection, gone: Iterable[Candidate], now: float) -> None:
        """Entries of these were removed because it was their turn."""
        ...


class Lru:
    """Least recently used first."""

    name = "lru"
    by_use = True

    def joining(self, db: sqlite3.Connection, place: Place, used: float) -> tuple[int, float]:
        """See Turns."""
        return MAIN, used

    def used(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """See Turns."""
        update = (
            "UPDATE entries SET last_used = max(last_used, ?1), turn = max(turn, ?1) "
            "WHERE asset = ?2 AND name = ?3"
        )
        return db.executemany(update, uses).rowcount

    def next(
        self, db: sqlite3.Connection, now: float, *, limit: int, wanted: int
    ) -> list[Candidate]:
        """See Turns."""
        chosen: list[Candidate] = []
        freed = 0
        for candidate, _ in _heads(db, MAIN, now):
            if len(chosen) >= limit or freed >= wanted:
                break
            chosen.append(candidate)
            freed += candidate.bytes
        return chosen

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """See Turns."""
        return _ordered(db, now, limit)

    def evicted(self, db: sqlite3.Connection, gone: Iterable[Candidate], now: float) -> None:
        """See Turns."""


class S3Fifo:
    """New ones prove themselves in a small queue; the main queue is for those that did."""

    name = "s3-fifo"
    by_use = False

    def __init__(self, quota: int, settle_s: float) -> None:
        """`quota` in bytes, 0 for none; uses within `settle_s` of joining a queue are of the same
        visit and do not count.
        """
        self._quota = quota
        self._settle_s = settle_s

    def joining(self, db: sqlite3.Connection, place: Place, used: float) -> tuple[int, float]:
        """See Turns."""
        known = db.execute("DELETE FROM ghosts WHERE key = ?", (_ghost(place),)).rowcount
        return MAIN if known else SMALL, used

    def used(self, db: sqlite3.Connection, uses: Sequence[Use]) -> int:
        """See Turns."""
        update = (
            "UPDATE entries SET uses = min(uses + (?1 - turn >= ?4), ?5), "
            "last_used = max(last_used, ?1) WHERE asset = ?2 AND name = ?3"
        )
        rows = [(*use, self._settle_s, MOST_USES) for use in uses]
        return db.executemany(update, rows).rowcount

    def next(
        self, db: sqlite3.Connection, now: float, *, limit: int, wanted: int
    ) -> list[Candidate]:
        """See Turns."""
        small, allowed = self._small(db)
        heads = {queue: _heads(db, queue, now) for queue in (SMALL, MAIN)}
        chosen: list[Candidate] = []
        freed = moves = 0
        while heads and len(chosen) < limit and freed < wanted:
            queue = SMALL if SMALL in heads and (small > allowed or MAIN not in heads) else MAIN
            found = next(heads[queue], None)
            if found is None:
                del heads[queue]
                continue
            candidate, uses = found
            small -= candidate.bytes if queue == SMALL else 0
            if uses >= ENOUGH_USES and moves < _MOVES_AT_ONCE:
                _spare(db, candidate, uses - 1 if queue == MAIN else 0, now)
                moves += 1
            else:
                chosen.append(candidate)
                freed += candidate.bytes
        return chosen

    def preview(self, db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
        """See Turns."""
        return _ordered(db, now, limit)

    def evicted(self, db: sqlite3.Connection, gone: Iterable[Candidate], now: float) -> None:
        """See Turns."""
        left = [(_ghost(c.place), c.bytes, now) for c in gone if c.queue == SMALL]
        db.executemany("INSERT OR IGNORE INTO ghosts VALUES (?, ?, ?)", left)
        _, allowed = self._small(db)
        most = allowed / SMALL_PART - allowed
        total = db.execute("SELECT ghosts FROM totals").fetchone()[0]
        while total > most:
            row = db.execute("SELECT key, bytes FROM ghosts ORDER BY since LIMIT 1").fetchone()
            if row is None:
                break
            db.execute("DELETE FROM ghosts WHERE key = ?", (row[0],))
            total -= row[1]

    def _small(self, db: sqlite3.Connection) -> tuple[int, float]:
        """Bytes in the small queue, and how many it may have; without a quota, of what is used."""
        small, used = db.execute("SELECT small, bytes FROM totals").fetchone()
        return small, (self._quota or used) * SMALL_PART


def turns_of(name: str, quota: int, settle_s: float) -> Turns:
    """The policy of this name (`lru`, `s3-fifo`)."""
    return S3Fifo(quota, settle_s) if name == S3Fifo.name else Lru()


def convert(db: sqlite3.Connection, turns: Turns) -> None:
    """Order an index that another policy has ordered: once, in time that grows with its rows."""
    if (read_meta(db, _NAME) or Lru.name) == turns.name:
        return
    with transaction(db):
        db.execute("UPDATE entries SET queue = 1, turn = last_used, uses = 0")
        db.execute("DELETE FROM ghosts")
        write_meta(db, _NAME, turns.name)


def _heads(db: sqlite3.Connection, queue: int, now: float) -> Iterator[tuple[Candidate, int]]:
    """(entry, uses) from the head of a queue; what joins it meanwhile comes last."""
    turn, last = -1.0, 0
    while True:
        rows = db.execute(
            "SELECT id, asset, name, bytes, last_used, uses, turn FROM entries "
            "WHERE pinned = 0 AND queue = ? AND (turn, id) > (?, ?) AND lease_until <= ? "
            "ORDER BY turn, id LIMIT ?",
            (queue, turn, last, now, _PAGE),
        ).fetchall()
        for row in rows:
            candidate = Candidate(row[0], Place(row[1], row[2]), row[3], row[4], queue)
            yield candidate, row[5]
        if not rows:
            return
        turn, last = rows[-1][6], rows[-1][0]


def _ordered(db: sqlite3.Connection, now: float, limit: int) -> list[Candidate]:
    rows = db.execute(
        "SELECT id, asset, name, bytes, last_used, queue FROM entries "
        "WHERE pinned = 0 AND lease_until <= ? ORDER BY queue, turn, id LIMIT ?",
        (now, limit),
    )
    return [Candidate(row[0], Place(row[1], row[2]), row[3], row[4], row[5]) for row in rows]


def _spare(db: sqlite3.Connection, candidate: Candidate, uses: int, now: float) -> None:
    """To the end of the main queue."""
    db.execute(
        "UPDATE entries SET queue = 1, turn = ?, uses = ? WHERE id = ?",
        (_last_turn(db, now), uses, candidate.id),
    )


def _last_turn(db: sqlite3.Connection, now: float) -> float:
    """The time, a little later than of whoever joined the main queue last: turns there differ."""
    last = db.execute(
        "SELECT turn FROM entries WHERE pinned = 0 AND queue = 1 ORDER BY turn DESC LIMIT 1"
    ).fetchone()
    return now if last is None else max(now, float(last[0]) + _TICK_S)


def _ghost(place: Place) -> int:
    digest = blake2b(place.path.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
