"""The worker: claims due jobs for its free slots, runs them, and records each outcome exactly once.

No job is lost when a worker, the database or a connection fails: a job stays in the table until it
is settled, the claim of a worker that stops ends with its heartbeats, and a worker that receives no
notice looks for jobs by itself. After a failure of the database the worker waits, longer each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.accepted_requests import ENDED_NOTICE
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import Job
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.jobs.dead_workers import DeadWorkers
from orchestrator.jobs.fairness import LaneRotation
from orchestrator.jobs.running_jobs import RunningJob, RunningJobs, log_fields
from orchestrator.jobs.settler import ERROR_FIRST_S, ERROR_LONGEST_S, Settler
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.tracing import NO_TRACING, Attributes, Span, Tracing
from orchestrator.work_context import WorkContext, working_for

log = logging.getLogger(__name__)

Handler = Callable[[Job], Awaitable[None]]
"""Runs a job. The error it raises decides whether the job is tried again. A handler may run twice
for one job, so the second run must lead to the same result.
"""

_RELEASE_S = 1.0
"""How long a worker that ends may take to release the jobs it did not finish, after `drain_s`: a
process ends within `drain_s` + 3 s.
"""


class Worker:
    """Runs jobs, at most `options.slots` at once, until cancelled."""

    def __init__(
        self,
        claims: Claims,
        handlers: Mapping[str, Handler],
        options: WorkerOptions,
        dead: DeadWorkers | None = None,
        *,
        closed_s: Callable[[], float] = lambda: 0.0,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        """`handlers` by the kind of job; the worker does not claim jobs of other kinds. With `dead`
        it takes the jobs of dead workers of this host when it starts. `closed_s` returns the
        seconds for which no job is claimed. With `tracing` each job is a span.
        """
        self._tracing = tracing
        self._closed_s = closed_s
        self._claims = claims
        self._handlers = dict(handlers)
        self._options = options
        self._lanes = LaneRotation()
        self._settler = Settler(claims, options)
        self._running = RunningJobs(claims, options.heartbeat_s)
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._dead = dead
        self._claim_count = 0
        self._faults = FaultLog(log, "jobs not claimed", "jobs claimed again")
        self._look_again = asyncio.Event()

    def wake(self) -> None:
        """Look for due jobs now."""
        self._look_again.set()

    def on_notice(self, payload: str) -> None:
        """Look for due jobs, or for running ones that a request has ended. Called when a notice of
        JOBS_CHANNEL arrives.
        """
        if payload == ENDED_NOTICE:
            self._running.look_now.set()
        self.wake()

    async def run(self) -> None:
        """Work until cancelled. Then running jobs have `drain_s` to finish; the others are
        released.
        """
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            if self._dead is not None:
                await stack.enter_async_context(self._dead.register(self._name))
            tasks.create_task(self._running.keep_claims())
            try:
                await self._claim_jobs(tasks)
            except asyncio.CancelledError:
                await self._drain()
                raise

    # --- claiming jobs ------------------------------------------------------------------------

    async def _claim_jobs(self, tasks: asyncio.TaskGroup) -> None:
        failures = 0
        has_recovered = self._dead is None
        while True:
            # Cleared before it looks: a notice that arrives during the look makes it look again.
            self._look_again.clear()
            try:
                if not has_recovered:
                    await self._recover()
                    has_recovered = True
                wait_s = await self._fill_slots(tasks)
            except Unavailable as error:
                failures += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                wait_s = backoff_s(failures, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                self._faults.report(reason=error.public, retry_s=round(wait_s, 1))
                await asyncio.sleep(wait_s)  # a notice does not shorten this wait
                continue
            failures = 0
            self._faults.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._look_again.wait()

    async def _recover(self) -> None:
        """Queue the jobs of dead workers of this host again. Raises Unavailable."""
        assert self._dead is not None  # noqa: S101  checked by the caller
        names = await self._dead.find()
        if not names:
            return
        recovered = await self._claims.recover_from(names, self._options.max_recovered_attempts)
        await self._dead.forget(names)
        number = len(recovered.requeued) + len(recovered.given_up)
        metrics.JOBS_RECOVERED.inc(number)
        log.info("jobs of dead workers recovered", extra={"workers": len(names), "jobs": number})

    async def _fill_slots(self, tasks: asyncio.TaskGroup) -> float:
        """Start due jobs in the free slots. Returns the seconds after which to look again if no
        notice arrives and no job ends. Raises Unavailable.
        """
        while len(self._running.by_id) < self._options.slots:
            if closed_s := self._closed_s():
                return min(closed_s, self._options.look_s)
            job = await self._claim()
            if job is None:
                return await self._idle_s()
            running = self._running.add(job)
            metrics.JOBS_RUNNING.inc()
            running.task = tasks.create_task(self._run_job(running))
        return self._options.look_s

    async def _claim(self) -> Job | None:
        """Claim a job. A cancelled claim may be committed all the same, and no worker would run its
        job until the lease ended: it is waited for, and its job is released.
        """
        self._claim_count += 1
        statement = self._claims.claim(
            f"{self._name}/{self._claim_count}",
            list(self._handlers),
            self._lanes.next(),
            self._options.per_host,
            self._running.customers_with(self._options.per_customer),
        )
        claim = asyncio.create_task(statement)  # no TaskGroup: it is awaited here in any case
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            with suppress(Unavailable):
                job = await claim
                if job is not None:
                    await self._claims.postpone(job, 0, is_counted=False)
            raise

    async def _idle_s(self) -> float:
        """How long to wait when there is no job to claim."""
        due_s = await self._claims.next_due_s(list(self._handlers))
        if due_s is None:
            return self._options.look_s
        if due_s <= 0:  # due, but its host or its asset is busy
            return self._options.blocked_s
        return min(due_s, self._options.look_s)

    # --- running jobs -------------------------------------------------------------------------

    async def _run_job(self, running: RunningJob) -> None:
        job, tracing = running.job, self._tracing
        attributes: Attributes = {"job": job.id, "request_id": job.request_id}
        with tracing.span(f"job {job.kind}", attributes, kind="consumer") as span:
            context = WorkContext(job.request_id, span.trace_parent, job.id, tracing)
            with working_for(context):
                await self._run_handler(running, span)

    async def _run_handler(self, running: RunningJob, span: Span) -> None:
        job, started = running.job, time.monotonic()
        try:
            await self._handlers[job.kind](job)
        except asyncio.CancelledError:
            await self._release(running)
            raise
        except Exception as error:  # any failure is an outcome of the job
            span.fail(type(error).__name__)
            if not isinstance(error, OrchestratorError):
                log.exception("job handler failed", extra=log_fields(job))
            await self._settler.settle_failed(running, error)
        else:
            await self._settler.settle_done(running)
        finally:
            metrics.JOB_SECONDS.labels(job.kind).observe(time.monotonic() - started)
            metrics.JOBS_RUNNING.dec()
            self._running.remove(running)
            self.wake()  # a slot is free, and another job of this host or asset may start

    async def _release(self, running: RunningJob) -> None:
        """Let another worker have a job that was cancelled, unless one has it already."""
        if running.ended:
            log.info("job stopped", extra={**log_fields(running.job), "state": running.ended})
            metrics.JOBS_SETTLED.labels(running.job.kind, running.ended).inc()
            return
        if running.is_lost:
            log.warning("job claim lost", extra=log_fields(running.job))
            return
        with suppress(Unavailable, TimeoutError):  # the claim ends without heartbeats
            async with asyncio.timeout(_RELEASE_S):
                await self._claims.postpone(running.job, 0, is_counted=False)
        log.info("job released", extra=log_fields(running.job))

    async def _drain(self) -> None:
        """Let running jobs finish in time, and release the others."""
        tasks = [running.task for running in self._running.by_id.values() if running.task]
        if not tasks:
            return
        log.info("worker draining", extra={"jobs": len(tasks)})
        _, late = await asyncio.wait(tasks, timeout=self._options.drain_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_RELEASE_S + 0.5)
        for running in list(self._running.by_id.values()):  # cancelled before they started
            await self._release(running)
