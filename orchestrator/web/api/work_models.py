"""What the API answers of jobs, batches and queues."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from orchestrator.cache.disk.cache import DiskStats
from orchestrator.catalog.batches import Batch, Lane, Waiting
from orchestrator.catalog.jobs import Job, State
from orchestrator.web.api.image_models import Answer, FaultOut


class JobOut(Answer):
    """A job."""

    id: int
    kind: str
    lane: Lane
    customer: int
    image: str
    """The image it is about."""
    host: str
    batch: int | None
    state: State
    attempts: int
    due: datetime
    """Not begun before."""
    fault: FaultOut | None
    """Why its latest attempt failed."""
    created: datetime
    started: datetime | None
    finished: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """From a job."""
        return cls(
            id=job.id,
            kind=job.kind,
            lane=job.lane,
            customer=job.customer,
            image=job.asset,
            host=job.host,
            batch=job.batch,
            state=job.state,
            attempts=job.attempts,
            due=job.due,
            fault=FaultOut.of(job.fault),
            created=job.created,
            started=job.started,
            finished=job.finished,
        )


class JobList(Answer):
    """A page of jobs, newest first."""

    jobs: list[JobOut]
    next: str | None


class Accepted(Answer):
    """An ingest that is done behind this answer."""

    job: int
    image: str


class BatchOut(Answer):
    """A batch."""

    id: int
    customer: int
    lane: Lane
    count: int
    completed: int
    errors: int
    cancelled: int
    remaining: int
    submitted: datetime
    finished: datetime | None
    est_completion: datetime | None
    """When it will be finished at the rate of its last ten minutes; null while that is unknown."""

    @classmethod
    def of(cls, batch: Batch, **more: Any) -> Self:
        """From a batch."""
        return cls(
            id=batch.id,
            customer=batch.customer,
            lane=batch.lane,
            count=batch.count,
            completed=batch.completed,
            errors=batch.errors,
            cancelled=batch.cancelled,
            remaining=batch.remaining,
            submitted=batch.submitted,
            finished=batch.finished,
            est_completion=batch.finished or batch.estimate,
            **more,
        )


class Failure(Answer):
    """One image of a batch that failed."""

    image: str
    job: int
    attempts: int
    fault: FaultOut | None


class BatchShown(BatchOut):
    """A batch with its failures."""

    failures: list[Failure]
    """The latest 100; `/jobs?batch=...&state=failed` has all."""


class Batches(Answer):
    """A page of batches, newest first."""

    batches: list[BatchOut]
    next: str | None


class BatchImages(Answer):
    """A page of what a batch asked for, newest first."""

    images: list[JobOut]
    next: str | None


class BatchAgain(Answer):
    """What was put back to work, or given up."""

    batch: int
    jobs: int


class QueueOut(Answer):
    """What of a customer's lane has not ended."""

    size: int
    """Images that wait or are being taken in."""
    batches_waiting: int
    images_waiting: int
    running: int

    @classmethod
    def of(cls, waiting: Waiting) -> Self:
        """From the counts."""
        return cls(
            size=waiting.queued + waiting.running,
            batches_waiting=waiting.batches,
            images_waiting=waiting.queued,
            running=waiting.running,
        )


class CacheOut(Answer):
    """A cache of this host; hits and misses are those of the answering process."""

    name: str
    files: int
    bytes: int
    reserved: int
    quota: int
    hits: int
    misses: int

    @classmethod
    def of(cls, stats: DiskStats) -> Self:
        """From a cache's own figures."""
        return cls(
            name=stats.name,
            files=stats.files,
            bytes=stats.bytes,
            reserved=stats.reserved,
            quota=stats.quota,
            hits=stats.hits,
            misses=stats.misses,
        )


class LaneOut(Answer):
    """How many jobs of a lane are in a state."""

    lane: Lane
    state: State
    jobs: int
    age_s: float
    """Of the one that is due longest."""


class Overview(Answer):
    """What is cached, queued and failing."""

    images: dict[str, int]
    """By state."""
    caches: list[CacheOut]
    queued: list[LaneOut]
    failing: list[JobOut]
    """The latest 20 dead letters."""
