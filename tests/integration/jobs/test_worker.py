"""The worker runs each job once and never more jobs than it has slots."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import (
    CatalogUnavailable,
    Damaged,
    OriginUnavailable,
    StorageUnavailable,
)
from orchestrator.jobs.worker_loop import Worker
from orchestrator.work_context import WorkContext, work_context, working_for
from tests.support.jobs import (
    FAST,
    KIND,
    LEASES,
    JobSystem,
    RecordingHandler,
    a_draft,
    drafts,
    running,
    sqs_client,
)
from tests.support.patience import patience


async def test_every_job_of_a_batch_runs_once_and_is_counted(either: JobSystem) -> None:
    handler = RecordingHandler(seconds=0.01)
    async with either.working(handler):
        recorded = await either.submitter.submit(drafts(30), BatchDraft(1))
        jobs = await either.ended(recorded.ids)
    assert {job.state for job in jobs} == {"done"}
    assert sorted(handler.started) == list(recorded.ids)
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors) == (30, 0)
    assert batch.finished is not None


async def test_a_worker_fills_its_slots_and_no_more(system: JobSystem) -> None:
    handler = RecordingHandler(seconds=0.8 * patience())
    recorded = await system.submitter.submit(drafts(10))
    async with system.working(handler):
        await system.ended(recorded.ids)
    assert handler.most_at_once == FAST.slots == 4


async def test_a_job_starts_a_moment_after_it_is_submitted(system: JobSystem) -> None:
    handler = RecordingHandler()
    waits = []
    async with system.working(handler, replace(FAST, look_s=60)):
        await asyncio.sleep(0.5)
        for _ in range(5):
            before, expected = time.monotonic(), len(handler.started) + 1
            await system.submitter.submit([a_draft()])  # the job may start before this returns
            async with asyncio.timeout(20 * patience()):
                while len(handler.started) < expected:
                    await asyncio.sleep(0.002)
            waits.append(time.monotonic() - before)
    assert sorted(waits)[2] < 0.3 * patience(), waits  # measured: 10 ms on a quiet machine


async def test_a_job_that_fails_for_a_while_is_retried_and_counted_once(either: JobSystem) -> None:
    def fail(job: Job) -> None:
        if job.attempts < 3:
            raise OriginUnavailable("The origin answered 503.", code="origin_unavailable")

    handler = RecordingHandler(fail=fail)
    async with either.working(handler):
        recorded = await either.submitter.submit(drafts(2), BatchDraft(1))
        jobs = await either.ended(recorded.ids)
    assert [(job.state, job.attempts) for job in jobs] == [("done", 3)] * 2
    assert Counter(handler.started) == dict.fromkeys(recorded.ids, 3)
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors, batch.count) == (2, 0, 2)


async def test_a_job_that_cannot_succeed_is_a_dead_letter_at_once(system: JobSystem) -> None:
    def fail(job: Job) -> None:
        if job.id % 2:
            raise Damaged("The image is broken.")
        raise OriginUnavailable("Not there.", retryable=False, code="origin_not_found")

    async with system.working(RecordingHandler(fail=fail)):
        recorded = await system.submitter.submit(drafts(2), BatchDraft(1))
        jobs = await system.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("failed", 1)}
    faults = [(job.fault.code, job.fault.detail) for job in jobs if job.fault]
    assert faults == [
        ("damaged", "The image is broken."),
        ("origin_not_found", "Not there."),
    ]


async def test_a_job_whose_handler_always_breaks_becomes_a_dead_letter(
    system: JobSystem, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job: Job) -> None:
        raise ZeroDivisionError

    async with system.working(RecordingHandler(fail=fail), replace(FAST, max_attempts=3)):
        recorded = await system.submitter.submit(drafts(1))
        [job] = await system.ended(recorded.ids)
    assert (job.state, job.attempts) == ("failed", 3)
    assert job.fault is not None
    assert job.fault.code == "internal"
    assert sum(record.exc_info is not None for record in caplog.records) == 3


async def test_an_outage_of_the_installation_costs_no_attempt(system: JobSystem) -> None:
    away = 8

    def fail(job: Job) -> None:
        nonlocal away
        if away:
            away -= 1
            raise StorageUnavailable("The object store does not answer.")

    async with system.working(RecordingHandler(fail=fail), replace(FAST, max_attempts=2)):
        recorded = await system.submitter.submit(drafts(1))
        [job] = await system.ended(recorded.ids)
    assert (job.state, job.attempts) == ("done", 1)


async def test_a_retried_dead_letter_is_done(either: JobSystem) -> None:
    broken = True

    def fail(job: Job) -> None:
        if broken:
            raise Damaged("The image is broken.")

    async with either.working(RecordingHandler(fail=fail)):
        recorded = await either.submitter.submit(drafts(3), BatchDraft(1))
        await either.ended(recorded.ids)
        broken = False
        assert len(await either.submitter.retry_batch(recorded.batch or 0)) == 3
        assert {job.state for job in await either.ended(recorded.ids)} == {"done"}
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors) == (3, 0)


async def test_four_priority_jobs_run_for_each_normal_one(system: JobSystem) -> None:
    recorded = await system.submitter.submit([*drafts(30), *drafts(30, lane="priority")])
    handler = RecordingHandler()
    async with system.working(handler, replace(FAST, slots=1)):
        await system.ended(recorded.ids)
    lanes = ["normal" if number in recorded.ids[:30] else "priority" for number in handler.started]
    assert Counter(lanes[:25]) == {"priority": 20, "normal": 5}


async def test_jobs_of_one_host_never_exceed_its_limit_with_two_workers(system: JobSystem) -> None:
    handler = RecordingHandler(seconds=0.2)
    recorded = await system.submitter.submit(drafts(12, host="slow.example"))
    options = replace(FAST, per_host=2)
    async with system.working(handler, options), running(system.worker(handler, options).run()):
        await system.ended(recorded.ids)
    assert handler.most_at_once == 2


async def test_a_busy_host_delays_no_other_host(system: JobSystem) -> None:
    slow, quick = RecordingHandler(seconds=600), RecordingHandler()

    async def handle(job: Job) -> None:
        await (slow if job.host == "slow.example" else quick)(job)

    await system.submitter.submit(drafts(8, host="slow.example"))
    recorded = await system.submitter.submit(drafts(8, host="quick.example"))
    async with system.working(handle, replace(FAST, per_host=1, drain_s=0)):
        await system.ended(recorded.ids)
    assert slow.most_at_once == 1


async def test_a_job_longer_than_the_lease_is_kept_by_heartbeats(either: JobSystem) -> None:
    lease_s = 4 * LEASES["lease_s"]
    handler = RecordingHandler(seconds=1.5 * lease_s)
    sweeper = either.sweeper(lease_s=lease_s)
    async with running(sweeper.run()), either.working(handler), either.working(handler):
        recorded = await either.submitter.submit(drafts(3))
        jobs = await either.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("done", 1)}
    assert sorted(handler.started) == list(recorded.ids)


async def test_a_worker_that_lost_a_claim_cancels_the_job_and_counts_nothing(
    system: JobSystem,
) -> None:
    handler = RecordingHandler(seconds=600)
    async with system.working(handler, replace(FAST, slots=1)):
        recorded = await system.submitter.submit(drafts(1), BatchDraft(1))
        await system.until(recorded.ids, lambda job: job.state == "running")
        reclaimed = await give_to_another_worker(system, recorded.ids[0])
        async with asyncio.timeout(20 * patience()):
            while not handler.cancelled:
                await asyncio.sleep(0.02)
        assert (await system.job(reclaimed.id)).worker == "other"
        assert (await system.catalog.claims.complete(reclaimed)).batch_finished
    batch = await system.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert batch.completed == 1


async def test_a_job_whose_claim_is_lost_is_cancelled_once_and_cleans_up(
    system: JobSystem,
) -> None:
    cleaned = []

    async def handle(job: Job) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(LEASES["heartbeat_s"] * 5)
            cleaned.append(job.id)

    async with system.working(handle, replace(FAST, slots=1)):
        recorded = await system.submitter.submit(drafts(1))
        await system.until(recorded.ids, lambda job: job.state == "running")
        await give_to_another_worker(system, recorded.ids[0])
        async with asyncio.timeout(20 * patience()):
            while not cleaned:
                await asyncio.sleep(0.02)


async def give_to_another_worker(system: JobSystem, number: int) -> Job:
    """Change the owner of a running job at once: between two statements its worker could find the
    job lost, and claim it again.
    """
    async with system.catalog.connection() as connection:
        await connection.execute("UPDATE jobs SET worker = 'other' WHERE id = $1", number)
    return await system.job(number)


async def test_a_worker_that_claims_its_own_lost_job_again_cancels_the_first_run(
    system: JobSystem,
) -> None:
    handler = RecordingHandler(seconds=600)
    async with system.working(handler, replace(FAST, heartbeat_s=60)):
        recorded = await system.submitter.submit(drafts(1))
        async with asyncio.timeout(10 * patience()):
            while not handler.started:
                await asyncio.sleep(0.02)
        handler.seconds = 0  # of the second run
        await system.catalog.claims.recover(0, 99)
        [job] = await system.ended(recorded.ids)
    assert (job.state, job.attempts) == ("done", 2)
    assert (len(handler.started), len(handler.cancelled), len(handler.ended)) == (2, 1, 1)


async def test_draining_finishes_running_jobs_and_claims_no_more(either: JobSystem) -> None:
    handler = RecordingHandler(seconds=0.5)
    recorded = await either.submitter.submit(drafts(12))
    async with either.working(handler):
        await either.until(recorded.ids[:4], lambda job: job.state != "queued")
    states = Counter([(await either.job(number)).state for number in recorded.ids])
    assert states["running"] == 0
    assert handler.cancelled == []
    assert sorted(handler.started) == sorted(handler.ended)
    assert states["done"] == len(handler.ended)


async def test_a_job_that_outlasts_the_drain_is_released_and_not_counted(
    either: JobSystem,
) -> None:
    handler = RecordingHandler(seconds=30)
    recorded = await either.submitter.submit(drafts(2), BatchDraft(1))
    async with either.working(handler, replace(FAST, drain_s=0.1)):
        await either.until(recorded.ids, lambda job: job.state == "running")
    jobs = [await either.job(number) for number in recorded.ids]
    assert [(job.state, job.attempts) for job in jobs] == [("queued", 0)] * 2
    async with either.working(RecordingHandler()):
        assert {job.attempts for job in await either.ended(recorded.ids)} == {1}


async def test_a_job_whose_claim_is_under_way_when_the_worker_stops_is_released(
    system: JobSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, may_return = system.catalog.claims.claim, asyncio.Event()

    async def claim_slowly(*arguments: Any) -> Job | None:
        job = await claim(*arguments)
        await may_return.wait()
        return job

    monkeypatch.setattr(system.catalog.claims, "claim", claim_slowly)
    recorded = await system.submitter.submit(drafts(1))
    handler = RecordingHandler()
    async with system.working(handler):
        await system.until(recorded.ids, lambda job: job.state == "running")
        # The end of the block stops the worker before the event loop turns again.
        asyncio.get_running_loop().call_soon(may_return.set)
    [job] = [await system.job(number) for number in recorded.ids]
    assert (job.state, job.attempts, handler.started) == ("queued", 0, [])


async def test_a_database_that_does_not_answer_is_asked_ever_less_often(
    system: JobSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    async def away(*_: object) -> None:
        asked.append(time.monotonic())
        raise CatalogUnavailable("The catalogue does not answer.")

    monkeypatch.setattr(system.catalog.claims, "claim", away)
    async with system.working(RecordingHandler()):
        for _ in range(25):
            await asyncio.sleep(0.1)
            await system.submitter.submit([a_draft()])  # notices do not make it ask more often
    assert 3 <= len(asked) <= 9  # 0.1 to 0.2 s, then doubled


async def test_a_message_of_another_system_is_run_as_a_job(sqs_system: JobSystem) -> None:
    address = sqs_system.settings.jobs.sqs_endpoint
    client = await asyncio.to_thread(sqs_client, address)
    queue = client.get_queue_url(QueueName=sqs_system.settings.jobs.sqs_priority_queue)["QueueUrl"]
    handler = RecordingHandler()

    def draft_of(body: bytes) -> JobDraft:
        content = json.loads(body)
        return JobDraft(INGEST, content, customer=content["customer"], asset="1/1/x")

    payload = {"customer": 1, "id": "x", "text": "\u00e9"}
    async with sqs_system.working(handler, draft_of=draft_of, kind=INGEST):
        await asyncio.to_thread(
            client.send_message, QueueUrl=queue, MessageBody=json.dumps(payload)
        )
        async with asyncio.timeout(10 * patience()):
            while not handler.ended:
                await asyncio.sleep(0.02)
        [job] = await sqs_system.ended(handler.ended)
    assert (job.payload, job.customer, job.lane) == (payload, 1, "priority")
    client.close()


async def test_a_worker_claims_nothing_while_it_is_closed(system: JobSystem) -> None:
    closed_s = [0.2]
    handler = RecordingHandler(fail=lambda _job: closed_s.append(0.2))
    options = replace(FAST, slots=1)  # it looks for the next job when the first one has closed it
    worker = Worker(system.catalog.claims, {KIND: handler}, options, closed_s=lambda: closed_s[-1])
    first = await system.submitter.submit([a_draft()])
    async with running(worker.run()):
        for _ in range(3):
            worker.wake()
            await asyncio.sleep(0.1)
        assert handler.started == []
        closed_s.append(0)
        await system.ended(first.ids)
        second = await system.submitter.submit([a_draft(1)])
        worker.wake()
        await asyncio.sleep(0.3)
    assert handler.started == list(first.ids)
    assert (await system.job(second.ids[0])).state == "queued"


async def test_jobs_that_wait_for_a_window_are_due_at_its_opening(system: JobSystem) -> None:
    claims = system.catalog.claims
    waiting = await system.submitter.submit([a_draft()])
    other = await system.submitter.submit([a_draft(kind="other")])
    await system.catalog.due_times.delay([KIND], 3600)
    due_s = await claims.next_due_s([KIND])
    assert due_s is not None
    assert 3590 < due_s <= 3600
    assert (await claims.next_due_s(["other"]) or 0) <= 0
    await system.catalog.due_times.delay([KIND], 0)
    assert (await claims.next_due_s([KIND]) or 0) <= 0
    assert len({*waiting.ids, *other.ids}) == 2


async def test_a_job_and_the_jobs_it_submits_run_for_the_request_that_caused_them(
    system: JobSystem,
) -> None:
    contexts: list[WorkContext] = []
    following: list[int] = []

    async def handler(job: Job) -> None:
        contexts.append(work_context())
        if job.id in recorded.ids:  # the next job may start before its number is known here
            following.extend((await system.submitter.submit([a_draft(1)])).ids)

    with working_for(WorkContext("abc-1")):
        recorded = await system.submitter.submit([a_draft()])
    async with system.working(handler):
        await system.ended(recorded.ids)
        [next_job] = await system.ended(following)
    assert next_job.request_id == "abc-1"
    assert contexts == [WorkContext("abc-1", job=number) for number in (*recorded.ids, *following)]
