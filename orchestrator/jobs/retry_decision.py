"""What is to become of a job that failed. Pure."""

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
)

OURS = (
    CatalogUnavailable,
    StorageUnavailable,
    QueueUnavailable,
    ImageServerUnavailable,
    Overloaded,
    NoRoom,
)
"""A part of ours that is away or full: no job's fault, so no attempt of it counts."""
PATIENCE = timedelta(days=1)
"""A job that only fails by our parts for longer than this, from its first beginning, may be what
breaks them: it counts.
"""


@dataclass(frozen=True, slots=True)
class Again:
    """Try it again later; the attempt counts or does not."""

    is_counted: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A dead letter: only a person can have it done again."""


def verdict(
    error: BaseException, fault: Fault, job: Job, max_attempts: int, now: datetime | None = None
) -> Again | Failed:
    """Judge a failed attempt: by the fault's class, and by how many there were."""
    now = now or datetime.now(UTC)
    if isinstance(error, OURS) and now - (job.begun or now) < PATIENCE:
        return Again(is_counted=False)
    if not fault.retryable or job.attempts >= max_attempts:
        return Failed()
    return Again(is_counted=True)
