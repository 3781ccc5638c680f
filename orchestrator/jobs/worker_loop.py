"""The worker: receives only as much as it has free slots, does the best due job for each ticket,
and says exactly once what came of it.

Nothing is lost whatever dies: a job is in the table until it is settled, its claim ends with the
worker's heartbeats, and a worker that hears no bell looks by itself. Nothing is done in a hot loop:
every failure of queue or database is waited out, longer each time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import OrchestratorError, QueueUnavailable, Unavailable
from orchestrator.jobs.fairness import Turns
from orchestrator.jobs.queue import JobQueue, Ticket
from orchestrator.jobs.settler import ERROR_FIRST_S, ERROR_LONGEST_S, Held, Pace, Settler, fields
from orchestrator.jobs.submitter import Submitter

log = logging.getLogger(__name__)

Handler = Callable[[Job], Awaitable[None]]
"""Does a job; what it raises decides whether the job is tried again. Done twice, it must come to
the same.
"""
Intake = Callable[[bytes], JobDraft]
"""Makes a job of a stranger's message; what it cannot read it leaves to the job's handler."""

_RELEASE_S = 5.0
"""What a drain that ran out of time still takes to put work back."""


class Worker:
    """Does jobs, `pace.slots` of them at a time, until cancelled."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        claims: Claims,
        submitter: Submitter,
        handlers: Mapping[str, Handler],
        pace: Pace,
        intake: Intake | None = None,
    ) -> None:
        """`handlers` by kind of job; jobs of other kinds are left alone."""
        self._queue = queue
        self._claims = claims
        self._submitter = submitter
        self._handlers = dict(handlers)
        self._pace = pace
        self._intake = intake or _as_it_is
        self._turns = Turns()
        self._settler = Settler(claims, pace)
        self._name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._number = 0
        self._held: dict[int, Held] = {}
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; then work under way has `drain_s` to finish, the rest is put
        back.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._beat())
            tasks.create_task(self._extend())
            try:
                await self._serve(tasks)
            except asyncio.CancelledError:
                await self._drain()
                raise

    # --- taking work ------------------------------------------------------------------------

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            try:
                await self._room()
                has_all = await self._round(tasks)
            except Unavailable as error:
                failures += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                wait_s = backoff_s(failures, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                log.warning(
                    "work cannot be received",
                    extra={"reason": error.public, "retry_s": round(wait_s, 1)},
                )
                await asyncio.sleep(wait_s)
                continue
            failures = 0
            if not has_all:
                await self._pause()

    async def _room(self) -> None:
        """Wait until a slot is free."""
        while len(self._held) >= self._pace.slots:
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self) -> None:
        """Wait until a job ends, which may make room for others of its host, or for a moment."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.pause_s):
                await self._changed.wait()

    async def _round(self, tasks: asyncio.TaskGroup) -> bool:
        """Receive once and begin what there is; False when there is work that cannot be done yet.

        Raises Unavailable.
        """
        free = self._pace.slots - len(self._held)
        try:
            tickets = list(await self._queue.receive(free, self._pace.look_s))
        except QueueUnavailable:  # what is to be done is in the table all the same
            await self._look(tasks, free)
            raise
        if not tickets:
            await self._look(tasks, free)
            return True
        has_all = True
        while tickets:
            try:
                has_all &= await self._answer(tasks, tickets[0])
            except (Unavailable, asyncio.CancelledError):
                await self._give_back(tickets)
                raise
            tickets.pop(0)
        return has_all

    async def _answer(self, tasks: asyncio.TaskGroup, ticket: Ticket) -> bool:
        """Begin the best job there is; False when the ticket had to be put back."""
        if ticket.message:
            await self._take_in(ticket)
        job = await self._claim()
        if job is not None:
            self._begin(tasks, Held(job, ticket))
            return True
        if await self._claims.is_idle():
            await ticket.done()
            return True
        await ticket.put_back(backoff_s(1, first_s=2 * self._pace.pause_s, longest_s=60))
        return False

    async def _look(self, tasks: asyncio.TaskGroup, free: int) -> None:
        """Begin due jobs whose tickets were lost."""
        for _ in range(free):
            job = await self._claim()
            if job is None:
                return
            self._begin(tasks, Held(job, None))

    async def _claim(self) -> Job | None:
        self._number += 1
        return await self._claims.claim(
            f"{self._name}/{self._number}",
            list(self._handlers),
            self._turns.next(),
            self._pace.per_host,
        )

    async def _take_in(self, ticket: Ticket) -> None:
        """Record a stranger's message as a job, once however often it comes."""
        draft = self._intake(ticket.body)
        mark, lane = f"message {ticket.message}", ticket.lane
        try:
            await self._submitter.record(replace(draft, dedupe=mark, lane=lane))
        except OrchestratorError as error:
            if isinstance(error, Unavailable):
                raise
            log.warning("message cannot be recorded as it is", extra={"reason": error.public})
            await self._submitter.record(replace(_as_text(ticket.body), dedupe=mark, lane=lane))

    async def _give_back(self, tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            with suppress(Unavailable):  # else its lease ends by itself
                await ticket.put_back(self._pace.pause_s)

    # --- doing it ---------------------------------------------------------------------------

    def _begin(self, tasks: asyncio.TaskGroup, held: Held) -> None:
        self._held[held.job.id] = held
        metrics.JOBS_RUNNING.inc()
        held.task = tasks.create_task(self._do(held))

    async def _do(self, held: Held) -> None:
        job, began = held.job, time.monotonic()
        try:
            await self._handlers[job.kind](job)
        except asyncio.CancelledError:
            await self._let_go(held)
            raise
        except Exception as error:
            if not isinstance(error, OrchestratorError):
                log.exception("job broke down", extra=fields(job))
            await self._settler.failed(held, error)
        else:
            await self._settler.done(held)
        finally:
            metrics.JOB_SECONDS.labels(job.kind).observe(time.monotonic() - began)
            metrics.JOBS_RUNNING.dec()
            if self._held.get(job.id) is held:
                del self._held[job.id]
            self._changed.set()

    async def _let_go(self, held: Held) -> None:
        """Cancelled: what was taken from us is not ours to put back; else somebody may have it."""
        if held.is_taken:
            log.warning("job was taken away", extra=fields(held.job))
            return
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_RELEASE_S):
                await self._claims.put_off(held.job, 0, counted=False)
                if held.ticket is not None:
                    await held.ticket.put_back()
        log.info("job put back", extra=fields(held.job))

    # --- staying alive ----------------------------------------------------------------------

    async def _beat(self) -> None:
        """Keep claims while working; stop what was given to somebody else."""
        while True:
            await asyncio.sleep(self._pace.heartbeat_s)
            held = [each for each in self._held.values() if not each.is_settling]
            if not held:
                continue
            try:
                ours = await self._claims.heartbeat([each.job for each in held])
            except Unavailable as error:
                log.warning("heartbeat failed", extra={"reason": error.public})
            else:
                self._drop([each for each in held if each.job.id not in ours])

    async def _extend(self) -> None:
        """Keep leases while working; apart from `_beat`, for a queue that does not answer must not
        cost a claim.
        """
        while True:
            await asyncio.sleep(self._pace.heartbeat_s)
            held = [each for each in self._held.values() if not each.is_settling]
            tickets = [each.ticket for each in held if each.ticket is not None]
            with suppress(TimeoutError):  # the next time, or the lease ends: no job is lost by it
                async with asyncio.timeout(self._pace.heartbeat_s), asyncio.TaskGroup() as calls:
                    for ticket in tickets:
                        calls.create_task(_extended(ticket))

    def _drop(self, taken: Sequence[Held]) -> None:
        for held in taken:
            if not held.is_settling and held.task is not None:
                held.is_taken = True
                held.task.cancel()

    async def _drain(self) -> None:
        """Let work under way finish in time; put the rest back."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        if not tasks:
            return
        log.info("worker drains", extra={"jobs": len(tasks)})
        _, late = await asyncio.wait(tasks, timeout=self._pace.drain_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_RELEASE_S + 1)
        for held in list(self._held.values()):  # cancelled before they began
            await self._let_go(held)


async def _extended(ticket: Ticket) -> None:
    with suppress(Unavailable):
        await ticket.extend()


def _as_text(body: bytes) -> JobDraft:
    return JobDraft(INGEST, {"unreadable": ascii(body)[:10_000]}, customer=0)


def _as_it_is(body: bytes) -> JobDraft:
    return _as_text(body)
