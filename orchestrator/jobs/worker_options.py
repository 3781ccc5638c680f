"""The limits and intervals of a worker."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How many jobs run at once, and how long to wait; names ending in `_s` are seconds."""

    slots: int = 1
    per_customer: int = 256
    per_host: int = 4
    max_attempts: int = 5
    max_recovered_attempts: int = 5
    """A job of a dead worker is queued again unless it had this many attempts. The same in every
    worker, because each recovers jobs of all kinds.
    """
    heartbeat_s: float = 10.0
    retry_first_s: float = 5.0
    retry_longest_s: float = 600.0
    drain_s: float = 20.0
    look_s: float = 15.0
    """A worker that receives no notice looks for due jobs this often."""
    blocked_s: float = 1.0
    """A worker looks again after this time when jobs are due that no worker may start yet: their
    host is busy, or another job of the same asset runs.
    """

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The options that the settings name."""
        jobs = settings.jobs
        converted = conversions_at_once(settings)
        return cls(
            slots=converted + jobs.fetches,
            per_customer=jobs.per_customer or converted + 2,
            per_host=jobs.per_host,
            max_attempts=jobs.max_attempts,
            max_recovered_attempts=jobs.max_attempts,
            heartbeat_s=jobs.heartbeat_s,
            retry_first_s=jobs.retry_first_s,
            retry_longest_s=jobs.retry_longest_s,
            drain_s=settings.server.drain_s,
        )


def conversions_at_once(settings: Settings) -> int:
    """How many images each instance converts at once: by default one for each core."""
    return settings.jobs.workers or settings.ingest.workers or os.cpu_count() or 1
