"""SQS: the way in for messages of other systems, and a second way to wake workers.

There is a standard queue for each lane. Our own messages announce jobs that are recorded already;
an attribute marks them. Any other message is work by itself: it is recorded as a job once, then
deleted from SQS.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.batches import Lane
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import INGEST, LANES, JobDraft
from orchestrator.errors import OrchestratorError, Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.jobs.settler import ERROR_FIRST_S, ERROR_LONGEST_S
from orchestrator.settings import Jobs
from orchestrator.storage.sqs_client import LONGEST_POLL_S, MAX_MESSAGES, Message, Sqs, open_queues

log = logging.getLogger(__name__)
HIDDEN_S = 30
"""How long a received message is hidden from other receivers: ample time to record ten jobs. A
message that could not be recorded is received again after it.
"""

DraftOf = Callable[[bytes], JobDraft]
"""Makes a job of another system's message. What cannot be read becomes a job that fails."""


class SqsQueues:
    """The queue of each lane. Every method raises QueueUnavailable."""

    def __init__(self, queues: Mapping[Lane, Sqs]) -> None:
        self.by_lane = dict(queues)

    async def announce(self, jobs: Iterable[tuple[int, Lane]]) -> None:
        """Send messages that wake workers: at most ten for each lane, as each wakes one worker,
        which then claims whatever is due.
        """
        jobs = list(jobs)
        for lane, queue in self.by_lane.items():
            await queue.send(
                [str(job) for job, its_lane in jobs if its_lane == lane][:MAX_MESSAGES]
            )

    async def check(self) -> None:
        """Ask both queues whether they exist."""
        for queue in self.by_lane.values():
            await queue.check()


class SqsReceiver:
    """Receives the messages of both lanes until cancelled."""

    def __init__(
        self, queues: SqsQueues, catalog: Catalog, draft_of: DraftOf, on_job: Callable[[], None]
    ) -> None:
        """`on_job` is called when a message announces a job."""
        self._queues = queues
        self._catalog = catalog
        self._draft_of = draft_of
        self._on_job = on_job
        self._faults = FaultLog(log, "messages not received", "messages received again")

    async def run(self) -> None:
        """Receive until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane, queue in self._queues.by_lane.items():
                tasks.create_task(self._receive(lane, queue))

    async def _receive(self, lane: Lane, queue: Sqs) -> None:
        failures = 0
        while True:
            try:
                for message in await queue.receive(MAX_MESSAGES, LONGEST_POLL_S, HIDDEN_S):
                    await self._accept(lane, message)
                    await queue.delete(message)
            except Unavailable as error:
                failures += 1
                metrics.JOB_QUEUE_ERRORS.inc()
                wait_s = backoff_s(failures, first_s=ERROR_FIRST_S, longest_s=ERROR_LONGEST_S)
                self._faults.report(lane, lane=lane, reason=error.public, retry_s=round(wait_s, 1))
                await asyncio.sleep(wait_s)
            else:
                failures = 0
                self._faults.clear(lane, lane=lane)

    async def _accept(self, lane: Lane, message: Message) -> None:
        """Wake the worker for our own message; record any other one as a job, once however often
        it is received. Raises Unavailable.
        """
        if message.job:
            self._on_job()
            return
        try:
            await self._record(lane, message, self._draft_of(message.body))
        except OrchestratorError as error:
            if isinstance(error, Unavailable):
                raise
            log.warning("message recorded as unreadable", extra={"reason": error.public})
            unreadable = {"unreadable": ascii(message.body)[:10_000]}
            await self._record(lane, message, JobDraft(INGEST, unreadable, customer=0))

    async def _record(self, lane: Lane, message: Message, draft: JobDraft) -> None:
        draft = replace(draft, dedupe=f"message {message.id}", lane=lane)
        async with self._catalog.transaction() as connection:
            await self._catalog.jobs.record(connection, [draft])


async def check_queue(catalog: Catalog, sqs: SqsQueues | None) -> None:
    """Ask for jobs in the database, and whether the SQS queues exist. Raises CatalogUnavailable,
    QueueUnavailable.
    """
    await catalog.claims.next_due_s([])
    if sqs is not None:
        await sqs.check()


@asynccontextmanager
async def open_sqs(settings: Jobs) -> AsyncIterator[SqsQueues | None]:
    """The configured queues, or None without SQS; nothing is sent to them yet."""
    if settings.kind != "sqs":
        yield None
        return
    names: dict[Lane, str] = {
        "priority": settings.sqs_priority_queue,
        "normal": settings.sqs_queue,
    }
    async with open_queues(settings, [names[lane] for lane in LANES]) as queues:
        yield SqsQueues(dict(zip(LANES, queues, strict=True)))
