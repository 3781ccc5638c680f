"""The work that the index thread does every few seconds, as long as there is any: record uses,
renew the leases of files that are being read, delete the rows of missing files, give room back, and
continue a rebuild.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from orchestrator import metrics
from orchestrator.cache.disk.entries import Entries
from orchestrator.cache.disk.pins import Pins
from orchestrator.cache.disk.publisher import Publisher, WriteFailures
from orchestrator.cache.disk.rebuild import Rebuild
from orchestrator.cache.statistics import CacheStats
from orchestrator.errors import NoRoom

log = logging.getLogger(__name__)
_SET_BACK_S = 1.0
"""A smaller step of the clock makes no difference."""
MISSES_KEPT = 1000
"""Misses that are checked each time; without an index more would accumulate."""


@dataclass(slots=True)
class Activity:
    """What requests did with a cache since the index thread last recorded it. The event loop adds,
    the index thread takes; `reads` belongs to the event loop.
    """

    uses: dict[str, float] = field(default_factory=dict)
    """Path in the cache -> time of its last use."""
    missed: set[str] = field(default_factory=set)
    """Paths that were requested and have no file; at most MISSES_KEPT."""
    pinned: set[str] = field(default_factory=set)
    """Ids of assets whose pinned products were used."""
    reads: dict[str, int] = field(default_factory=dict)
    """Path in the cache -> how many requests read it now; leased for that time."""

    def is_empty(self) -> bool:
        """True if there is nothing to record and no lease to renew."""
        return not (self.uses or self.missed or self.pinned or self.reads)

    def take_uses(self) -> dict[str, float]:
        """The uses; they are forgotten here."""
        uses, self.uses = self.uses, {}
        return uses

    def take_missed(self) -> set[str]:
        """The missed paths; they are forgotten here."""
        missed, self.missed = self.missed, set()
        return missed

    def take_pinned(self) -> set[str]:
        """The pinned assets; they are forgotten here."""
        pinned, self.pinned = self.pinned, set()
        return pinned


class PeriodicWork:
    """The periodic work of one cache. One thread only."""

    def __init__(  # noqa: PLR0913  composes the parts of a cache
        self,
        *,
        entries: Entries,
        pins: Pins,
        publisher: Publisher,
        rebuild: Rebuild,
        activity: Activity,
        failures: WriteFailures,
        stats: CacheStats,
        every_s: float,
        lease_s: float,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.every_s = every_s
        self._entries = entries
        self._pins = pins
        self._publisher = publisher
        self._ledger = publisher.ledger
        self._rebuild = rebuild
        self._activity = activity
        self._failures = failures
        self._stats = stats
        self._lease_s = lease_s
        self._leases: dict[str, float] = {}
        self._steady = steady
        self._offset = float("-inf")
        self._reported = replace(stats)
        self._puts_before = 0
        self._requested = True
        self._steps: Iterator[None] | None = None

    @property
    def has_work(self) -> bool:
        """True if `run` or `step` has something to do."""
        waiting = self._requested or not self._activity.is_empty() or self._ledger.free > 0
        return waiting or self._steps is not None

    @property
    def is_rebuilding(self) -> bool:
        """True while this process rebuilds the index."""
        return self._steps is not None

    def request(self) -> None:
        """Make the next `run` due, even if no request used the cache."""
        self._requested = True

    def run(self) -> None:
        """Do all periodic work now. An index that cannot be used is tried again with the next
        run.
        """
        self._requested = False
        self._report_lookups()
        try:
            self._cap_times()
            self.record_uses()
            self._delete_missing()
            self._renew_leases()
            if self._stats.puts == self._puts_before:
                self._ledger.release_free()
            self._puts_before = self._stats.puts
            self._begin_rebuild()
        except (NoRoom, OSError) as error:
            self._failures.report("index", error)

    def record_uses(self) -> None:
        """Record what requests used since the last call. Raises NoRoom."""
        if uses := self._activity.take_uses():
            self._entries.record_uses(uses)
        if pinned := self._activity.take_pinned():
            self._pins.pin(pinned)

    def step(self) -> None:
        """Continue a rebuild by a few folders."""
        if self._steps is None:
            return
        try:
            next(self._steps)
        except StopIteration:
            self._steps = None
            log.info("cache index rebuilt", extra={"cache": self._stats.name})
        except (NoRoom, OSError) as error:
            self._steps = None
            self._failures.report("rebuild", error)

    def finish_rebuild(self) -> None:
        """Continue a rebuild of this process to its end."""
        while self._steps is not None:
            self.step()

    def _cap_times(self) -> None:
        """If the clock was set back, correct the times in the index that are in the future now."""
        now = self._ledger.evictor.now()
        offset = now - self._steady()
        if offset < self._offset - _SET_BACK_S:
            self._entries.cap_times(now, self._lease_s)
        self._offset = offset

    def _begin_rebuild(self) -> None:
        """Begin a rebuild that is due; check again later if one will be due."""
        if self._steps is not None:
            return
        due_in_s = self._rebuild.due_in_s(2 * self.every_s)
        if due_in_s is None:
            return
        self._requested = True
        if due_in_s <= 0 and (steps := self._rebuild.begin()) is not None:
            log.info("cache index rebuilding", extra={"cache": self._stats.name})
            self._steps = steps

    def _delete_missing(self) -> None:
        missed = self._activity.take_missed()
        deleted, self._publisher.deleted_externally = self._publisher.deleted_externally, 0
        if missed:
            deleted += self._entries.delete_missing(missed)
        if deleted:
            extra = {"cache": self._stats.name, "files": deleted}
            log.warning("cached files deleted externally", extra=extra)

    def _renew_leases(self) -> None:
        """Renew the leases of files that are being read, well before they end."""
        now, paths = self._ledger.evictor.now(), list(self._activity.reads)
        soon = now + max(self._lease_s / 2, 2 * self.every_s)
        until = now + self._lease_s
        due = {path: until for path in paths if not soon <= self._leases.get(path, 0.0) <= until}
        if due:
            self._entries.lease(due)
        self._leases = {path: due.get(path, self._leases.get(path, 0.0)) for path in paths}

    def _report_lookups(self) -> None:
        """Add to the metrics what was counted since the last call: there are too many look-ups to
        update a metric with each of them.
        """
        now, before = replace(self._stats), self._reported
        self._reported = now
        lookups = metrics.CACHE_LOOKUPS
        lookups.labels(cache=now.name, outcome="hit").inc(now.hits - before.hits)
        lookups.labels(cache=now.name, outcome="miss").inc(now.misses - before.misses)
        metrics.CACHE_PUTS.labels(cache=now.name).inc(now.puts - before.puts)
