"""Recording how a job ended: done, tried again later, or failed for good.

An outcome is never dropped because the database is unavailable: the worker repeats the statement
until the database answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.claims import ClaimOutcome, Claims
from orchestrator.catalog.jobs import Job
from orchestrator.errors import Unavailable, fault_of
from orchestrator.fault_log import FaultLog
from orchestrator.jobs.retry_decision import GiveUp, Replaced, Retry, decide_retry
from orchestrator.jobs.running_jobs import RunningJob, log_fields
from orchestrator.jobs.worker_options import WorkerOptions

log = logging.getLogger(__name__)
T = TypeVar("T")
ERROR_FIRST_S, ERROR_LONGEST_S = 0.2, 10.0
"""Waits between two tries of a statement that the database did not answer."""


class Settler:
    """Records the outcomes of one worker's jobs."""

    def __init__(self, claims: Claims, options: WorkerOptions) -> None:
        self._claims = claims
        self._options = options
        self._outages = 0
        """Attempts in a row that failed because a part of the installation was unavailable."""
        self._faults = FaultLog(log, "job outcome not recorded yet", "job outcomes recorded again")

    async def settle_done(self, running: RunningJob) -> None:
        """Record that the job is done."""
        running.is_settling, self._outages = True, 0
        settled = await self._repeat(lambda: self._claims.complete(running.job))
        _report(running.job, "done", settled)

    async def settle_failed(self, running: RunningJob, error: Exception) -> None:
        """Record that the job failed: it waits for its next attempt, or becomes a dead letter."""
        running.is_settling = True
        job = running.job
        fault = fault_of(error, job.kind)
        decision = decide_retry(error, fault, job, self._options.max_attempts)
        if isinstance(decision, Replaced):
            settled = await self._repeat(lambda: self._claims.supersede(job, fault))
            _report(job, "superseded", settled)
            return
        if isinstance(decision, GiveUp):
            settled = await self._repeat(lambda: self._claims.fail(job, fault))
            _report(job, "failed", settled, fault.code)
            return
        wait_s = self._wait_s(decision, job)
        await self._repeat(
            lambda: self._claims.postpone(job, wait_s, fault, is_counted=decision.is_counted)
        )
        metrics.JOB_RETRIES.labels(fault.code).inc()
        log.info(
            "job retry scheduled",
            extra={**log_fields(job), "code": fault.code, "retry_s": round(wait_s, 1)},
        )

    async def _repeat(self, settle: Callable[[], Awaitable[T]]) -> T:
        """Repeat the statement until the database answers."""
        tries = 0
        while True:
            try:
                settled = await settle()
            except Unavailable as error:
                tries += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                self._faults.report(reason=error.public)
                wait_s = backoff_s(tries, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                await asyncio.sleep(wait_s)
            else:
                self._faults.clear()
                return settled

    def _wait_s(self, decision: Retry, job: Job) -> float:
        first_s, longest_s = self._options.retry_first_s, self._options.retry_longest_s
        if decision.is_counted:
            return backoff_s(job.attempts, first_s=first_s, longest_s=longest_s, factor=4)
        self._outages += 1
        return backoff_s(self._outages, first_s=min(1, first_s), longest_s=min(60, longest_s))


def _report(job: Job, outcome: str, settled: ClaimOutcome, code: str = "") -> None:
    if settled.ended is not None and not settled.was_ours:
        metrics.JOBS_SETTLED.labels(job.kind, settled.ended).inc()
        log.info("job stopped", extra={**log_fields(job), "state": settled.ended})
        return
    if not settled.was_ours:
        metrics.JOBS_LOST.inc()
        log.warning("job claim lost", extra=log_fields(job))
        return
    metrics.JOBS_SETTLED.labels(job.kind, outcome).inc()
    if outcome == "failed":
        metrics.JOB_DEAD_LETTERS.labels(code).inc()
        log.warning("job failed for good", extra={**log_fields(job), "code": code})
    if settled.batch_finished:
        log.info("batch finished", extra={"batch": job.batch, "customer": job.customer})
