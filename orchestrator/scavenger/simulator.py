"""Hit ratios of a trace by policy and quota, in one go over it, whole or sampled by key.

Sampling (SHARDS, FAST 2015): a fraction of the keys, chosen by hash, in caches of that fraction of
the quota, hits nearly as often as all keys in all of it; how far the sample's share of the requests
is off is made up for as if those missing had been hits (SHARDS-adj).
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.scavenger.simulated_policies import POLICIES, Simulated
from orchestrator.scavenger.traces import Request

BELADY = "belady"
"""Evicts what is asked for latest, or never again: knows the future, so nothing can do better by
far. The trace is held in memory for it, 24 bytes a request.
"""
ALL_POLICIES = (*POLICIES, BELADY)
_SPACE = 1 << 24
_SPREAD = 64
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cache of one policy and quota (bytes) would have answered, as parts of 1."""

    policy: str
    quota: int
    hit_ratio: float
    byte_hit_ratio: float


@dataclass(slots=True)
class _Cell:
    policy: str
    quota: int
    cache: Simulated
    hits: int = 0
    hit_bytes: int = 0


class Simulation:
    """Fed with a trace, then asked for the outcomes."""

    def __init__(self, policies: Sequence[str], quotas: Sequence[int], sample: float = 1.0) -> None:
        """`sample`: the part of the keys that is looked at, over 0 and at most 1."""
        self.requests = self.bytes = 0
        self._sample = sample
        self._below = max(1, round(sample * _SPACE))
        self._seen = self._seen_bytes = 0
        self._known: dict[int, int] = {}
        """Sizes of some of the keys, to tell how many there are."""
        self._quotas = list(quotas)
        self._cells = [
            _Cell(policy, quota, POLICIES[policy](self._scaled(quota)))
            for policy in policies
            if policy != BELADY
            for quota in quotas
        ]
        self._kept = (array("Q"), array("Q")) if BELADY in policies else None

    def feed(self, trace: Iterable[Request]) -> None:
        """Go through a trace, or the next part of one."""
        for at, key, size in trace:
            self.requests += 1
            self.bytes += size
            if key % _SPACE < self._below:
                self._ask(at, key, size)

    @property
    def working_set(self) -> tuple[int, int]:
        """About how many different keys there were, and their bytes together."""
        factor = _SPREAD * _SPACE / self._below
        return round(len(self._known) * factor), round(sum(self._known.values()) * factor)

    def outcomes(self) -> Iterator[Outcome]:
        """By policy, then quota."""
        for cell in self._cells:
            yield self._outcome(cell.policy, cell.quota, cell.hits, cell.hit_bytes)
        if self._kept is not None:
            following = _next_uses(self._kept[0])
            for quota in self._quotas:
                hits, hit_bytes = _belady(*self._kept, following, self._scaled(quota))
                yield self._outcome(BELADY, quota, hits, hit_bytes)

    def _ask(self, at: float, key: int, size: int) -> None:
        self._seen += 1
        self._seen_bytes += size
        if (key >> 24) % _SPREAD == 0:
            self._known[key] = size
        if self._kept is not None:
            self._kept[0].append(key)
            self._kept[1].append(size)
        for cell in self._cells:
            if cell.cache.ask(at, key, size):
                cell.hits += 1
                cell.hit_bytes += size

    def _scaled(self, quota: int) -> int:
        return max(1, quota * self._below // _SPACE)

    def _outcome(self, policy: str, quota: int, hits: int, hit_bytes: int) -> Outcome:
        part = self._below / _SPACE
        return Outcome(
            policy,
            quota,
            _adjusted(hits, self._seen, self.requests * part),
            _adjusted(hit_bytes, self._seen_bytes, self.bytes * part),
        )


def _adjusted(hits: int, seen: int, expected: float) -> float:
    if not expected:
        return 0.0
    return min(1.0, max(0.0, (hits + expected - seen) / expected))


def _next_uses(keys: array[int]) -> array[int]:
    """For each request, when its key is asked for next."""
    following = array("Q", bytes(8 * len(keys)))
    next_use: dict[int, int] = {}
    for place in range(len(keys) - 1, -1, -1):
        following[place] = next_use.get(keys[place], _NEVER)
        next_use[keys[place]] = place
    return following


def _belady(
    keys: array[int], sizes: array[int], following: array[int], quota: int
) -> tuple[int, int]:
    """(hits, bytes hit) when what is asked for latest leaves first, the new one included."""
    cached: dict[int, tuple[int, int]] = {}  # key -> (next use, size)
    latest: list[tuple[int, int]] = []  # (-next use, key); outdated ones are passed over
    room, hits, hit_bytes = quota, 0, 0
    for key, size, after in zip(keys, sizes, following, strict=True):
        known = cached.pop(key, None)
        if known is not None:
            hits += 1
            hit_bytes += size
            room += known[1]
        if after == _NEVER or size > quota:
            continue
        cached[key] = after, size
        heapq.heappush(latest, (-after, key))
        room -= size
        while room < 0:
            use, victim = heapq.heappop(latest)
            if victim in cached and cached[victim][0] == -use:
                room += cached.pop(victim)[1]
    return hits, hit_bytes
