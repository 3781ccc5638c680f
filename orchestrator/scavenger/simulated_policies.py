"""Eviction policies as simulators: each is asked for keys and says which it had. Pure, no disk.

Quotas are bytes, never counts. `S3Fifo` is what `cache.eviction = "s3-fifo"` runs on disk
(cache/disk/eviction_policies.py), step for step; the others are there to be compared with.
Reading: SIEVE (NSDI 2024), S3-FIFO (SOSP 2023), W-TinyLFU (ACM ToS 2017).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from orchestrator.cache.disk.eviction_policies import ENOUGH_USES, MOST_USES, SMALL_PART

SETTLE_S = 30.0
"""Uses this soon after an entry joined a queue are of the same visit and do not count."""
USE_PAUSE_S = 2.0
"""Uses of an entry closer together than this count once, as they are recorded in batches."""


class Simulated(Protocol):
    """A cache of a fixed quota, without the bytes."""

    def ask(self, at: float, key: int, size: int) -> bool:
        """Ask for a key of `size` bytes at a time (seconds); True if it was there. It is then."""
        ...


class Lru:
    """Least recently used out first."""

    def __init__(self, quota: int) -> None:
        self._room = quota
        self._quota = quota
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def ask(self, at: float, key: int, size: int) -> bool:
        """See Simulated."""
        if key in self._sizes:
            self._sizes.move_to_end(key)
            return True
        if size <= self._quota:
            self._sizes[key] = size
            self._room -= size
            while self._room < 0:
                self._room += self._sizes.popitem(last=False)[1]
        return False


class _Node:
    __slots__ = ("key", "newer", "older", "size", "visited")

    def __init__(self, key: int, size: int) -> None:
        self.key, self.size, self.visited = key, size, False
        self.newer: _Node | None = None
        self.older: _Node | None = None


class Sieve:
    """One queue that nothing moves in; a hand goes from old to new and takes what was not used
    since it last came by.
    """

    def __init__(self, quota: int) -> None:
        self._room = quota
        self._quota = quota
        self._nodes: dict[int, _Node] = {}
        self._newest: _Node | None = None
        self._oldest: _Node | None = None
        self._hand: _Node | None = None

    def ask(self, at: float, key: int, size: int) -> bool:
        """See Simulated."""
        node = self._nodes.get(key)
        if node is not None:
            node.visited = True
            return True
        if size <= self._quota:
            while self._room < size:
                self._evict()
            self._insert(_Node(key, size))
        return False

    def _insert(self, node: _Node) -> None:
        node.older = self._newest
        if self._newest is not None:
            self._newest.newer = node
        self._newest = node
        self._oldest = self._oldest or node
        self._nodes[node.key] = node
        self._room -= node.size

    def _evict(self) -> None:
        node = self._hand or self._oldest
        while node is not None and node.visited:
            node.visited = False
            node = node.newer or self._oldest
        if node is None:
            return
        self._hand = node.newer
        if node.older is not None:
            node.older.newer = node.newer
        else:
            self._oldest = node.newer
        if node.newer is not None:
            node.newer.older = node.older
        else:
            self._newest = node.older
        del self._nodes[node.key]
        self._room += node.size


class _Entry:
    __slots__ = ("counted", "joined", "size", "uses")

    def __init__(self, size: int, at: float) -> None:
        self.size, self.uses, self.joined, self.counted = size, 0, at, at


class S3Fifo:
    """A small queue for the new, a main queue for what was used again, and the names of what left
    the small one: who comes back goes into the main queue at once.
    """

    def __init__(self, quota: int, *, settle_s: float = SETTLE_S) -> None:
        self._quota = quota
        self._settle_s = settle_s
        self._small_quota = int(quota * SMALL_PART)
        self._ghost_quota = quota - self._small_quota
        self._small: OrderedDict[int, _Entry] = OrderedDict()
        self._main: OrderedDict[int, _Entry] = OrderedDict()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0

    def ask(self, at: float, key: int, size: int) -> bool:
        """See Simulated."""
        entry = self._main.get(key) or self._small.get(key)
        if entry is not None:
            self._use(entry, at)
            return True
        if size <= self._quota:
            while self._small_bytes + self._main_bytes + size > self._quota:
                self._evict(at)
            self._insert(key, _Entry(size, at))
        return False

    def _use(self, entry: _Entry, at: float) -> None:
        counts = at - entry.joined >= self._settle_s and at - entry.counted >= USE_PAUSE_S
        if counts and entry.uses < MOST_USES:
            entry.uses += 1
            entry.counted = at

    def _insert(self, key: int, entry: _Entry) -> None:
        known = self._ghosts.pop(key, 0)
        if known:
            self._ghost_bytes -= known
            self._main[key] = entry
            self._main_bytes += entry.size
        else:
            self._small[key] = entry
            self._small_bytes += entry.size

    def _evict(self, at: float) -> None:
        if self._small and (self._small_bytes > self._small_quota or not self._main):
            self._evict_small(at)
        else:
            self._evict_main(at)

    def _evict_small(self, at: float) -> None:
        key, entry = self._small.popitem(last=False)
        self._small_bytes -= entry.size
        if entry.uses >= ENOUGH_USES:
            entry.uses, entry.joined = 0, at
            self._main[key] = entry
            self._main_bytes += entry.size
            return
        self._ghosts[key] = entry.size
        self._ghost_bytes += entry.size
        while self._ghost_bytes > self._ghost_quota:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]

    def _evict_main(self, at: float) -> None:
        key, entry = self._main.popitem(last=False)
        if entry.uses:
            entry.uses, entry.joined = entry.uses - 1, at
            self._main[key] = entry
        else:
            self._main_bytes -= entry.size


class _Sketch:
    """How often keys were asked for lately: count-min of four rows, halved when it has seen ten
    times what it is made for.
    """

    def __init__(self, entries: int) -> None:
        self._mask = (1 << max(10, (entries - 1).bit_length())) - 1
        self._rows = [bytearray(self._mask + 1) for _ in range(4)]
        self._seen = 0
        self._most = 10 * (self._mask + 1)

    def add(self, key: int) -> None:
        for row, place in zip(self._rows, self._places(key), strict=True):
            if row[place] < 15:
                row[place] += 1
        self._seen += 1
        if self._seen >= self._most:
            self._seen //= 2
            halves = bytes(n >> 1 for n in range(256))
            self._rows = [row.translate(halves) for row in self._rows]

    def count(self, key: int) -> int:
        return min(row[p] for row, p in zip(self._rows, self._places(key), strict=True))

    def _places(self, key: int) -> tuple[int, int, int, int]:
        mask = self._mask
        mixed = key * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
        return mixed & mask, mixed >> 13 & mask, mixed >> 26 & mask, mixed >> 39 & mask


class WTinyLfu:
    """A window of the newest, then a segmented LRU that only takes what was asked for more often
    than what must leave for it.
    """

    def __init__(self, quota: int, *, mean_bytes: int = 16_384) -> None:
        self._quota = quota
        self._window_quota = max(quota // 100, 1)
        self._main_quota = quota - self._window_quota
        self._protected_quota = int(self._main_quota * 0.8)
        self._sketch = _Sketch(max(quota // mean_bytes, 1024))
        self._window, self._probation, self._protected = (_Segment() for _ in range(3))

    def ask(self, at: float, key: int, size: int) -> bool:
        """See Simulated."""
        self._sketch.add(key)
        if key in self._protected.sizes:
            self._protected.sizes.move_to_end(key)
            return True
        if key in self._probation.sizes:
            self._protect(key)
            return True
        if key in self._window.sizes:
            self._window.sizes.move_to_end(key)
            return True
        if size <= self._main_quota:
            self._window.put(key, size)
            while self._window.bytes > self._window_quota:
                self._admit(*self._window.pop())
        return False

    def _protect(self, key: int) -> None:
        self._protected.put(key, self._probation.take(key))
        while self._protected.bytes > self._protected_quota:
            self._probation.put(*self._protected.pop())

    def _admit(self, key: int, size: int) -> None:
        wanted = self._sketch.count(key)
        while self._probation.bytes + self._protected.bytes + size > self._main_quota:
            segment = self._probation if self._probation.sizes else self._protected
            victim = next(iter(segment.sizes))
            if self._sketch.count(victim) >= wanted:
                return
            segment.take(victim)
        self._probation.put(key, size)


class _Segment:
    def __init__(self) -> None:
        self.sizes: OrderedDict[int, int] = OrderedDict()
        self.bytes = 0

    def put(self, key: int, size: int) -> None:
        self.sizes[key] = size
        self.bytes += size

    def take(self, key: int) -> int:
        size = self.sizes.pop(key)
        self.bytes -= size
        return size

    def pop(self) -> tuple[int, int]:
        key, size = self.sizes.popitem(last=False)
        self.bytes -= size
        return key, size


POLICIES: dict[str, Callable[[int], Simulated]] = {
    "lru": Lru,
    "s3-fifo": S3Fifo,
    "sieve": Sieve,
    "w-tinylfu": WTinyLfu,
}
"""Every policy that decides without knowing the future, by the name it is asked for."""
