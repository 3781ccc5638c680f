"""The housekeeping of the disk caches: evicts ahead of the writers and sweeps after the dead.

A pass costs nothing that grows with the number of files, and a line in the log when it did
something; where nothing changed since the last one it is a look at the times of some files. Serving
goes on, and quotas hold, without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orchestrator.cache.disk.cache import DiskCache
from orchestrator.cache.disk.eviction import first_of
from orchestrator.cache.disk.index import Totals
from orchestrator.cache.single_flight import SingleFlight
from orchestrator.errors import NoRoom
from orchestrator.scavenger.eviction_amount import Fill, bound, surplus

log = logging.getLogger(__name__)

_AT_ONCE = 200
_FLIGHTS_EVERY_S = 30.0
_QUIET_PASSES = 5
"""So many passes are passed over while nothing changes: who died meanwhile is found out by then."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over one cache did, or with `dry_run` would do; bytes are allocated blocks."""

    cache: str
    used: int
    reserved: int
    quota: int
    files: int = 0
    bytes: int = 0
    kept: int = 0
    """Files in the cache before the pass."""
    dead: int = 0
    """Ended processes whose reservations were freed."""
    temporaries: int = 0
    """Temporary files of ended processes."""

    @property
    def did_something(self) -> bool:
        """True if there was anything to do."""
        return bool(self.files or self.dead or self.temporaries)


class Scavenger:
    """Runs in the housekeeping process; several at once do no harm."""

    def __init__(
        self,
        caches: Sequence[DiskCache],
        flights: Sequence[SingleFlight] = (),
        *,
        low_water: float,
        every_s: float = 2.0,
        report: Callable[[Pass], None] = lambda _: None,
    ) -> None:
        """`report` is told of every pass; `low_water` is the part of a quota left in use."""
        self._caches = caches
        self._flights = flights
        self._low_water = low_water
        self._every_s = every_s
        self._report = report
        self._flights_due = 0.0
        self._seen: dict[str, tuple[object, ...]] = {}
        self._passed_over: dict[str, int] = {}

    async def run(self) -> None:
        """Pass after pass until cancelled."""
        while True:
            changed = await asyncio.to_thread(self._changed)
            await self._over(changed, dry_run=False)
            await asyncio.sleep(self._every_s)

    async def once(self, *, dry_run: bool = False) -> list[Pass]:
        """One pass over all caches; with `dry_run` nothing is removed."""
        return await self._over(self._caches, dry_run=dry_run)

    def _changed(self) -> list[DiskCache]:
        """The caches that changed since the last pass, or were passed over long enough. Blocking:
        one short visit of a thread for all of them.
        """
        changed = []
        for cache in self._caches:
            passed_over = self._passed_over.get(cache.name, 0)
            if passed_over < _QUIET_PASSES and cache.state() == self._seen.get(cache.name):
                self._passed_over[cache.name] = passed_over + 1
            else:
                self._passed_over[cache.name] = 0
                changed.append(cache)
        return changed

    async def _over(self, caches: Sequence[DiskCache], *, dry_run: bool) -> list[Pass]:
        passes = []
        for cache in caches:
            try:
                passes.append(await self._pass(cache, dry_run=dry_run))
                if not dry_run:
                    self._seen[cache.name] = await asyncio.to_thread(cache.state)
            except NoRoom as error:
                self._seen.pop(cache.name, None)
                log.warning(
                    "cache not scavenged",
                    extra={"cache": cache.name, "error": repr(error.__cause__)},
                )
        clock = asyncio.get_running_loop().time()
        if not dry_run and clock >= self._flights_due:
            self._flights_due = clock + _FLIGHTS_EVERY_S
            for flight in self._flights:
                await asyncio.to_thread(flight.sweep)
        return passes

    async def _pass(self, cache: DiskCache, *, dry_run: bool) -> Pass:
        swept = None if dry_run else await cache.sweep()
        totals = await cache.totals()
        if totals.walking and not dry_run:
            await cache.look_after()
        fill = await _fill(cache, totals)
        files, freed = await (_would_evict if dry_run else _evict)(cache, fill, self._low_water)
        done = Pass(
            cache.name,
            fill.used,
            fill.reserved,
            fill.quota,
            files,
            freed,
            totals.files,
            swept.holders if swept else 0,
            swept.temporaries if swept else 0,
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


async def _fill(cache: DiskCache, totals: Totals) -> Fill:
    free = await cache.free_bytes()
    return Fill(
        totals.bytes,
        totals.reserved,
        cache.options.quota,
        free,
        cache.options.floor,
        totals.pinned,
    )


async def _evict(cache: DiskCache, fill: Fill, low_water: float) -> tuple[int, int]:
    """In batches, each a short transaction, so that writers are not kept waiting."""
    files = freed = 0
    while over := await cache.over_shares():
        gone, size = await cache.evict(over, "share")
        files, freed = files + gone, freed + size
        if not gone:
            break
    wanted, reason = surplus(fill, low_water), bound(fill, low_water)
    while freed < wanted:
        chosen = await cache.victims(wanted - freed)
        gone, size = await cache.evict(chosen, reason)
        files, freed = files + gone, freed + size
        if not gone:
            break
    return files, freed


async def _would_evict(cache: DiskCache, fill: Fill, low_water: float) -> tuple[int, int]:
    chosen = {candidate.id: candidate for candidate in await cache.over_shares()}
    wanted = surplus(fill, low_water) - sum(each.bytes for each in chosen.values())
    if wanted > 0:
        others = [c for c in await cache.candidates(10_000_000) if c.id not in chosen]
        chosen |= {candidate.id: candidate for candidate in first_of(others, wanted)}
    return len(chosen), sum(candidate.bytes for candidate in chosen.values())
