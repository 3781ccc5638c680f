"""Saying what came of a job: done, put off or failed for good, in the table first, then to the
queue.

The table is told however long that takes; the queue once, for a ticket that comes again finds
nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.claims import Claims, Settled
from orchestrator.catalog.jobs import Job
from orchestrator.errors import Unavailable, fault_of
from orchestrator.jobs.queue import Ticket
from orchestrator.jobs.retry_decision import Again, Failed, verdict

log = logging.getLogger(__name__)
T = TypeVar("T")
ERROR_FIRST_S, ERROR_LONGEST_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, how long; seconds."""

    slots: int = 1
    per_host: int = 4
    max_attempts: int = 5
    heartbeat_s: float = 10.0
    retry_first_s: float = 5.0
    retry_longest_s: float = 600.0
    drain_s: float = 20.0
    look_s: float = 15.0
    """A worker without tickets looks into the table by itself this often."""
    pause_s: float = 1.0
    """Tickets for work that cannot be done yet (its host is busy) come back after this."""


@dataclass(slots=True)
class Held:
    """A job in a slot."""

    job: Job
    ticket: Ticket | None
    task: asyncio.Task[None] | None = None
    is_taken: bool = False
    """Somebody else was given the job meanwhile."""
    is_settling: bool = False


class Settler:
    """Settles what one worker held."""

    def __init__(self, claims: Claims, pace: Pace) -> None:
        self._claims = claims
        self._pace = pace
        self._streak = 0
        """Failures in a row that were not the jobs' fault."""

    async def done(self, held: Held) -> None:
        """The job is done."""
        held.is_settling, self._streak = True, 0
        settled = await self._insist(lambda: self._claims.done(held.job))
        self._count(held.job, "done", settled)
        await self._end(held)

    async def failed(self, held: Held, error: Exception) -> None:
        """The job failed: it is put off, or becomes a dead letter."""
        held.is_settling = True
        job = held.job
        fault = fault_of(error, job.kind)
        judged = verdict(error, fault, job, self._pace.max_attempts)
        if isinstance(judged, Failed):
            settled = await self._insist(lambda: self._claims.fail(job, fault))
            self._count(job, "failed", settled, fault.code)
            await self._end(held)
            return
        delay_s = self._delay_s(judged, job)
        was_ours = await self._insist(
            lambda: self._claims.put_off(job, delay_s, fault, counted=judged.is_counted)
        )
        metrics.JOB_RETRIES.labels(fault.code).inc()
        log.info(
            "job put off", extra={**fields(job), "code": fault.code, "retry_s": round(delay_s, 1)}
        )
        if held.ticket is not None and was_ours:
            with suppress(Unavailable):
                await held.ticket.put_back(delay_s)

    async def _insist(self, settle: Callable[[], Awaitable[T]]) -> T:
        """Settle, however long the database is away."""
        tries = 0
        while True:
            try:
                return await settle()
            except Unavailable as error:
                tries += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                log.warning("job cannot be settled yet", extra={"reason": error.public})
                wait_s = backoff_s(tries, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                await asyncio.sleep(wait_s)

    async def _end(self, held: Held) -> None:
        if held.ticket is not None:
            with suppress(Unavailable):  # it comes again, and finds nothing to do
                await held.ticket.done()

    def _delay_s(self, judged: Again, job: Job) -> float:
        first_s, longest_s = self._pace.retry_first_s, self._pace.retry_longest_s
        if judged.is_counted:
            return backoff_s(job.attempts, first_s=first_s, longest_s=longest_s, factor=4)
        self._streak += 1
        return backoff_s(self._streak, first_s=min(1, first_s), longest_s=min(60, longest_s))

    @staticmethod
    def _count(job: Job, outcome: str, settled: Settled, code: str = "") -> None:
        if not settled.was_ours:
            metrics.JOBS_LOST.inc()
            log.warning("job had been taken away", extra=fields(job))
            return
        metrics.JOBS_SETTLED.labels(job.kind, outcome).inc()
        if outcome == "failed":
            metrics.JOB_DEAD_LETTERS.labels(code).inc()
            log.warning("job failed for good", extra={**fields(job), "code": code})
        if settled.batch_finished:
            log.info("batch finished", extra={"batch": job.batch, "customer": job.customer})


def fields(job: Job) -> dict[str, object]:
    """What a log line says of a job."""
    return {"job": job.id, "kind": job.kind, "asset": job.asset, "attempt": job.attempts}
