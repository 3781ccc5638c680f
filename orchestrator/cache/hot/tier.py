"""The hot tier: complete responses of one process in memory, least recently used out first, within
a byte budget.

Lives on the event loop's thread and is not thread-safe. An answer made from a snapshot older than
its asset's last drop never enters: `put` wants the token that was taken before the snapshot was
read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.cache.hot.memory_files import MemoryFiles, affordable

ENTRY_OVERHEAD = 800
"""Bytes charged per entry besides its size: key, index entries, object headers (measured, 64-bit
CPython 3.11).
"""
_DROPS_REMEMBERED = 20_000


class Entry(Protocol):
    """What the tier needs to know of what it holds."""

    @property
    def asset(self) -> str:
        """The asset's text id, by which notifications drop it."""

    @property
    def size(self) -> int:
        """Bytes of memory its content takes."""


E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class HotStats:
    """Counts since the start and the present fill."""

    entries: int
    bytes: int
    budget: int
    puts: int
    evicted: int
    dropped: int
    refused: int


class HotTier(Generic[E]):
    """A byte-budgeted LRU with a per-asset index.

    `get` is an attribute, a closure over the ordered dict: 70-100 ns where a method costs 110-135
    and cachetools 200 and more (`loadtests/micro/bench_cache.py`), and it is on the way of every
    hot tile.
    """

    def __init__(self, budget: int, max_entry: int) -> None:
        """`budget` bytes in all, overheads included (0 turns the tier off); entries over
        `max_entry` are refused.
        """
        self._budget = budget
        self._max_entry = max_entry
        self._entries: OrderedDict[Hashable, E] = OrderedDict()
        self._keys: dict[str, set[Hashable]] = {}
        self._bytes = 0
        self._clock = 0
        self._dropped_at: dict[str, int] = {}
        self._all_dropped_at = 0
        self._puts = self._evicted = self._dropped = self._refused = 0
        self.files = MemoryFiles(affordable())
        """Where entries may keep their bulk."""
        self.get: Callable[[Hashable], E | None] = _getter(self._entries)

    def token(self) -> int:
        """The present generation; take it before reading the asset's snapshot, hand it to `put`."""
        return self._clock

    def takes(self, size: int) -> bool:
        """Whether an entry of this size could be kept: asked before one is made."""
        fits = size <= self._max_entry and size + ENTRY_OVERHEAD <= self._budget
        self._refused += not fits
        return fits

    def put(self, key: Hashable, entry: E, token: int) -> bool:
        """Keep `entry` unless it is too large or its asset was dropped after `token`."""
        if not self.takes(entry.size):
            return False
        if token < self._all_dropped_at or token < self._dropped_at.get(entry.asset, 0):
            self._refused += 1
            return False
        cost = entry.size + ENTRY_OVERHEAD
        if key in self._entries:
            self._remove(key)
        self._entries[key] = entry
        self._keys.setdefault(entry.asset, set()).add(key)
        self._bytes += cost
        self._puts += 1
        while self._bytes > self._budget:
            self._remove(next(iter(self._entries)))
            self._evicted += 1
        return True

    def drop_asset(self, asset: str) -> int:
        """Forget everything of `asset`, and whatever is being made from its earlier snapshots;
        returns entries gone.
        """
        self._clock += 1
        if len(self._dropped_at) >= _DROPS_REMEMBERED:
            self._dropped_at.clear()
            self._all_dropped_at = self._clock  # bounded memory: all that is under way is refused
        self._dropped_at[asset] = self._clock
        keys = list(self._keys.get(asset, ()))
        for key in keys:
            self._remove(key)
        self._dropped += len(keys)
        return len(keys)

    def drop_prefix(self, prefix: str) -> int:
        """Forget everything of the assets whose text id begins with `prefix`, and whatever is being
        made; returns entries gone. Walks all assets there are entries of.
        """
        self._clock += 1
        self._all_dropped_at = self._clock
        assets = [asset for asset in self._keys if asset.startswith(prefix)]
        return sum(self.drop_asset(asset) for asset in assets)

    def clear(self) -> None:
        """Forget everything, and whatever is under way (the notifications were lost)."""
        self._clock += 1
        self._all_dropped_at = self._clock
        self._dropped_at.clear()
        self._dropped += len(self._entries)
        self._entries.clear()
        self._keys.clear()
        self._bytes = 0

    def stats(self) -> HotStats:
        """Counts and fill; hits and misses are counted by whoever calls `get`."""
        return HotStats(
            len(self._entries),
            self._bytes,
            self._budget,
            self._puts,
            self._evicted,
            self._dropped,
            self._refused,
        )

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self._entries)

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key)
        self._bytes -= entry.size + ENTRY_OVERHEAD
        keys = self._keys[entry.asset]
        keys.discard(key)
        if not keys:
            del self._keys[entry.asset]


def _getter(entries: OrderedDict[Hashable, E]) -> Callable[[Hashable], E | None]:
    lookup, touch = entries.get, entries.move_to_end

    def get(key: Hashable) -> E | None:
        """The entry, now the most recently used; None when there is none."""
        entry = lookup(key)
        if entry is not None:
            touch(key)
        return entry

    return get
