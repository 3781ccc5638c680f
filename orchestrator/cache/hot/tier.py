"""The hot tier: complete responses of one process in memory, within a byte budget. The least
recently used entry is evicted first.

Used only on the event loop's thread; not thread-safe. A response made from a snapshot older than
the last drop of its asset never enters: `put` needs the token that was taken before the snapshot
was read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.cache.hot.memory_files import MemoryFiles, affordable_files
from orchestrator.cache.statistics import CacheStats

ENTRY_OVERHEAD = 800
"""Bytes charged per entry besides its size: key, index entries, object headers (measured, 64-bit
CPython 3.11).
"""
_DROPS_REMEMBERED = 20_000
_FREED_AT_ONCE = 500
"""It takes at most 4 ms: each may close a file."""


class Entry(Protocol):
    """What the tier needs to know of an entry."""

    @property
    def asset(self) -> str:
        """The asset's text id; notifications of changes drop entries by it."""

    @property
    def size(self) -> int:
        """Bytes of memory of its content."""


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class HeadsOf(Generic[E]):
    """How a tier keeps the heads of entries whose bodies it does not keep."""

    budget: int
    """In bytes, overheads included."""
    shorten: Callable[[E], E | None]
    """The entry without its body; None if it is not worth keeping."""


class HotTier(Generic[E]):
    """A byte-budgeted LRU with a per-asset index.

    `get` is an attribute, a closure over the ordered dict, because each hot tile calls it: it takes
    70-100 ns, a method 110-135, cachetools 200 and more (`loadtests/micro/bench_cache.py`).
    """

    def __init__(self, budget: int, max_entry: int, *, heads: HeadsOf[E] | None = None) -> None:
        """`budget` is in bytes, overheads included (0 turns the tier off). Entries of more than
        `max_entry` bytes are refused. `heads` says what stays of an entry that is evicted.
        """
        self._heads_of = heads
        self.heads: HotTier[E] | None = None
        """The heads of responses whose bodies are not in memory; dropped like entries."""
        if heads is not None:
            self.heads = HotTier(heads.budget, heads.budget)
        self._budget = budget
        self._max_entry = max_entry
        self._entries: OrderedDict[Hashable, E] = OrderedDict()
        self._keys: dict[str, set[Hashable]] = {}
        self._bytes = 0
        self._clock = 0
        self._dropped_at: dict[str, int] = {}
        self._all_dropped_at = 0
        self._puts = self._evicted = self._dropped = self._refused = 0
        self.files = MemoryFiles(affordable_files())
        """Memory files for the bodies of entries."""
        self.get: Callable[[Hashable], E | None] = _getter(self._entries)

    def token(self) -> int:
        """The present generation. Take it before the asset's snapshot is read; pass it to `put`."""
        return self._clock

    def takes(self, size: int) -> bool:
        """True if an entry of this size can be stored. Call it before the entry is built."""
        fits = size <= self._max_entry and size + ENTRY_OVERHEAD <= self._budget
        self._refused += not fits
        return fits

    def put(self, key: Hashable, entry: E, token: int) -> bool:
        """Store `entry`. False if it is too large or its asset was dropped after `token`."""
        if not self.takes(entry.size):
            return False
        if token < self._all_dropped_at or token < self._dropped_at.get(entry.asset, 0):
            self._refused += 1
            return False
        cost = entry.size + ENTRY_OVERHEAD
        if key in self._entries:
            self._remove(key)
        if self.heads is not None:
            self.heads.discard(key)
        self._entries[key] = entry
        self._keys.setdefault(entry.asset, set()).add(key)
        self._bytes += cost
        self._puts += 1
        while self._bytes > self._budget:
            self._evict(next(iter(self._entries)))
        return True

    def put_head(self, key: Hashable, entry: E, token: int) -> None:
        """Store only the head of `entry`, if heads are kept; see `put`."""
        if token >= max(self._all_dropped_at, self._dropped_at.get(entry.asset, 0)):
            self._keep_head(key, entry)

    def discard(self, key: Hashable) -> None:
        """Remove the entry of `key`, if there is one."""
        if key in self._entries:
            self._remove(key)

    def drop_asset(self, asset: str) -> int:
        """Remove all entries of `asset`, and refuse those that are being made from earlier
        snapshots; returns the entries removed.
        """
        self._clock += 1
        if len(self._dropped_at) >= _DROPS_REMEMBERED:
            self._dropped_at.clear()
            self._all_dropped_at = self._clock  # bounded memory: refuse all entries being made
        self._dropped_at[asset] = self._clock
        if self.heads is not None:
            self.heads.drop_asset(asset)
        keys = list(self._keys.get(asset, ()))
        for key in keys:
            self._remove(key)
        self._dropped += len(keys)
        return len(keys)

    def drop_prefix(self, prefix: str) -> int:
        """Remove all entries of assets whose text id begins with `prefix`, and refuse all entries
        that are being made; returns the entries removed. Takes time for each asset in the tier.
        """
        self._clock += 1
        self._all_dropped_at = self._clock
        if self.heads is not None:
            self.heads.drop_prefix(prefix)
        assets = [asset for asset in self._keys if asset.startswith(prefix)]
        return sum(self.drop_asset(asset) for asset in assets)

    def clear(self) -> list[E]:
        """Remove all entries, and refuse those being made (when notifications were lost). Returns
        the entries: to free all of them at once takes 40 ms, see `free_in_parts`.
        """
        removed = list(self._entries.values())
        if self.heads is not None:
            removed += self.heads.clear()
        self._clock += 1
        self._all_dropped_at = self._clock
        self._dropped_at.clear()
        self._dropped += len(self._entries)
        self._entries.clear()
        self._keys.clear()
        self._bytes = 0
        return removed

    def stats(self) -> CacheStats:
        """The statistics of the tier, without hits and misses: callers of `get` count those."""
        return CacheStats(
            "memory",
            files=len(self._entries),
            bytes=self._bytes,
            quota=self._budget,
            puts=self._puts,
            evicted=self._evicted,
            dropped=self._dropped,
            refused=self._refused,
        )

    def __len__(self) -> int:
        """The number of entries."""
        return len(self._entries)

    def _evict(self, key: Hashable) -> None:
        entry = self._entries[key]
        self._remove(key)
        self._evicted += 1
        self._keep_head(key, entry)

    def _keep_head(self, key: Hashable, entry: E) -> None:
        if self._heads_of is None or self.heads is None:
            return
        head = self._heads_of.shorten(entry)
        if head is not None:
            self.heads.put(key, head, self.heads.token())

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        self._bytes -= entry.size + ENTRY_OVERHEAD
        keys = self._keys[entry.asset]
        keys.discard(key)
        if not keys:
            del self._keys[entry.asset]


def free_in_parts(entries: list[E]) -> None:
    """Free removed entries, a few in each round of the event loop. Nothing else may hold them."""
    del entries[-_FREED_AT_ONCE:]
    if entries:
        asyncio.get_running_loop().call_soon(free_in_parts, entries)


def _getter(entries: OrderedDict[Hashable, E]) -> Callable[[Hashable], E | None]:
    lookup, touch = entries.get, entries.move_to_end

    def get(key: Hashable) -> E | None:
        """The entry, which becomes the most recently used; None if there is none."""
        entry = lookup(key)
        if entry is not None:
            touch(key)
        return entry

    return get
