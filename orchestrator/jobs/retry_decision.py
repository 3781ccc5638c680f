"""Whether a job that failed is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from orchestrator.catalog.jobs import Job
from orchestrator.errors import (
    CatalogUnavailable,
    Fault,
    ImageServerUnavailable,
    NoRoom,
    Overloaded,
    QueueUnavailable,
    StorageUnavailable,
    Superseded,
)

OWN_OUTAGES = (
    CatalogUnavailable,
    StorageUnavailable,
    QueueUnavailable,
    ImageServerUnavailable,
    Overloaded,
    NoRoom,
)
"""A part of the installation is unavailable or full. The job is not the cause, so the attempt does
not count.
"""
OUTAGE_GRACE = timedelta(days=1)
"""After this time since a job's first start its attempts count in any case: the job itself may
cause the outages.
"""


@dataclass(frozen=True, slots=True)
class Retry:
    """The job is tried again later. `is_counted` says whether the attempt counts."""

    is_counted: bool


@dataclass(frozen=True, slots=True)
class Replaced:
    """A later request replaced that of the job, which has nothing to do any more."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job becomes a dead letter. Only a person can have it tried again."""


def decide_retry(
    error: BaseException, fault: Fault, job: Job, max_attempts: int, now: datetime | None = None
) -> Retry | GiveUp | Replaced:
    """Decide by the class of the error and by the number of attempts."""
    if isinstance(error, Superseded):
        return Replaced()
    now = now or datetime.now(UTC)
    if isinstance(error, OWN_OUTAGES) and now - (job.begun or now) < OUTAGE_GRACE:
        return Retry(is_counted=False)
    if not fault.retryable or job.attempts >= max_attempts:
        return GiveUp()
    return Retry(is_counted=True)
