"""The scavenger evicts files ahead of the writers, and cleans up after dead processes.

The cost of a pass does not grow with the number of files. If nothing changed since the last pass,
it only reads the times of some files. Serving continues and quotas hold without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.disk.eviction import first_that_free
from orchestrator.cache.disk.index import Totals
from orchestrator.cache.disk.maintenance import Maintenance
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import NoRoom
from orchestrator.exception_text import describe_error
from orchestrator.fault_log import FaultLog
from orchestrator.scavenger.eviction_amount import Fill, binding_limit, bytes_to_evict

log = logging.getLogger(__name__)

_SWEEP_FLIGHTS_EVERY_S = 30.0
_PASSES_SKIPPED = 5
"""Passes skipped while a cache does not change. The next pass detects dead processes."""
_ALL = 10_000_000


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over one cache did, or would do (`dry_run`); bytes are allocated blocks."""

    cache: str
    used: int
    reserved: int
    quota: int
    files: int = 0
    """Files evicted."""
    bytes: int = 0
    """Bytes evicted."""
    kept: int = 0
    """Files in the cache before the pass."""
    dead: int = 0
    """Dead processes whose reservations were freed."""
    temporaries: int = 0
    """Temporary files of dead processes."""

    @property
    def did_something(self) -> bool:
        """True if the pass removed or freed anything."""
        return bool(self.files or self.dead or self.temporaries)


class Scavenger:
    """Runs in the housekeeping process. Several scavengers at the same time do no harm."""

    def __init__(
        self,
        caches: Sequence[DiskCache],
        flights: Sequence[SingleFlight] = (),
        *,
        low_water: float,
        every_s: float = 2.0,
        report: Callable[[Pass], None] = lambda _: None,
    ) -> None:
        """`low_water` is the part of a quota that stays in use. `report` is called with each
        pass.
        """
        self._caches = caches
        self._flights = flights
        self._low_water = low_water
        self._every_s = every_s
        self._report = report
        self._flights_due = 0.0
        self._states: dict[str, tuple[object, ...]] = {}
        self._skipped: dict[str, int] = {}
        self._faults = FaultLog(log, "cache not scavenged", "cache scavenged again")

    async def run(self) -> None:
        """One pass after another until cancelled."""
        while True:
            changed = await asyncio.to_thread(self._changed_caches)
            await self._scavenge(changed, dry_run=False)
            await asyncio.sleep(self._every_s)

    async def once(self, *, dry_run: bool = False) -> list[Pass]:
        """One pass over all caches; with `dry_run` nothing is removed."""
        return await self._scavenge(self._caches, dry_run=dry_run)

    def _changed_caches(self) -> list[DiskCache]:
        """The caches that changed since the last pass, or were skipped often enough. Blocking: one
        short call in a thread for all of them.
        """
        changed = []
        for cache in self._caches:
            skipped = self._skipped.get(cache.name, 0)
            is_same = cache.maintenance.state() == self._states.get(cache.name)
            if skipped < _PASSES_SKIPPED and is_same:
                self._skipped[cache.name] = skipped + 1
            else:
                self._skipped[cache.name] = 0
                changed.append(cache)
        return changed

    async def _scavenge(self, caches: Sequence[DiskCache], *, dry_run: bool) -> list[Pass]:
        passes = []
        for cache in caches:
            try:
                passes.append(await self._pass(cache, dry_run=dry_run))
                if not dry_run:
                    state = await asyncio.to_thread(cache.maintenance.state)
                    self._states[cache.name] = state
            except NoRoom as error:
                self._states.pop(cache.name, None)
                reason = describe_error(error.__cause__ or error)
                self._faults.report(cache.name, cache=cache.name, error=reason)
            else:
                self._faults.clear(cache.name, cache=cache.name)
        now = asyncio.get_running_loop().time()
        if not dry_run and now >= self._flights_due:
            self._flights_due = now + _SWEEP_FLIGHTS_EVERY_S
            for flight in self._flights:
                await asyncio.to_thread(flight.sweep)
        return passes

    async def _pass(self, cache: DiskCache, *, dry_run: bool) -> Pass:
        maintenance = cache.maintenance
        reclaimed = None if dry_run else await maintenance.sweep()
        totals = await maintenance.totals()
        if totals.walking and not dry_run:
            await maintenance.run_periodic_work()
        fill = await _fill_of(cache, totals)
        evict = _simulate_eviction if dry_run else _evict
        files, freed = await evict(maintenance, fill, self._low_water)
        done = Pass(
            cache=cache.name,
            used=fill.used,
            reserved=fill.reserved,
            quota=fill.quota,
            files=files,
            bytes=freed,
            kept=totals.files,
            dead=reclaimed.holders if reclaimed else 0,
            temporaries=reclaimed.temporaries if reclaimed else 0,
        )
        if done.did_something and not dry_run:
            log.info(
                "cache scavenged",
                extra={
                    "cache": cache.name,
                    "files": files,
                    "bytes": freed,
                    "dead": done.dead,
                    "temporaries": done.temporaries,
                },
            )
        self._report(done)
        return done


async def _fill_of(cache: DiskCache, totals: Totals) -> Fill:
    return Fill(
        used=totals.bytes,
        reserved=totals.reserved,
        quota=cache.options.quota,
        free=await cache.maintenance.free_bytes(),
        floor=cache.options.floor,
        pinned=totals.pinned,
    )


async def _evict(maintenance: Maintenance, fill: Fill, low_water: float) -> tuple[int, int]:
    """(files, bytes) evicted. In batches, each a short transaction, so that writers do not wait."""
    files = freed = 0
    while victims := await maintenance.over_shares():
        removed, size = await maintenance.evict(victims, "share")
        files, freed = files + removed, freed + size
        if not removed:
            break
    to_free, reason = bytes_to_evict(fill, low_water), binding_limit(fill, low_water)
    while freed < to_free:
        victims = await maintenance.victims(to_free - freed)
        removed, size = await maintenance.evict(victims, reason)
        files, freed = files + removed, freed + size
        if not removed:
            break
    return files, freed


async def _simulate_eviction(
    maintenance: Maintenance, fill: Fill, low_water: float
) -> tuple[int, int]:
    """About the (files, bytes) that `_evict` would evict; nothing is removed."""
    victims = {candidate.id: candidate for candidate in await maintenance.over_shares()}
    to_free = bytes_to_evict(fill, low_water) - sum(each.bytes for each in victims.values())
    if to_free > 0:
        others = [c for c in await maintenance.candidates(_ALL) if c.id not in victims]
        victims |= {candidate.id: candidate for candidate in first_that_free(others, to_free)}
    return len(victims), sum(candidate.bytes for candidate in victims.values())
