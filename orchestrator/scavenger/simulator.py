"""Hit ratios of a trace by policy and quota, in one pass over the trace, whole or sampled by key.

Sampling (SHARDS, FAST 2015): a fraction of the keys, chosen by hash, in caches of that fraction of
the quota, has nearly the hit ratio of all keys in the whole quota. A sample with too few or too
many requests is corrected as if the difference had been hits (SHARDS-adj).
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from orchestrator.scavenger.simulated_cache import SimulatedCache
from orchestrator.scavenger.traces import Request

BELADY = "belady"
"""The bound: evicts the key that is requested last, or never again. It knows the future, so no
policy does much better. It holds the trace in memory, 24 bytes a request.
"""
POLICIES = ("lru", "s3-fifo", BELADY)
"""The policies of `cache.eviction`, and the bound."""
_HASH_SPACE = 1 << 24
_COUNTED_ONE_IN = 64
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Outcome:
    """The ratios of requests and of bytes that a cache of this policy and quota (bytes) hits."""

    policy: str
    quota: int
    hit_ratio: float
    byte_hit_ratio: float


@dataclass(slots=True)
class _Run:
    policy: str
    quota: int
    cache: SimulatedCache
    hits: int = 0
    hit_bytes: int = 0


class Simulation:
    """Feed it a trace, then read the outcomes."""

    def __init__(self, policies: Sequence[str], quotas: Sequence[int], sample: float = 1.0) -> None:
        """`sample` is the part of the keys that is simulated: more than 0, at most 1."""
        self.requests = self.bytes = 0
        self._below = max(1, round(sample * _HASH_SPACE))
        self._sampled = self._sampled_bytes = 0
        self._counted: dict[int, int] = {}
        """Sizes of one in `_COUNTED_ONE_IN` keys, to estimate the number of keys."""
        self._quotas = list(quotas)
        self._runs = [
            _Run(policy, quota, SimulatedCache(policy, self._scaled(quota)))
            for policy in policies
            if policy != BELADY
            for quota in quotas
        ]
        self._trace = (array("Q"), array("Q")) if BELADY in policies else None

    def feed(self, trace: Iterable[Request]) -> None:
        """Simulate a trace, or the next part of one."""
        for at, key, size in trace:
            self.requests += 1
            self.bytes += size
            if key % _HASH_SPACE < self._below:
                self._request(at, key, size)

    @property
    def working_set(self) -> tuple[int, int]:
        """The approximate number of different keys, and their bytes in all."""
        factor = _COUNTED_ONE_IN * _HASH_SPACE / self._below
        return round(len(self._counted) * factor), round(sum(self._counted.values()) * factor)

    def outcomes(self) -> Iterator[Outcome]:
        """By policy, then quota."""
        for run in self._runs:
            yield self._outcome(run.policy, run.quota, run.hits, run.hit_bytes)
        if self._trace is not None:
            next_uses = _next_uses(self._trace[0])
            for quota in self._quotas:
                hits, hit_bytes = _belady(*self._trace, next_uses, self._scaled(quota))
                yield self._outcome(BELADY, quota, hits, hit_bytes)

    def _request(self, at: float, key: int, size: int) -> None:
        self._sampled += 1
        self._sampled_bytes += size
        if (key >> 24) % _COUNTED_ONE_IN == 0:
            self._counted[key] = size
        if self._trace is not None:
            self._trace[0].append(key)
            self._trace[1].append(size)
        for run in self._runs:
            if run.cache.request(at, key, size):
                run.hits += 1
                run.hit_bytes += size

    def _scaled(self, quota: int) -> int:
        return max(1, quota * self._below // _HASH_SPACE)

    def _outcome(self, policy: str, quota: int, hits: int, hit_bytes: int) -> Outcome:
        part = self._below / _HASH_SPACE
        return Outcome(
            policy,
            quota,
            _adjusted(hits, self._sampled, self.requests * part),
            _adjusted(hit_bytes, self._sampled_bytes, self.bytes * part),
        )


def _adjusted(hits: int, sampled: int, expected: float) -> float:
    if not expected:
        return 0.0
    return min(1.0, max(0.0, (hits + expected - sampled) / expected))


def _next_uses(keys: array[int]) -> array[int]:
    """For each request, the index of the next request for its key."""
    next_uses = array("Q", bytes(8 * len(keys)))
    next_of_key: dict[int, int] = {}
    for place in range(len(keys) - 1, -1, -1):
        next_uses[place] = next_of_key.get(keys[place], _NEVER)
        next_of_key[keys[place]] = place
    return next_uses


def _belady(
    keys: array[int], sizes: array[int], next_uses: array[int], quota: int
) -> tuple[int, int]:
    """(hits, bytes hit) when the key requested latest is evicted first, the new one included."""
    cached: dict[int, tuple[int, int]] = {}  # key -> (next use, size)
    latest: list[tuple[int, int]] = []  # (-next use, key); outdated pairs are skipped
    room, hits, hit_bytes = quota, 0, 0
    for key, size, next_use in zip(keys, sizes, next_uses, strict=True):
        entry = cached.pop(key, None)
        if entry is not None:
            hits += 1
            hit_bytes += size
            room += entry[1]
        if next_use == _NEVER or size > quota:
            continue
        cached[key] = next_use, size
        heapq.heappush(latest, (-next_use, key))
        room -= size
        while room < 0:
            use, victim = heapq.heappop(latest)
            if victim in cached and cached[victim][0] == -use:
                room += cached.pop(victim)[1]
    return hits, hit_bytes
