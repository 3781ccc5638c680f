"""A disk cache without files: the index and the eviction policies of the product, in memory.

The rows, the eviction order and the batches of recorded uses are those of `cache/disk`, so a
simulation cannot differ from what `cache.eviction` does on disk. One request costs 15 to 30
microseconds.
"""

from __future__ import annotations

import sqlite3
import weakref

from orchestrator.cache.disk.eviction import EVICTED_AT_ONCE
from orchestrator.cache.disk.eviction_policies import policy_named
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.ledger import spare_bytes
from orchestrator.cache.disk.schema import statements

SETTLE_S = 30.0
"""The default of `cache.lease_s`: uses this soon after an entry joined a queue do not count."""
RECORD_EVERY_S = 2.0
"""The default of `cache.use_flush_s`: uses of an entry within this time count once."""
_INSERT = (
    "INSERT INTO entries (asset, name, bytes, last_used, queue, turn) VALUES ('', ?, ?, ?, ?, ?)"
)


class SimulatedCache:
    """A cache of one policy (`lru`, `s3-fifo`) and quota (bytes)."""

    def __init__(self, policy: str, quota: int, *, settle_s: float = SETTLE_S) -> None:
        self._quota = quota
        self._spare = spare_bytes(quota)
        self._order = policy_named(policy, quota, settle_s)
        self._db = _empty_index()
        weakref.finalize(self, self._db.close)
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._uses: dict[str, float] = {}
        self._recorded_at = 0.0

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each key that is in the cache."""
        return dict(self._sizes)

    def request(self, at: float, key: int, size: int) -> bool:
        """Request a key of `size` bytes at a time (seconds). True if the cache had it; if not, it
        is written to the cache now.
        """
        name = str(key)
        if name in self._sizes:
            self._uses[name] = at
            if at >= self._recorded_at + RECORD_EVERY_S:
                self._record_uses(at)
            return True
        if size <= self._quota:
            self._make_room(at, size)
            queue, turn = self._order.position_of_new(self._db, Place("", name), at)
            self._db.execute(_INSERT, (name, size, at, queue, turn))
            self._sizes[name] = size
            self._bytes += size
        return False

    def _make_room(self, at: float, size: int) -> None:
        """As a writer does: record uses, then evict what is missing and some bytes to spare."""
        if self._bytes + size <= self._quota:
            return
        self._record_uses(at)
        while (missing := self._bytes + size - self._quota) > 0:
            victims = self._order.choose_victims(
                self._db, at, limit=EVICTED_AT_ONCE, to_free=missing + self._spare
            )
            self._db.executemany("DELETE FROM entries WHERE id = ?", [(v.id,) for v in victims])
            self._order.on_evicted(self._db, victims, at)
            self._bytes -= sum(self._sizes.pop(victim.place.name) for victim in victims)

    def _record_uses(self, at: float) -> None:
        self._order.record_uses(self._db, [(used, "", name) for name, used in self._uses.items()])
        self._uses.clear()
        self._recorded_at = at


def _empty_index() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    # One transaction without a journal: nothing is ever rolled back.
    db.execute("PRAGMA journal_mode = OFF")
    db.execute("BEGIN")
    for statement in statements():
        db.execute(statement)
    return db
