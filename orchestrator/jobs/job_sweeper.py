"""What nobody else sees to: jobs of workers that fell silent, jobs the queue was never told of,
records of what ended long ago, and the figures of what waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import LANES
from orchestrator.errors import CatalogUnavailable, Unavailable
from orchestrator.jobs.queue import JobQueue
from orchestrator.jobs.submitter import Submitter
from orchestrator.settings import Jobs

log = logging.getLogger(__name__)
_LOCK = "jobs sweeper"
_CLEAN_EVERY_S = 600.0
_AT_ONCE = 100


class JobSweeper:
    """Sweeps every `every_s`; of several in an installation one at a time."""

    def __init__(
        self,
        catalog: Catalog,
        submitter: Submitter,
        queue: JobQueue,
        settings: Jobs,
        *,
        every_s: float = 5.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._submitter = submitter
        self._queue = queue
        self._settings = settings
        self._every_s = every_s
        self._now = now
        self._away_until = 0.0
        self._cleaned = float("-inf")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.round()
            except Unavailable as error:
                if isinstance(error, CatalogUnavailable):
                    # Workers could not say that they are alive meanwhile: they get the time to.
                    self._away_until = self._now() + self._settings.heartbeat_s * 2
                log.warning("jobs not swept", extra={"reason": error.public})

    async def round(self) -> None:
        """Sweep once. Raises Unavailable."""
        await self._measure()
        async with self._catalog.exclusive(_LOCK) as is_ours:
            if not is_ours:
                return
            if self._now() >= self._away_until:
                await self._recover()
            while await self._submitter.announce_rest(_AT_ONCE) == _AT_ONCE:
                pass
            if self._now() - self._cleaned >= _CLEAN_EVERY_S:
                self._cleaned = self._now()  # first: what fails is not tried every few seconds
                await self.clean()

    async def clean(self) -> None:
        """Forget what ended long ago. Raises Unavailable."""
        keep_days = self._settings.keep_days
        while await self._catalog.batches.sweep(keep_days, 1):  # its jobs go with it: any number
            pass
        while await self._catalog.jobs.sweep(keep_days, _AT_ONCE) == _AT_ONCE:
            pass
        await self._queue.tidy()

    async def _recover(self) -> None:
        found = await self._catalog.claims.recover(
            self._settings.lease_s, self._settings.max_attempts
        )
        if not found.requeued and not found.given_up:
            return
        metrics.JOBS_RECOVERED.inc(len(found.requeued) + len(found.given_up))
        for job in found.given_up:
            metrics.JOBS_SETTLED.labels(job.kind, "failed").inc()
            metrics.JOB_DEAD_LETTERS.labels("worker_lost").inc()
        log.warning(
            "jobs taken from silent workers",
            extra={"requeued": len(found.requeued), "given_up": len(found.given_up)},
        )

    async def _measure(self) -> None:
        numbers = {(lane, state): 0 for lane in LANES for state in ("queued", "running", "failed")}
        ages = dict.fromkeys(LANES, 0.0)
        for depth in await self._catalog.claims.depths():
            numbers[depth.lane, depth.state] = depth.number
            ages[depth.lane] = max(ages[depth.lane], depth.age_s)
        for (lane, state), number in numbers.items():
            metrics.JOBS.labels(lane, state).set(number)
        for lane, age_s in ages.items():
            metrics.JOB_QUEUE_AGE.labels(lane).set(age_s)
