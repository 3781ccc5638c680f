"""SQS that does not answer, or answers late, delays no job that is recorded in the database."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.catalog.jobs import INGEST, LANES, JobDraft
from orchestrator.errors import InvalidInput, QueueUnavailable
from orchestrator.jobs.sqs_queues import SqsQueues, SqsReceiver
from orchestrator.jobs.submitter import Submitter
from orchestrator.storage.sqs_client import Message
from tests.support.jobs import FAST, KIND, JobSystem, RecordingHandler, drafts, running
from tests.support.patience import patience

AWAY = QueueUnavailable("The queue does not answer.")


class FakeQueue:
    """The queue of a lane that gives `messages`, once, and then does not answer.

    `answer`, if given, must be set before an announcement returns.
    """

    def __init__(self, *messages: Message, answer: asyncio.Event | None = None) -> None:
        self.messages = list(messages)
        self.deleted: list[Message] = []
        self.is_asked = asyncio.Event()
        self.answer = answer

    async def receive(self, limit: int, wait_s: float, hidden_s: int) -> list[Message]:
        messages, self.messages = self.messages, []
        if not messages:
            raise AWAY
        return messages

    async def delete(self, message: Message) -> None:
        self.deleted.append(message)

    async def send(self, jobs: list[str]) -> None:
        if jobs:
            self.is_asked.set()
            if self.answer is None:
                raise AWAY
            await self.answer.wait()


def queues(normal: FakeQueue, priority: FakeQueue | None = None) -> SqsQueues:
    lanes: Any = {"priority": priority or FakeQueue(), "normal": normal}
    return SqsQueues(lanes)


def a_message(body: bytes, mark: str = "m", job: str = "") -> Message:
    return Message(mark, f"receipt of {mark}", body, job)


def draft_of(body: bytes) -> JobDraft:
    try:
        return JobDraft(INGEST, {"text": json.loads(body)}, customer=1)
    except (ValueError, RecursionError):
        return JobDraft(INGEST, {"unreadable": ascii(body)[:1000]}, customer=0)


async def test_a_worker_goes_on_while_sqs_is_away(system: JobSystem) -> None:
    odd = replace(system, sqs=queues(FakeQueue()))
    recorded = await system.submitter.submit(drafts(6))
    async with odd.working(RecordingHandler(), replace(FAST, slots=2, look_s=60)):
        await system.ended(recorded.ids, 15)


async def test_what_one_lane_gives_is_recorded_although_the_other_is_away(
    system: JobSystem,
) -> None:
    priority = FakeQueue(a_message(b"1"))
    receiver = SqsReceiver(queues(FakeQueue(), priority), system.catalog, draft_of, lambda: None)
    async with running(receiver.run()), asyncio.timeout(10 * patience()):
        while not priority.deleted:
            await asyncio.sleep(0.02)
    [job] = await system.catalog.jobs.page()
    assert (job.payload, job.lane) == ({"text": 1}, "priority")


async def test_our_own_message_wakes_the_worker_and_is_deleted(system: JobSystem) -> None:
    queue, is_woken = FakeQueue(a_message(b'{"job": 7}', job="7")), asyncio.Event()
    receiver = SqsReceiver(queues(queue), system.catalog, draft_of, is_woken.set)
    async with running(receiver.run()), asyncio.timeout(10 * patience()):
        await is_woken.wait()
        while not queue.deleted:
            await asyncio.sleep(0.02)
    assert await system.catalog.jobs.page() == []


async def test_a_message_received_often_is_one_job(system: JobSystem) -> None:
    copies = [a_message(b"1", "the same") for _ in range(3)]
    queue = FakeQueue(*copies, a_message(b"1", "another"))
    receiver = SqsReceiver(queues(queue), system.catalog, draft_of, lambda: None)
    async with running(receiver.run()), asyncio.timeout(10 * patience()):
        while len(queue.deleted) < 4:
            await asyncio.sleep(0.02)
    assert len(await system.catalog.jobs.page()) == 2


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"a": "nul \\u0000"}', b"\xff\xfe", b"[" * 10_000], ids=range(5)
)
async def test_an_unreadable_message_becomes_a_job_that_fails(
    system: JobSystem, body: bytes
) -> None:
    def fail(_job: object) -> None:
        raise InvalidInput("The message cannot be read.")

    odd = replace(system, sqs=queues(FakeQueue(a_message(body))))
    handler = RecordingHandler(fail=fail)
    async with odd.working(handler, kind=INGEST, draft_of=draft_of):
        async with asyncio.timeout(10 * patience()):
            while not await system.catalog.jobs.page():
                await asyncio.sleep(0.02)
        [job] = await system.ended([1])
    assert job.state == "failed"
    assert job.fault is not None
    assert job.fault.code == "invalid_input"


async def test_a_submission_holds_nothing_of_the_database_while_sqs_takes_its_time(
    system: JobSystem,
) -> None:
    answer = asyncio.Event()
    queue = FakeQueue(answer=answer)
    submitter = Submitter(system.catalog, queues(queue))
    submission = asyncio.ensure_future(submitter.submit(drafts(2)))
    await queue.is_asked.wait()
    pool = system.catalog._pool._pool
    assert pool.get_idle_size() == pool.get_size()
    assert (await submitter.cancel(1)).state == "cancelled"
    assert await system.catalog.claims.claim("w", [KIND], LANES, 9) is not None
    answer.set()
    await submission


async def test_a_submission_succeeds_although_sqs_is_away(system: JobSystem) -> None:
    submitter = Submitter(system.catalog, queues(FakeQueue()))
    [job, _] = (await submitter.submit(drafts(2))).ids
    assert (await system.job(job)).state == "queued"
    await submitter.cancel(job)
    assert (await submitter.retry(job)).state == "queued"


async def test_a_submission_without_jobs_does_not_ask_sqs(system: JobSystem) -> None:
    queue = FakeQueue()
    await Submitter(system.catalog, queues(queue)).submit([])
    assert not queue.is_asked.is_set()
