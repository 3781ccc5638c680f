"""Jobs and batches in the catalogue: the order of claims, and exact counts under concurrency."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import asyncpg
import pytest

from orchestrator.catalog.batches import Backlog, Batch, BatchDraft, Lane
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import LANES, Job, JobDraft, RecordedJobs
from orchestrator.errors import Conflict, Fault, NotFound
from orchestrator.settings import Database
from tests.support.jobs import KIND, a_draft, drafts
from tests.support.patience import patience

FAULT = Fault("origin_timeout", "fetch", retryable=True, detail="Too slow.")
NORMAL_FIRST: tuple[Lane, ...] = ("normal", "priority")


@pytest.fixture
async def catalog(catalog: Catalog) -> Catalog:
    """A catalogue with customers 1, 2 and 3."""
    for number in (1, 2, 3):
        await catalog.customers.ensure(number, f"customer {number} x")
    return catalog


async def record(
    catalog: Catalog, job_drafts: list[JobDraft], batch: BatchDraft | None = None
) -> RecordedJobs:
    async with catalog.transaction() as connection:
        return await catalog.jobs.record(connection, job_drafts, batch)


async def claim(catalog: Catalog, worker: str = "w", per_host: int = 100) -> Job | None:
    return await catalog.claims.claim(worker, [KIND], LANES, per_host)


async def claim_one(catalog: Catalog, worker: str = "w") -> Job:
    job = await claim(catalog, worker)
    assert job is not None
    return job


async def batch_of(catalog: Catalog, batch: int | None) -> Batch:
    found = await catalog.batches.get(batch or 0)
    assert found is not None
    return found


async def test_a_job_is_recorded_claimed_once_and_settled(catalog: Catalog) -> None:
    [number] = (await record(catalog, [a_draft(7, host="h", asset="1/1/a")])).ids
    job = await claim_one(catalog, "w1")
    assert (job.id, job.state, job.attempts, job.worker) == (number, "running", 1, "w1")
    assert (job.payload, job.host, job.asset, job.batch) == ({"number": 7}, "h", "1/1/a", None)
    assert await claim(catalog) is None
    assert (await catalog.claims.complete(job)).was_ours
    now = await catalog.jobs.get(number)
    assert now is not None
    assert (now.state, now.fault) == ("done", None)
    assert now.finished is not None


async def test_only_jobs_of_the_given_kinds_are_claim_one(catalog: Catalog) -> None:
    await record(catalog, [a_draft(kind="other")])
    assert await claim(catalog) is None
    assert await catalog.claims.claim("w", ["other"], LANES, 1) is not None


async def test_a_job_that_is_not_due_waits(catalog: Catalog) -> None:
    delay_s = 2 * patience()
    await record(catalog, [a_draft(0, delay_s=delay_s)])
    assert await claim(catalog) is None
    due_s = await catalog.claims.next_due_s([KIND])
    assert due_s is not None
    assert 0 < due_s <= delay_s
    assert await catalog.claims.next_due_s(["other"]) is None
    await asyncio.sleep(delay_s)
    assert await claim(catalog) is not None
    assert await catalog.claims.next_due_s([KIND]) is None


@pytest.mark.parametrize("first", [LANES, NORMAL_FIRST], ids=["priority", "normal"])
async def test_a_claim_takes_a_job_of_the_first_lane_that_has_one(
    catalog: Catalog, first: tuple[Lane, ...]
) -> None:
    await record(catalog, [a_draft(lane=lane) for lane in ("normal", "priority") for _ in range(2)])
    got = [await catalog.claims.claim("w", [KIND], first, 9) for _ in range(4)]
    assert [job and job.lane for job in got] == [lane for lane in first for _ in range(2)]


async def test_the_customer_whose_last_turn_is_longest_ago_is_next(catalog: Catalog) -> None:
    await record(catalog, drafts(20, customer=1) + drafts(3, customer=2) + drafts(3, customer=3))
    got = [await claim_one(catalog) for _ in range(9)]
    assert Counter(job.customer for job in got) == {1: 3, 2: 3, 3: 3}
    await record(catalog, drafts(1, customer=2))
    assert [(await claim_one(catalog)).customer for _ in range(2)] == [1, 2]


async def test_a_customer_has_its_turn_after_one_job_of_another_that_came_before(
    catalog: Catalog,
) -> None:
    """With one worker, so that nothing runs at the moment of a claim."""
    await record(catalog, drafts(60, customer=1))
    for _ in range(5):
        await catalog.claims.complete(await claim_one(catalog))
    await record(catalog, drafts(1, customer=2))
    assert (await claim_one(catalog)).customer == 2


async def test_customers_with_enough_jobs_are_passed_over(catalog: Catalog) -> None:
    await record(catalog, drafts(2, customer=1) + drafts(1, customer=2))
    jobs = [await catalog.claims.claim("w", [KIND], LANES, 9, without=[1]) for _ in range(2)]
    assert [job and job.customer for job in jobs] == [2, None]


async def test_a_job_that_has_fetched_its_original_does_not_count_for_its_host(
    catalog: Catalog,
) -> None:
    await record(catalog, drafts(3, host="h"))
    first = await claim(catalog, per_host=1)
    assert first is not None
    assert await claim(catalog, per_host=1) is None
    await catalog.claims.record_fetched(first)
    assert await claim(catalog, per_host=1) is not None
    assert await claim(catalog, per_host=1) is None


async def test_the_jobs_of_a_customer_are_claimed_in_their_order(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(5))
    assert tuple([(await claim_one(catalog)).id for _ in range(5)]) == recorded.ids


async def test_jobs_of_one_host_never_exceed_the_limit_with_concurrent_claims(
    catalog: Catalog,
) -> None:
    await record(catalog, drafts(30, host="slow") + drafts(4, host="quick") + drafts(3))

    async def take(worker: int) -> list[Job]:
        found = []
        while (job := await claim(catalog, f"w{worker}", per_host=2)) is not None:
            found.append(job)
        return found

    got = [job for some in await asyncio.gather(*(take(n) for n in range(6))) for job in some]
    assert Counter(job.host for job in got) == {"slow": 2, "quick": 2, "": 3}
    slow = next(job for job in got if job.host == "slow")
    await catalog.claims.postpone(slow, 0)
    again = await claim(catalog, per_host=2)
    assert again is not None
    assert again.host == "slow"


async def test_one_job_of_an_asset_runs_and_the_others_delay_no_other_asset(
    catalog: Catalog,
) -> None:
    job_drafts = [*drafts(3, asset="1/1/slow"), a_draft(asset="1/1/quick"), *drafts(2)]
    recorded = await record(catalog, job_drafts)
    first = await claim_one(catalog)
    others = [(await claim_one(catalog)).id for _ in range(3)]
    assert (first.id, *others) == (recorded.ids[0], *recorded.ids[3:])
    assert await claim(catalog) is None
    await catalog.claims.complete(first)
    assert (await claim_one(catalog)).id == recorded.ids[1]


async def test_a_job_keeps_the_time_of_its_first_start_until_a_person_retries_it(
    catalog: Catalog,
) -> None:
    await record(catalog, drafts(1))
    first = await claim_one(catalog)
    await catalog.claims.postpone(first, 0, FAULT)
    again = await claim_one(catalog)
    assert first.begun == again.begun is not None
    await catalog.claims.fail(again, FAULT)
    assert (await catalog.retries.retry_job(first.id)).begun is None
    retried = await claim_one(catalog)
    assert retried.begun is not None
    assert retried.begun > first.begun


async def test_concurrent_workers_never_claim_the_same_job(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(200))

    async def take(worker: int) -> list[int]:
        found = []
        while (job := await claim(catalog, f"w{worker}")) is not None:
            found.append(job.id)
        return found

    got = [job for some in await asyncio.gather(*(take(n) for n in range(8))) for job in some]
    assert sorted(got) == list(recorded.ids)


async def test_a_client_that_hangs_in_a_claim_delays_no_other(
    catalog: Catalog, database: Database
) -> None:
    await record(catalog, drafts(3))
    other = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        async with other.transaction():
            await other.fetch("SELECT * FROM jobs ORDER BY id LIMIT 1 FOR UPDATE")
            assert (await claim_one(catalog)).id == 2
    finally:
        await other.close()


async def test_the_counts_of_a_batch_are_exact_and_it_finishes_once(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(60), BatchDraft(1))
    finished = 0

    async def work(worker: int) -> None:
        nonlocal finished
        while (job := await claim(catalog, f"w{worker}")) is not None:
            ends = [
                catalog.claims.fail(job, FAULT) if job.id % 3 == 0 else catalog.claims.complete(job)
            ]
            ends += [
                catalog.claims.complete(job),
                catalog.claims.fail(job, FAULT),
            ]  # and races itself
            settled = await asyncio.gather(*ends)
            assert sum(each.was_ours for each in settled) == 1
            finished += sum(each.batch_finished for each in settled)

    await asyncio.gather(*(work(n) for n in range(6)))
    batch = await batch_of(catalog, recorded.batch)
    assert batch.completed + batch.errors == batch.count == 60
    assert batch.finished is not None
    assert batch.estimate is None
    assert finished == 1
    states = Counter(job.state for job in await catalog.jobs.page(100, batch=recorded.batch))
    assert states == {"done": batch.completed, "failed": batch.errors}


async def test_a_lost_claim_cannot_be_settled(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(1), BatchDraft(1))
    slow = await claim_one(catalog, "slow")
    assert (await catalog.claims.recover(0, 5)).requeued == recorded.ids
    assert await catalog.claims.heartbeat([slow]) == frozenset()
    quick = await claim_one(catalog, "quick")
    assert quick.attempts == 2
    assert not (await catalog.claims.complete(slow)).was_ours
    assert not (await catalog.claims.fail(slow, FAULT)).was_ours
    assert not await catalog.claims.postpone(slow, 0)
    assert await catalog.claims.heartbeat([slow, quick]) == {quick.id}
    assert (await catalog.claims.complete(quick)).batch_finished
    assert (await batch_of(catalog, recorded.batch)).completed == 1


async def test_jobs_of_silent_workers_are_queued_again_until_the_last_attempt(
    catalog: Catalog,
) -> None:
    recorded = await record(catalog, drafts(2), BatchDraft(1))
    await claim_one(catalog)
    assert (await catalog.claims.recover(60, 1)).requeued == ()
    assert (await catalog.claims.recover(0, 2)).requeued == recorded.ids[:1]
    for _ in range(2):
        await claim_one(catalog)
    found = await catalog.claims.recover(0, 2)
    assert found.requeued == recorded.ids[1:]
    assert [(job.id, job.fault and job.fault.code) for job in found.given_up] == [
        (recorded.ids[0], "worker_lost")
    ]
    assert (await batch_of(catalog, recorded.batch)).errors == 1


async def test_a_postponed_job_keeps_its_fault_and_the_attempt_counts_by_default(
    catalog: Catalog,
) -> None:
    await record(catalog, drafts(1))
    assert await catalog.claims.postpone(await claim_one(catalog), 0, FAULT)
    job = await claim_one(catalog)
    assert (job.attempts, job.fault) == (2, FAULT)
    assert await catalog.claims.postpone(job, 0, is_counted=False)
    job = await claim_one(catalog)
    assert (job.attempts, job.fault) == (2, FAULT)


async def test_cancelling_ends_queued_and_running_jobs(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(5), BatchDraft(1))
    first, second = await claim_one(catalog), await claim_one(catalog)
    with pytest.raises(NotFound):
        await catalog.cancellations.cancel_job(999)
    for job in (first.id, recorded.ids[2]):
        assert (await catalog.cancellations.cancel_job(job)).state == "cancelled"
    assert await catalog.claims.heartbeat([first, second]) == {second.id}
    assert await catalog.claims.ended([first, second]) == {first.id: "cancelled"}
    late = await catalog.claims.complete(first)
    assert (late.was_ours, late.ended) == (False, "cancelled")
    assert (await catalog.claims.complete(second)).was_ours
    assert await catalog.cancellations.cancel_batch(recorded.batch or 0) == 2
    assert await catalog.cancellations.cancel_batch(recorded.batch or 0) == 0
    batch = await batch_of(catalog, recorded.batch)
    assert (batch.cancelled, batch.completed, batch.remaining) == (4, 1, 0)
    assert batch.finished is not None
    for job in (first.id, second.id):
        with pytest.raises(Conflict):
            await catalog.cancellations.cancel_job(job)


async def test_cancelling_the_last_job_finishes_the_batch(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(2), BatchDraft(1))
    await catalog.cancellations.cancel_batch(recorded.batch or 0)
    assert (await batch_of(catalog, recorded.batch)).finished is not None


async def test_a_retry_corrects_the_counts_and_opens_the_batch(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(3), BatchDraft(1))
    for _ in range(2):
        await catalog.claims.fail(await claim_one(catalog), FAULT)
    await catalog.claims.complete(await claim_one(catalog))
    assert (await batch_of(catalog, recorded.batch)).finished is not None
    one = await catalog.retries.retry_job(recorded.ids[0])
    assert (one.state, one.attempts, one.fault) == ("queued", 0, None)
    batch = await batch_of(catalog, recorded.batch)
    assert (batch.completed, batch.errors, batch.finished) == (1, 1, None)
    again = await catalog.retries.retry_batch(recorded.batch or 0)
    assert [job.id for job in again] == [recorded.ids[1]]
    for _ in range(2):
        settled = await catalog.claims.complete(await claim_one(catalog))
    assert settled.batch_finished
    batch = await batch_of(catalog, recorded.batch)
    assert (batch.completed, batch.errors) == (3, 0)
    done = await catalog.jobs.get(recorded.ids[0])
    assert done is not None
    assert done.fault is None
    with pytest.raises(Conflict):
        await catalog.retries.retry_job(recorded.ids[0])
    with pytest.raises(NotFound):
        await catalog.retries.retry_job(999)


async def test_a_cancelled_job_can_be_retried(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(1), BatchDraft(1))
    await catalog.cancellations.cancel_job(recorded.ids[0])
    await catalog.retries.retry_job(recorded.ids[0])
    batch = await batch_of(catalog, recorded.batch)
    assert (batch.cancelled, batch.finished) == (0, None)


async def test_an_empty_batch_is_finished_at_once(catalog: Catalog) -> None:
    batch = await batch_of(catalog, (await record(catalog, [], BatchDraft(1))).batch)
    assert (batch.count, batch.remaining) == (0, 0)
    assert batch.finished is not None


async def test_a_batch_of_an_unknown_customer_is_refused_and_records_nothing(
    catalog: Catalog,
) -> None:
    with pytest.raises(NotFound):
        await record(catalog, drafts(3), BatchDraft(99))
    assert await catalog.jobs.page() == []


async def test_of_jobs_with_the_same_dedupe_text_one_is_recorded(catalog: Catalog) -> None:
    first = await record(catalog, [a_draft(1, dedupe="m1")])
    job_drafts = [a_draft(2, dedupe="m1"), a_draft(3, dedupe="m2")]
    second = await record(catalog, job_drafts)
    assert second.ids[0] == first.ids[0] != second.ids[1]
    assert [job.payload for job in await catalog.jobs.page()] == [{"number": 3}, {"number": 1}]
    with pytest.raises(Conflict):
        await record(catalog, [a_draft(dedupe="m3")], BatchDraft(1))


async def test_the_estimate_of_a_batch_follows_its_rate(catalog: Catalog) -> None:
    recorded = await record(catalog, drafts(11), BatchDraft(1))
    assert (await batch_of(catalog, recorded.batch)).estimate is None
    job = await claim_one(catalog)
    await asyncio.sleep(0.2)
    await catalog.claims.complete(job)
    batch = await batch_of(catalog, recorded.batch)
    assert batch.estimate is not None
    ended = (await catalog.jobs.page(states=("done",)))[0].finished
    assert ended is not None
    assert 1.5 < (batch.estimate - ended).total_seconds() < 10  # ten more of 0.2 s or so


async def test_lists_are_filtered_by_customer_batch_state_and_asset_newest_first(
    catalog: Catalog,
) -> None:
    first = await record(catalog, drafts(3, asset="1/1/a"), BatchDraft(1))
    second = await record(catalog, drafts(2, customer=2), BatchDraft(2, "priority"))
    await catalog.claims.fail(replace(await claim_one(catalog, "x"), worker="x"), FAULT)

    async def ids(**by: object) -> list[int]:
        return [job.id for job in await catalog.jobs.page(**by)]  # type: ignore[arg-type]

    assert await ids() == [5, 4, 3, 2, 1]
    assert await ids(limit=2, before=4) == [3, 2]
    assert await ids(customer=2) == [5, 4]
    assert await ids(batch=first.batch) == [3, 2, 1]
    assert await ids(asset="1/1/a") == [3, 2, 1]
    assert await ids(states=("failed",)) == [1]
    assert await catalog.jobs.get(1, customer=2) is None
    listed = [batch.id for batch in await catalog.batches.page()]
    assert listed == [second.batch, first.batch]
    assert [batch.id for batch in await catalog.batches.page(customer=1)] == [first.batch]
    assert await catalog.batches.page(finished=True) == []
    assert await catalog.batches.get(first.batch or 0, customer=2) is None
    assert await catalog.batches.backlog(1, "normal") == Backlog(batches=1, queued=2, running=0)


async def test_only_jobs_and_batches_that_ended_long_ago_are_deleted(
    catalog: Catalog, database: Database
) -> None:
    await record(catalog, drafts(2), BatchDraft(1))
    await record(catalog, drafts(2))
    for _ in range(3):
        await catalog.claims.complete(await claim_one(catalog))
    assert await catalog.batches.sweep(1) == await catalog.jobs.sweep(1) == 0
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        for table in ("jobs", "batches"):
            await connection.execute(f"UPDATE {table} SET finished = finished - interval '2 days'")
    finally:
        await connection.close()
    assert (await catalog.batches.sweep(1), await catalog.jobs.sweep(1)) == (1, 1)
    assert [job.state for job in await catalog.jobs.page()] == ["queued"]


async def test_depths_count_jobs_and_report_the_age_of_the_oldest(catalog: Catalog) -> None:
    await record(catalog, [*drafts(3), a_draft(lane="priority"), a_draft(delay_s=60)])
    await claim_one(catalog)
    await catalog.claims.fail(await claim_one(catalog), FAULT)
    found = {(depth.lane, depth.state): depth for depth in await catalog.claims.depths()}
    numbers = {where: depth.number for where, depth in found.items()}
    assert numbers == {("normal", "queued"): 3, ("priority", "running"): 1, ("normal", "failed"): 1}
    assert 0 < found["normal", "queued"].age_s < 10
