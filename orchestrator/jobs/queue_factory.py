"""Opens the queue that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestrator.catalog.catalog import Catalog
from orchestrator.jobs.pgqueuer import PgQueuerQueue
from orchestrator.jobs.queue import JobQueue
from orchestrator.jobs.settler import Pace
from orchestrator.jobs.sqs_queue import open_sqs
from orchestrator.settings import Settings


@asynccontextmanager
async def open_queue(settings: Settings, catalog: Catalog) -> AsyncIterator[JobQueue]:
    """The queue; nothing is asked of it yet."""
    if settings.jobs.kind == "pgqueuer":
        yield PgQueuerQueue(catalog, settings.database, settings.jobs.lease_s)
        return
    async with open_sqs(settings.jobs) as queue:
        yield queue


def pace_of(settings: Settings) -> Pace:
    """The pace of this instance's worker."""
    jobs = settings.jobs
    return Pace(
        slots=jobs.workers or settings.ingest.workers,
        per_host=jobs.per_host,
        max_attempts=jobs.max_attempts,
        heartbeat_s=jobs.heartbeat_s,
        retry_first_s=jobs.retry_first_s,
        retry_longest_s=jobs.retry_longest_s,
        drain_s=settings.server.drain_s,
    )
