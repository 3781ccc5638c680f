"""Writes bodies to a cache: claims room, writes temporary files, and publishes them in batches."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from orchestrator import metrics
from orchestrator.cache.disk.file_names import Place
from orchestrator.cache.disk.ledger import Reclaimed, room_for
from orchestrator.cache.disk.publisher import Publication, Publisher, WriteFailures
from orchestrator.cache.statistics import CacheStats
from orchestrator.errors import NoRoom
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)

_BATCH_FILES, _BATCH_BYTES = 64, 8 * 1024**2
_RECLAIM_PAUSE_S = 1.0


@dataclass(slots=True)
class Put:
    """A body to be stored; `done` is True if it was."""

    place: Place
    body: bytes
    extension: str
    pinned: bool = False
    done: Future[bool] = field(default_factory=Future)


class BatchWriter:
    """Writes to one cache. One thread only."""

    def __init__(
        self,
        publisher: Publisher,
        failures: WriteFailures,
        stats: CacheStats,
        record_uses: Callable[[], None],
    ) -> None:
        self.publisher = publisher
        self.ledger = publisher.ledger
        self.stats = stats
        self._failures = failures
        self._record_uses = record_uses
        quota = self.ledger.limits.quota
        self._batch_bytes = min(_BATCH_BYTES, quota // 16) if quota else _BATCH_BYTES
        self.refused = {
            why: metrics.CACHE_REFUSED.labels(cache=stats.name, why=why)
            for why in ("room", "size", "failed")
        }
        self._reclaimed_at = 0.0
        self._no_room = FaultLog(log, "cache has no room", "cache has room again")

    def claim(self, need: int) -> bool:
        """Claim room. Flushes recorded uses first, so that eviction knows them; if there is still
        no room, reclaims what dead processes had reserved and tries again.
        """
        if self.ledger.free >= need:
            return self.ledger.claim(need)
        self._record_uses()
        if self.ledger.claim(need) or (self._reclaim_if_due() and self.ledger.claim(need)):
            self._no_room.clear(cache=self.stats.name)
            return True
        self.stats.refused += 1
        self.refused["room"].inc()
        self._report_no_room(need)
        return False

    def is_full_batch(self, files: int, size: int) -> bool:
        """True if a batch of so many files and bytes should not grow further."""
        return files >= _BATCH_FILES or size >= self._batch_bytes

    def write(self, batch: list[Put]) -> None:
        """Store the bodies, and set the result of each."""
        stored: set[int] = set()
        try:
            written = [(put, p) for put in batch if (p := self._write_temporary(put)) is not None]
            published = self.publisher.publish([p for _, p in written]) if written else []
            stored = {id(put) for put, p in written if any(p is q for q in published)}
            self._count_failures(len(written) - len(stored))
            if stored:
                self._failures.clear()
        except NoRoom as error:
            self._failures.report("write", error)
            self._count_failures(len(batch))
        finally:
            self.stats.puts += len(stored)
            for put in batch:
                put.done.set_result(id(put) in stored)

    def reclaim(self) -> Reclaimed:
        """Free what ended processes had reserved, and remove their temporary files."""
        reclaimed = self.ledger.reclaim()
        if reclaimed.holders or reclaimed.temporaries:
            extra = {"dead": reclaimed.holders, "temporaries": reclaimed.temporaries}
            log.info("cache swept", extra={"cache": self.stats.name, **extra})
        return reclaimed

    def _write_temporary(self, put: Put) -> Publication | None:
        need = room_for(len(put.body))
        try:
            if not self.claim(need):
                return None
        except NoRoom as error:
            self._failures.report("index", error)
            self._count_failures(1)
            return None
        try:
            temp = self.ledger.tree.write_temp(put.body, put.extension)
        except OSError as error:
            self.ledger.unclaim(need)
            self._failures.report("write", error)
            self._count_failures(1)
            return None
        return Publication(put.place, temp, need, put.pinned)

    def _count_failures(self, number: int) -> None:
        self.stats.failed += number
        self.refused["failed"].inc(number)

    def _reclaim_if_due(self) -> bool:
        """True if room came free; at most once a second."""
        if time.monotonic() < self._reclaimed_at + _RECLAIM_PAUSE_S:
            return False
        self._reclaimed_at = time.monotonic()
        return self.reclaim().bytes > 0

    def _report_no_room(self, need: int) -> None:
        limits = self.ledger.limits
        self._no_room.report(
            cache=self.stats.name,
            bytes=need,
            free=self.ledger.tree.free_bytes(),
            quota=limits.quota,
            floor=limits.floor,
        )
