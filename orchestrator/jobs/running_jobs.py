"""The jobs that one worker runs, and the heartbeats that keep their claims."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import Job
from orchestrator.errors import Unavailable
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RunningJob:
    """A job in a slot of a worker."""

    job: Job
    task: asyncio.Task[None] | None = None
    is_lost: bool = False
    """Another worker has claimed the job, or may claim it."""
    is_settling: bool = False
    """Its outcome is being recorded, so a heartbeat that finds no claim proves nothing."""
    ended: str = ""
    """The state in which a request has ended it: cancelled or superseded."""


@dataclass(slots=True)
class RunningJobs:
    """All jobs that one worker runs, by their ids."""

    claims: Claims
    heartbeat_s: float
    by_id: dict[int, RunningJob] = field(default_factory=dict)
    look_now: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request has ended a running job, perhaps one of these."""
    faults: FaultLog = field(
        default_factory=lambda: FaultLog(log, "heartbeat failed", "heartbeat sent again")
    )

    def add(self, job: Job) -> RunningJob:
        """Add a claimed job. If this worker still runs the job under an earlier claim, which it has
        lost, that run is cancelled.
        """
        earlier = self.by_id.get(job.id)
        if earlier is not None:
            _cancel_lost(earlier)
        self.by_id[job.id] = running = RunningJob(job)
        return running

    def remove(self, running: RunningJob) -> None:
        """Remove a job that has ended, unless a later claim of the job has replaced it."""
        if self.by_id.get(running.job.id) is running:
            del self.by_id[running.job.id]

    def customers_with(self, number: int) -> list[int]:
        """The customers of which this worker runs at least so many jobs."""
        counts = Counter(running.job.customer for running in self.by_id.values())
        return [customer for customer, count in counts.items() if count >= number]

    async def keep_claims(self) -> None:
        """Send heartbeats until cancelled, and cancel jobs whose claim is lost."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.heartbeat_s):
                    await self.look_now.wait()
            self.look_now.clear()
            active = [each for each in self.by_id.values() if not each.is_settling]
            if not active:
                continue
            try:
                claimed = await self.claims.heartbeat([each.job for each in active])
                lost = [each for each in active if each.job.id not in claimed]
                ended = await self.claims.ended([each.job for each in lost]) if lost else {}
            except Unavailable as error:
                self.faults.report(reason=error.public)
                continue
            self.faults.clear()
            for running in lost:
                running.ended = ended.get(running.job.id, "")
                _cancel_lost(running)


def _cancel_lost(running: RunningJob) -> None:
    # Once: a second cancellation would end what the job does to clean up.
    if running.task is not None and not running.is_settling and not running.is_lost:
        running.is_lost = True
        running.task.cancel()


def log_fields(job: Job) -> dict[str, object]:
    """The fields of a log line about a job."""
    return {"job": job.id, "kind": job.kind, "asset": job.asset, "attempt": job.attempts}
