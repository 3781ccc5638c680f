"""The queue in SQS: a standard queue for each lane.

Jobs are announced once they are committed. Anybody may post ingest payloads into the queues, too;
such a message is told from ours by its lack of our attribute and is itself the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg

from orchestrator.catalog.batches import Lane
from orchestrator.catalog.jobs import LANES
from orchestrator.errors import QueueUnavailable
from orchestrator.jobs.queue import Announcement
from orchestrator.settings import Jobs
from orchestrator.storage.sqs_client import LONGEST_POLL_S, Message, Sqs, open_queues


@dataclass(frozen=True, slots=True)
class SqsTicket:
    """One message received."""

    received: Message
    lane: Lane
    _queue: Sqs
    _lease_s: float

    @property
    def message(self) -> str:
        """As Ticket.message."""
        return "" if self.received.job else self.received.id

    @property
    def body(self) -> bytes:
        """As Ticket.body."""
        return b"" if self.received.job else self.received.body

    async def extend(self) -> None:
        """As Ticket.extend."""
        await self._queue.hide(self.received, self._lease_s)

    async def done(self) -> None:
        """As Ticket.done."""
        await self._queue.delete(self.received)

    async def put_back(self, delay_s: float = 0.0) -> None:
        """As Ticket.put_back."""
        await self._queue.hide(self.received, delay_s)


class SqsQueue:
    """A JobQueue; `run` polls both lanes at once for whoever waits in `receive`."""

    is_transactional = False

    def __init__(self, queues: Mapping[Lane, Sqs], lease_s: float) -> None:
        self._queues = queues
        self._lease_s = lease_s
        self._wanted = asyncio.Event()
        self._news = asyncio.Event()
        self._arrived: list[tuple[float, SqsTicket]] = []
        self._failure: QueueUnavailable | None = None

    async def run(self) -> None:
        """As JobQueue.run."""
        try:
            async with asyncio.TaskGroup() as polls:
                for lane in self._queues:
                    polls.create_task(self._poll(lane))
        finally:
            for ticket in self._fresh(len(self._arrived)):
                with suppress(QueueUnavailable):
                    await ticket.put_back()

    async def announce(
        self, connection: asyncpg.Connection | None, jobs: Sequence[Announcement]
    ) -> None:
        """As JobQueue.announce."""
        for lane, queue in self._queues.items():
            await queue.send([str(job.job) for job in jobs if job.lane == lane])

    async def receive(self, limit: int, wait_s: float) -> list[SqsTicket]:
        """As JobQueue.receive."""
        tickets = self._fresh(limit) or await self._at_once(limit)
        if not tickets and wait_s > 0:
            await self._wait(wait_s)
            tickets = self._fresh(limit)
        if not tickets and self._failure is not None:
            failure, self._failure = self._failure, None
            raise QueueUnavailable(failure.public) from failure
        return tickets

    async def check(self) -> None:
        """As JobQueue.check."""
        for queue in self._queues.values():
            await queue.check()

    async def tidy(self) -> None:
        """As JobQueue.tidy: SQS forgets by itself."""

    async def _at_once(self, limit: int) -> list[SqsTicket]:
        """What is there now, the priority lane's first."""
        tickets: list[SqsTicket] = []
        for lane, queue in self._queues.items():
            if len(tickets) < limit:
                try:
                    found = await queue.receive(limit - len(tickets), 0, self._lease_s)
                except QueueUnavailable:
                    if not tickets:
                        raise
                    break  # what the lane before gave is hidden from others: it is to be done
                tickets += [self._ticket(lane, message) for message in found]
        return tickets

    async def _wait(self, wait_s: float) -> None:
        if self._arrived:
            return
        self._news.clear()
        self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        self._wanted.clear()

    async def _poll(self, lane: Lane) -> None:
        """Wait in the lane's stead while somebody waits. One message at a time: it may have to lie
        here until somebody asks again.
        """
        while True:
            await self._wanted.wait()
            try:
                found = await self._queues[lane].receive(1, LONGEST_POLL_S, self._lease_s)
            except QueueUnavailable as error:
                self._failure = error
                self._wanted.clear()  # whoever waits is told, and asks again when it wants to
                self._news.set()
                continue
            if found:
                now = asyncio.get_running_loop().time()
                self._arrived.append((now, self._ticket(lane, found[0])))
                self._wanted.clear()
                self._news.set()

    def _fresh(self, limit: int) -> list[SqsTicket]:
        """What arrived while nobody asked, but for what anybody may have by now."""
        now = asyncio.get_running_loop().time()
        fresh = [each for each in self._arrived if now - each[0] < self._lease_s / 2]
        self._arrived = fresh[limit:]
        return [ticket for _, ticket in fresh[:limit]]

    def _ticket(self, lane: Lane, message: Message) -> SqsTicket:
        return SqsTicket(message, lane, self._queues[lane], self._lease_s)


@asynccontextmanager
async def open_sqs(settings: Jobs) -> AsyncIterator[SqsQueue]:
    """The configured queues; nothing is asked of them yet."""
    names: dict[Lane, str] = {
        "priority": settings.sqs_priority_queue,
        "normal": settings.sqs_queue,
    }
    async with open_queues(settings, [names[lane] for lane in LANES]) as queues:
        yield SqsQueue(dict(zip(LANES, queues, strict=True)), settings.lease_s)
