"""Periodic maintenance of jobs: queue the jobs of silent workers again, correct times after the
clock was set back, delete records of jobs that ended long ago, update the gauges of waiting jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import LANES
from orchestrator.errors import CatalogUnavailable
from orchestrator.fault_log import FaultLog
from orchestrator.settings import Jobs

log = logging.getLogger(__name__)
_LOCK = "jobs sweeper"
_PURGE_EVERY_S = 600.0
_AT_ONCE = 100


class JobSweeper:
    """Sweeps every `every_s` seconds. Of all sweepers of an installation one works at a time."""

    def __init__(
        self,
        catalog: Catalog,
        settings: Jobs,
        *,
        every_s: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._settings = settings
        self._every_s = every_s
        self._now = now
        self._grace_until = 0.0
        self._last_purge = float("-inf")
        self._faults = FaultLog(log, "jobs not swept", "jobs swept again")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.sweep()
                self._faults.clear()
            except CatalogUnavailable as error:
                # No worker could send heartbeats during the outage: give all of them time to.
                self._grace_until = self._now() + self._settings.heartbeat_s * 2
                self._faults.report(reason=error.public)

    async def sweep(self) -> None:
        """Sweep once. Raises CatalogUnavailable."""
        await self._update_gauges()
        async with self._catalog.exclusive(_LOCK) as is_ours:
            if not is_ours:
                return
            corrected = await self._catalog.claims.cap_times()
            if corrected:
                log.warning("clock of the database set back", extra={"jobs": corrected})
            if self._now() >= self._grace_until:
                await self._recover()
            if self._now() - self._last_purge >= _PURGE_EVERY_S:
                self._last_purge = self._now()  # first: a purge that fails is not repeated at once
                await self.purge()

    async def purge(self) -> None:
        """Delete jobs and batches that ended longer ago than `jobs.keep_days`. Raises
        CatalogUnavailable.
        """
        keep_days = self._settings.keep_days
        # One batch at a time: its jobs, any number of them, are deleted with it.
        while await self._catalog.batches.sweep(keep_days, 1):
            pass
        while await self._catalog.jobs.sweep(keep_days, _AT_ONCE) == _AT_ONCE:
            pass

    async def _recover(self) -> None:
        recovered = await self._catalog.claims.recover(
            self._settings.lease_s, self._settings.max_attempts
        )
        if not recovered.requeued and not recovered.given_up:
            return
        metrics.JOBS_RECOVERED.inc(len(recovered.requeued) + len(recovered.given_up))
        for job in recovered.given_up:
            metrics.JOBS_SETTLED.labels(job.kind, "failed").inc()
            metrics.JOB_DEAD_LETTERS.labels("worker_lost").inc()
        log.warning(
            "jobs of silent workers recovered",
            extra={"requeued": len(recovered.requeued), "given_up": len(recovered.given_up)},
        )

    async def _update_gauges(self) -> None:
        numbers = {(lane, state): 0 for lane in LANES for state in ("queued", "running", "failed")}
        ages = dict.fromkeys(LANES, 0.0)
        for depth in await self._catalog.claims.depths():
            numbers[depth.lane, depth.state] = depth.number
            ages[depth.lane] = max(ages[depth.lane], depth.age_s)
        for (lane, state), number in numbers.items():
            metrics.JOBS.labels(lane, state).set(number)
        for lane, age_s in ages.items():
            metrics.JOB_QUEUE_AGE.labels(lane).set(age_s)
