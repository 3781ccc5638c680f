"""The worker: every job once, whatever happens; never more than there are slots."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import (
    CatalogUnavailable,
    InvalidInput,
    OriginUnavailable,
    StorageUnavailable,
    Unprocessable,
)
from orchestrator.settings import Database
from tests.support.jobs import (
    FAST,
    LEASES,
    Doing,
    Shop,
    a_draft,
    drafts,
    running,
    sqs_client,
)


async def test_every_job_of_a_batch_is_done_once_and_counted(either: Shop) -> None:
    doing = Doing(seconds=0.01)
    async with either.working(doing):
        recorded = await either.submitter.submit(drafts(30), BatchDraft(1))
        jobs = await either.ended(recorded.ids)
    assert {job.state for job in jobs} == {"done"}
    assert sorted(doing.begun) == list(recorded.ids)
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors) == (30, 0)
    assert batch.finished is not None


async def test_work_fills_the_slots_and_no_more(shop: Shop) -> None:
    doing = Doing(seconds=0.15)
    recorded = await shop.submitter.submit(drafts(16))
    async with shop.working(doing):
        await shop.ended(recorded.ids)
    assert doing.most == FAST.slots == 4


async def test_a_job_starts_a_moment_after_it_is_handed_in(shop: Shop) -> None:
    doing = Doing()
    waits = []
    async with shop.working(doing, replace(FAST, look_s=60)):
        await asyncio.sleep(0.5)
        for _ in range(5):
            before = time.monotonic()
            await shop.submitter.submit([a_draft()])
            done = len(doing.begun) + 1
            while len(doing.begun) < done:
                await asyncio.sleep(0.002)
            waits.append(time.monotonic() - before)
    assert sorted(waits)[2] < 0.3, waits  # measured: 10 ms on a quiet machine


async def test_what_may_pass_is_tried_again_and_counted_once(either: Shop) -> None:
    def fail(job: Job) -> None:
        if job.attempts < 3:
            raise OriginUnavailable("The origin answered 503.", code="origin_unavailable")

    doing = Doing(fail=fail)
    async with either.working(doing):
        recorded = await either.submitter.submit(drafts(2), BatchDraft(1))
        jobs = await either.ended(recorded.ids)
    assert [(job.state, job.attempts) for job in jobs] == [("done", 3)] * 2
    assert Counter(doing.begun) == dict.fromkeys(recorded.ids, 3)
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors, batch.count) == (2, 0, 2)


async def test_what_cannot_pass_is_a_dead_letter_at_once(shop: Shop) -> None:
    def fail(job: Job) -> None:
        if job.id % 2:
            raise Unprocessable("The image is broken.")
        raise OriginUnavailable("Not there.", retryable=False, code="origin_not_found")

    async with shop.working(Doing(fail=fail)):
        recorded = await shop.submitter.submit(drafts(2), BatchDraft(1))
        jobs = await shop.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("failed", 1)}
    faults = [(job.fault.code, job.fault.detail) for job in jobs if job.fault]
    assert faults == [
        ("unprocessable", "The image is broken."),
        ("origin_not_found", "Not there."),
    ]


async def test_what_breaks_down_again_and_again_is_given_up(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job: Job) -> None:
        raise ZeroDivisionError

    async with shop.working(Doing(fail=fail), replace(FAST, max_attempts=3)):
        recorded = await shop.submitter.submit(drafts(1))
        [job] = await shop.ended(recorded.ids)
    assert (job.state, job.attempts) == ("failed", 3)
    assert job.fault is not None
    assert job.fault.code == "internal"
    assert sum(record.exc_info is not None for record in caplog.records) == 3


async def test_a_part_of_ours_that_is_away_costs_no_attempt(shop: Shop) -> None:
    away = 8

    def fail(job: Job) -> None:
        nonlocal away
        if away:
            away -= 1
            raise StorageUnavailable("The object store does not answer.")

    async with shop.working(Doing(fail=fail), replace(FAST, max_attempts=2)):
        recorded = await shop.submitter.submit(drafts(1))
        [job] = await shop.ended(recorded.ids)
    assert (job.state, job.attempts) == ("done", 1)


async def test_a_dead_letter_that_is_retried_is_done(either: Shop) -> None:
    broken = True

    def fail(job: Job) -> None:
        if broken:
            raise Unprocessable("The image is broken.")

    async with either.working(Doing(fail=fail)):
        recorded = await either.submitter.submit(drafts(3), BatchDraft(1))
        await either.ended(recorded.ids)
        broken = False
        assert len(await either.submitter.retry_batch(recorded.batch or 0)) == 3
        assert {job.state for job in await either.ended(recorded.ids)} == {"done"}
    batch = await either.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert (batch.completed, batch.errors) == (3, 0)


async def test_four_of_priority_for_one_of_normal(shop: Shop) -> None:
    recorded = await shop.submitter.submit([*drafts(30), *drafts(30, lane="priority")])
    doing = Doing()
    async with shop.working(doing, replace(FAST, slots=1)):
        await shop.ended(recorded.ids)
    lanes = ["normal" if number in recorded.ids[:30] else "priority" for number in doing.begun]
    assert Counter(lanes[:25]) == {"priority": 20, "normal": 5}


async def test_one_host_is_never_asked_by_more_than_allowed(shop: Shop) -> None:
    doing = Doing(seconds=0.05)
    recorded = await shop.submitter.submit(drafts(12, host="slow.example"))
    pace = replace(FAST, per_host=2)
    async with shop.working(doing, pace), running(shop.worker(doing, pace).run()):
        await shop.ended(recorded.ids)
    assert doing.most == 2


async def test_a_busy_host_holds_no_other_up(shop: Shop) -> None:
    slow, quick = Doing(seconds=2), Doing()

    async def handle(job: Job) -> None:
        await (slow if job.host == "slow.example" else quick)(job)

    await shop.submitter.submit(drafts(8, host="slow.example"))
    recorded = await shop.submitter.submit(drafts(8, host="quick.example"))
    began = time.monotonic()
    async with shop.working(handle, replace(FAST, per_host=1, drain_s=0)):
        await shop.ended(recorded.ids)
    assert time.monotonic() - began < 10
    assert slow.most == 1


async def test_tickets_that_were_lost_hold_no_job_up(shop: Shop, database: Database) -> None:
    recorded = await shop.submitter.submit(drafts(5))
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    await connection.execute("DELETE FROM pgqueuer")
    await connection.close()
    async with shop.working(Doing()):
        await shop.ended(recorded.ids)


async def test_a_delayed_job_is_begun_when_it_is_due(either: Shop) -> None:
    doing = Doing()
    async with either.working(doing):
        [number] = (await either.submitter.submit([a_draft(delay_s=1)])).ids
        [job] = await either.ended([number])
    assert job.started is not None
    assert 0 <= (job.started - job.due).total_seconds() < 3


async def test_a_job_longer_than_the_lease_is_kept_by_heartbeats(either: Shop) -> None:
    doing = Doing(seconds=LEASES["lease_s"] * 2.5)
    async with running(either.sweeper().run()), either.working(doing), either.working(doing):
        recorded = await either.submitter.submit(drafts(3))
        jobs = await either.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("done", 1)}
    assert sorted(doing.begun) == list(recorded.ids)


async def test_a_worker_whose_job_was_taken_stops_it_and_counts_nothing(shop: Shop) -> None:
    doing = Doing(seconds=3)
    async with shop.working(doing, replace(FAST, look_s=60)):
        recorded = await shop.submitter.submit(drafts(1), BatchDraft(1))
        await shop.until(recorded.ids, lambda job: job.state == "running")
        await shop.catalog.claims.recover(0, 99)
        taken = await shop.catalog.claims.claim("other", ["test"], ("normal",), 9)
        assert taken is not None
        async with asyncio.timeout(5):
            while not doing.cancelled:
                await asyncio.sleep(0.02)
        assert (await shop.job(taken.id)).worker == "other"
        assert (await shop.catalog.claims.done(taken)).batch_finished
    batch = await shop.catalog.batches.get(recorded.batch or 0)
    assert batch is not None
    assert batch.completed == 1


async def test_draining_lets_work_finish_and_takes_no_more(either: Shop) -> None:
    doing = Doing(seconds=0.5)
    recorded = await either.submitter.submit(drafts(12))
    async with either.working(doing):
        await either.until(recorded.ids[:4], lambda job: job.state != "queued")
    states = Counter([(await either.job(number)).state for number in recorded.ids])
    assert states["running"] == 0
    assert doing.cancelled == []
    assert sorted(doing.begun) == sorted(doing.ended)
    assert states["done"] == len(doing.ended)


async def test_work_that_takes_too_long_for_a_drain_is_put_back_uncounted(either: Shop) -> None:
    doing = Doing(seconds=30)
    recorded = await either.submitter.submit(drafts(2), BatchDraft(1))
    async with either.working(doing, replace(FAST, drain_s=0.1)):
        await either.until(recorded.ids, lambda job: job.state == "running")
    jobs = [await either.job(number) for number in recorded.ids]
    assert [(job.state, job.attempts) for job in jobs] == [("queued", 0)] * 2
    async with either.working(Doing()):
        assert {job.attempts for job in await either.ended(recorded.ids)} == {1}


async def test_a_queue_that_does_not_answer_is_asked_ever_less_often(
    shop: Shop, database: Database
) -> None:
    asked: list[float] = []

    class Away:
        """The queue, but for an answer."""

        is_transactional = True

        async def run(self) -> None:
            await asyncio.sleep(60)

        async def receive(self, limit: int, wait_s: float) -> list[object]:
            asked.append(time.monotonic())
            raise CatalogUnavailable("The catalogue does not answer.")

    away = replace(shop, queue=Away())  # type: ignore[arg-type]
    async with away.working(Doing()):
        await asyncio.sleep(2.5)
    assert 3 <= len(asked) <= 9  # 0.1 to 0.2 s, then doubled


async def test_a_strangers_message_is_a_job_once(sqs_shop: Shop) -> None:
    address = sqs_shop.settings.jobs.sqs_endpoint
    client = await asyncio.to_thread(sqs_client, address)
    queue = client.get_queue_url(QueueName=sqs_shop.settings.jobs.sqs_priority_queue)["QueueUrl"]
    doing = Doing()

    def intake(body: bytes) -> JobDraft:
        found = json.loads(body)
        return JobDraft(INGEST, found, customer=found["customer"], asset="1/1/x")

    payload = {"customer": 1, "id": "x", "text": "\u00e9"}
    async with sqs_shop.working(doing, intake=intake, kind=INGEST):
        await asyncio.to_thread(
            client.send_message, QueueUrl=queue, MessageBody=json.dumps(payload)
        )
        async with asyncio.timeout(10):
            while not doing.ended:
                await asyncio.sleep(0.02)
        [job] = await sqs_shop.ended(doing.ended)
    assert (job.payload, job.customer, job.lane) == (payload, 1, "priority")
    ticket = _Stranger(b'{"customer": 1}', "the same")
    worker = sqs_shop.worker(doing, intake=intake)
    for _ in range(3):
        await worker._take_in(ticket)
    assert len(await sqs_shop.catalog.jobs.page()) == 2
    client.close()


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"a": "nul \\u0000"}', b"\xff\xfe", b"[" * 10_000], ids=range(5)
)
async def test_any_message_of_a_stranger_becomes_a_job_that_can_be_seen(
    shop: Shop, body: bytes
) -> None:
    def fail(job: Job) -> None:
        raise InvalidInput("Nothing to read.")

    def intake(text: bytes) -> JobDraft:
        try:
            return JobDraft(INGEST, {"found": json.loads(text)}, customer=1)
        except (ValueError, RecursionError):
            return JobDraft(INGEST, {"unreadable": ascii(text)[:1000]}, customer=0)

    worker = shop.worker(Doing(fail=fail), intake=intake, kind=INGEST)
    await worker._take_in(_Stranger(body, "m"))
    async with running(worker.run()):
        [job] = await shop.ended([1])
    assert job.state == "failed"
    assert job.fault is not None
    assert job.fault.code == "invalid_input"


class _Stranger:
    """A ticket of a message that no worker of ours wrote."""

    lane = "normal"

    def __init__(self, body: bytes, message: str) -> None:
        self.body = body
        self.message = message

    async def extend(self) -> None:
        """Nothing."""

    async def done(self) -> None:
        """Nothing."""

    async def put_back(self, delay_s: float = 0.0) -> None:
        """Nothing."""
