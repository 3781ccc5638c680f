"""The jobs that one worker runs, and the heartbeats that keep their claims."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import Job
from orchestrator.errors import Unavailable

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


@dataclass(slots=True)
class RunningJobs:
    """All jobs that one worker runs, by their ids."""

    claims: Claims
    heartbeat_s: float
    by_id: dict[int, RunningJob] = field(default_factory=dict)

    async def keep_claims(self) -> None:
        """Send heartbeats until cancelled, and cancel jobs whose claim is lost."""
        while True:
            await asyncio.sleep(self.heartbeat_s)
            active = [each for each in self.by_id.values() if not each.is_settling]
            if not active:
                continue
            try:
                kept = await self.claims.heartbeat([each.job for each in active])
            except Unavailable as error:
                log.warning("heartbeat failed", extra={"reason": error.public})
                continue
            for running in active:
                if running.job.id not in kept and not running.is_settling and running.task:
                    running.is_lost = True
                    running.task.cancel()


def log_fields(job: Job) -> dict[str, object]:
    """The fields of a log line about a job."""
    return {"job": job.id, "kind": job.kind, "asset": job.asset, "attempt": job.attempts}
