"""A queue that is away, or hangs, holds up nothing that the table knows how to go on with."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestrator.catalog.jobs import LANES
from orchestrator.errors import QueueUnavailable
from orchestrator.jobs.sqs_queue import SqsQueue
from orchestrator.jobs.submitter import Submitter
from tests.support.jobs import FAST, KIND, LEASES, Doing, Shop, a_draft, drafts, running

AWAY = QueueUnavailable("The queue does not answer.")


@dataclass
class Hanging:
    """A queue that gave a ticket for each job and answers nothing since; also its tickets."""

    tickets: int = 0
    is_transactional: bool = False
    lane: str = "normal"
    message: str = ""
    body: bytes = b""
    extended: list[float] = field(default_factory=list)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def receive(self, limit: int, wait_s: float) -> list[Hanging]:
        given, self.tickets = min(self.tickets, limit), max(self.tickets - limit, 0)
        if not given:
            await asyncio.sleep(wait_s)
        return [self] * given

    async def announce(self, connection: object, jobs: object) -> None:
        raise AWAY

    async def extend(self) -> None:
        self.extended.append(time.monotonic())
        await asyncio.Event().wait()

    async def done(self) -> None:
        raise AWAY

    async def put_back(self, delay_s: float = 0.0) -> None:
        raise AWAY


@dataclass
class Lane:
    """One SQS queue; `answer` is what it gives, or raises."""

    answer: Any

    async def receive(self, limit: int, wait_s: float, hidden_s: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_claims_are_kept_while_the_leases_of_the_queue_hang(shop: Shop) -> None:
    queue = Hanging(tickets=3)
    doing = Doing(seconds=LEASES["lease_s"] * 2.5)
    recorded = await shop.submitter.submit(drafts(3))
    odd: Any = replace(shop, queue=queue)
    async with running(shop.sweeper().run()), odd.working(doing):
        jobs = await shop.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("done", 1)}
    assert len(queue.extended) >= 2 * len(jobs)  # all of them, and again


@pytest.mark.parametrize("first", [[], AWAY], ids=["empty", "away"])
async def test_a_queue_that_is_away_is_no_reason_to_leave_work_undone(
    shop: Shop, first: Any
) -> None:
    queue: Any = SqsQueue({"priority": Lane(first), "normal": Lane(AWAY)}, 10)  # type: ignore[dict-item]
    recorded = await shop.submitter.submit(drafts(6))
    async with replace(shop, queue=queue).working(Doing(), replace(FAST, look_s=60)):
        await shop.ended(recorded.ids, 15)


async def test_what_one_lane_gave_is_done_although_the_other_is_away() -> None:
    given: Any = object()
    queue = SqsQueue({"priority": Lane([given]), "normal": Lane(AWAY)}, 10)  # type: ignore[dict-item]
    [ticket] = await queue.receive(5, 0)
    assert ticket.received is given


class Stuck(Hanging):
    """A queue in which an announcement hangs until `answer`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def announce(self, connection: object, jobs: object) -> None:
        self.asked.set()
        await self.answer.wait()


@pytest.mark.parametrize("what", ["posted", "swept"])
async def test_nothing_of_the_database_is_held_while_the_queue_takes_its_time(
    shop: Shop, what: str
) -> None:
    queue = Stuck()
    submitter = Submitter(shop.catalog, queue)  # type: ignore[arg-type]
    if what == "swept":
        async with shop.catalog.transaction() as connection:
            await shop.catalog.jobs.record(connection, drafts(2))
        telling = asyncio.ensure_future(submitter.announce_rest())
    else:
        telling = asyncio.ensure_future(submitter.submit(drafts(2)))  # type: ignore[arg-type]
    await queue.asked.wait()
    pool = shop.catalog._pool._pool
    assert pool.get_idle_size() == pool.get_size()
    assert (await submitter.cancel(1)).state == "cancelled"
    assert await shop.catalog.claims.claim("w", [KIND], LANES, 9) is not None
    queue.answer.set()
    await telling
    assert await submitter.announce_rest() == 0


async def test_who_has_nothing_to_announce_does_not_speak_to_the_queue(shop: Shop) -> None:
    queue = Stuck()
    submitter = Submitter(shop.catalog, queue)  # type: ignore[arg-type]
    await submitter.submit([])
    assert await submitter.announce_rest() == 0
    assert not queue.asked.is_set()


async def test_jobs_of_silent_workers_are_taken_while_the_queue_is_away(shop: Shop) -> None:
    odd: Any = replace(shop, submitter=type(shop.submitter)(shop.catalog, Hanging()))  # type: ignore[arg-type]
    recorded = await odd.submitter.submit([a_draft()])
    await odd.submitter.submit([a_draft(kind="other")])  # waits, and cannot be announced
    async with running(odd.sweeper(every_s=0.05).run()):
        for _ in range(2):  # however often
            assert await shop.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
            await shop.until(recorded.ids, lambda job: job.state == "queued", 10)
