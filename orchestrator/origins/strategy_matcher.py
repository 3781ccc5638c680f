"""Chooses the origin strategy that reads an origin.

A customer's strategies are tried by place; the first whose regex matches anywhere in the origin
reads it. A regex that does not compile is a fault (`origin_config`). The matcher does not skip such
a strategy, because the origin could then be read with the credentials of another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import LRUCache, TTLCache

from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import CatalogUnavailable, InvalidInput, OriginUnavailable
from orchestrator.origins.strategy_regex import Pattern, compile_regex, is_found

_MAX_CUSTOMERS = 1000


@dataclass(frozen=True, slots=True)
class _Candidate:
    strategy: OriginStrategy
    pattern: Pattern | None
    """None: the stored regex does not compile."""


class StrategyMatcher:
    """Matches origins to strategies, with a short-lived copy of each customer's strategies."""

    def __init__(
        self,
        repository: OriginStrategies,
        *,
        ttl_s: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ttl_s`: the longest delay in seconds until a change by another process takes effect."""
        self._repository = repository
        self._fresh: TTLCache[int, tuple[_Candidate, ...]] = TTLCache(_MAX_CUSTOMERS, ttl_s, now)
        self._last_loaded: LRUCache[int, tuple[_Candidate, ...]] = LRUCache(_MAX_CUSTOMERS)
        self._changes = 0

    async def match(
        self, customer: int, origin: str, *, fresh: bool = False
    ) -> OriginStrategy | None:
        """Return the strategy that reads `origin`; None means the default for its scheme. With
        `fresh`, the strategies are read from the catalogue: a verdict that is permanent must not
        come from a copy.

        Raises OriginUnavailable (origin_config) when a regex that is tried before the first match
        does not compile.
        """
        candidates = None if fresh else self._fresh.get(customer)
        if candidates is None:
            candidates = await self._load(customer, fresh=fresh)
        if not candidates:
            return None
        return await asyncio.to_thread(_first_match, candidates, origin)

    def forget(self, customer: int) -> None:
        """Load the customer's strategies again at the next match."""
        self._changes += 1
        self._fresh.pop(customer, None)
        self._last_loaded.pop(customer, None)

    def forget_all(self) -> None:
        """Load the strategies of every customer again at the next match."""
        self._changes += 1
        self._fresh.clear()

    async def _load(self, customer: int, *, fresh: bool) -> tuple[_Candidate, ...]:
        changes = self._changes
        try:
            strategies = await self._repository.list(customer)
        except CatalogUnavailable:
            stale = self._last_loaded.get(customer)
            if stale is None or fresh:
                raise
            return stale  # optimised origins are still delivered while the database is away
        last = self._last_loaded.get(customer, ())
        if strategies == [each.strategy for each in last]:
            candidates = last
        else:
            candidates = await asyncio.to_thread(_compile_all, strategies)
        if changes == self._changes:  # else this list may be older than a change made since
            self._fresh[customer] = self._last_loaded[customer] = candidates
        return candidates


def _compile_all(strategies: list[OriginStrategy]) -> tuple[_Candidate, ...]:
    candidates = []
    for strategy in strategies:
        try:
            pattern = compile_regex(strategy.regex)
        except InvalidInput:
            candidates.append(_Candidate(strategy, None))
        else:
            candidates.append(_Candidate(strategy, pattern))
    return tuple(candidates)


def _first_match(candidates: tuple[_Candidate, ...], origin: str) -> OriginStrategy | None:
    """Return the first strategy that matches (blocking)."""
    for candidate in candidates:
        if candidate.pattern is None:
            raise _regex_fault(candidate.strategy)
        if is_found(candidate.pattern, origin):
            return candidate.strategy
    return None


def _regex_fault(strategy: OriginStrategy) -> OriginUnavailable:
    return OriginUnavailable(
        f"The regex of the origin strategy {strategy.id} is not valid. Change it: its syntax is "
        "that of RE2, without look-around and back-references (docs/origins.md).",
        retryable=False,
        code="origin_config",
    )
