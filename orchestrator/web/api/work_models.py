"""Response models of jobs, batches, queues and the overview of `/admin`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from orchestrator.catalog.batches import Lane
from orchestrator.catalog.jobs import State
from orchestrator.web.api.response_model import FaultOut, ResponseModel


class JobOut(ResponseModel):
    """A job."""

    id: int
    kind: str
    lane: Lane
    customer: int
    image: str = Field(validation_alias="asset")
    """The asset that the job works on."""
    host: str
    batch: int | None
    state: State
    """`superseded`: a later change of the asset replaced the job."""
    generation: int
    """Of the request that the job was accepted for; 0 without one."""
    attempts: int
    due: datetime
    """The job does not start before this time."""
    fault: FaultOut | None
    """Why the latest attempt failed."""
    created: datetime
    started: datetime | None
    finished: datetime | None


class JobList(ResponseModel):
    """A page of jobs, newest first."""

    jobs: list[JobOut]
    next: str | None


class Accepted(ResponseModel):
    """An ingest that was queued; a worker runs it after this response."""

    job: int
    image: str


class BatchOut(ResponseModel):
    """A batch."""

    id: int
    customer: int
    lane: Lane
    count: int
    completed: int
    errors: int
    cancelled: int
    superseded: int
    """Jobs that later changes of their assets replaced."""
    remaining: int
    submitted: datetime
    finished: datetime | None
    est_completion: datetime | None = Field(validation_alias="completion")
    """When the batch ended, or when it will end at the rate of its last ten minutes; null if the
    rate is unknown.
    """


class Failure(ResponseModel):
    """One asset of a batch whose last ingest failed."""

    image: str = Field(validation_alias="asset")
    job: int = Field(validation_alias="id")
    state: State
    """`failed` if it failed for good, `queued` or `running` if it is tried again."""
    attempts: int
    due: datetime
    """The next attempt does not start before this time."""
    fault: FaultOut | None


class BatchShown(BatchOut):
    """A batch with its failures."""

    failures: list[Failure]
    """The latest 100, also those that are tried again; `/jobs?batch=...` lists all jobs."""


class Batches(ResponseModel):
    """A page of batches, newest first."""

    batches: list[BatchOut]
    next: str | None


class BatchImages(ResponseModel):
    """A page of the jobs of a batch, newest first."""

    images: list[JobOut]
    next: str | None


class BatchAgain(ResponseModel):
    """How many jobs of a batch were queued again or cancelled."""

    batch: int
    jobs: int


class QueueOut(ResponseModel):
    """The unfinished work in one lane of a customer."""

    size: int = Field(validation_alias="unfinished")
    """Assets that wait or are being ingested."""
    batches_waiting: int = Field(validation_alias="batches")
    images_waiting: int = Field(validation_alias="queued")
    running: int


class CacheOut(ResponseModel):
    """A disk cache of this host. Hits and misses are those of the process that answers."""

    name: str
    files: int
    bytes: int
    reserved: int
    quota: int
    hits: int
    misses: int


class LaneOut(ResponseModel):
    """How many jobs of a lane are in a state."""

    lane: Lane
    state: State
    jobs: int = Field(validation_alias="number")
    age_s: float
    """Seconds since the oldest of them became due."""


class ImageServerOut(ResponseModel):
    """An image server of a pool, as the processes of this host see it."""

    pool: str
    node: str
    state: Literal["answers", "slow", "away"]
    in_flight: int
    latency_ms: int
    """In which it answered 95 of its last 100 requests; 0 if it got none."""
    breaker: Literal["closed", "open"]
    failures: int
    last_error: str
    last_error_at: float
    """Unix time."""


class Overview(ResponseModel):
    """The state of the installation: assets, disk caches, image servers, queue and failed jobs."""

    images: dict[str, int]
    """Number of assets by state."""
    caches: list[CacheOut]
    image_servers: list[ImageServerOut]
    queued: list[LaneOut]
    failing: list[JobOut]
    """The latest 20 jobs that failed for good."""


class EventsOut(ResponseModel):
    """What became of the events of a message."""

    accepted: int
    """Recorded as jobs."""
    repeated: int
    """Known already, or without anything to do."""
    outdated: int
    """Older than what is known of the object."""
    ignored: int
    """Of another bucket, or of a file that the settings leave out."""


class WarmUpOut(ResponseModel):
    """The jobs that make results of /ico."""

    jobs: list[int]
