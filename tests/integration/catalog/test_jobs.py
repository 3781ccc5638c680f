"""Jobs and batches in the catalogue: whose turn it is, and counts that are exact whoever races."""

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

FAULT = Fault("origin_timeout", "fetch", retryable=True, detail="Too slow.")
NORMAL_FIRST: tuple[Lane, ...] = ("normal", "priority")


@pytest.fixture
async def books(catalog: Catalog) -> Catalog:
    """A catalogue with customers 1, 2 and 3."""
    for number in (1, 2, 3):
        await catalog.customers.ensure(number, f"customer {number} x")
    return catalog


async def record(
    books: Catalog, given: list[JobDraft], batch: BatchDraft | None = None
) -> RecordedJobs:
    async with books.transaction() as connection:
        return await books.jobs.record(connection, given, batch)


async def claim(books: Catalog, worker: str = "w", per_host: int = 100) -> Job | None:
    return await books.claims.claim(worker, [KIND], LANES, per_host)


async def claimed(books: Catalog, worker: str = "w") -> Job:
    job = await claim(books, worker)
    assert job is not None
    return job


async def batch_of(books: Catalog, batch: int | None) -> Batch:
    found = await books.batches.get(batch or 0)
    assert found is not None
    return found


async def test_a_job_is_recorded_claimed_once_and_settled(books: Catalog) -> None:
    [number] = (await record(books, [a_draft(7, host="h", asset="1/1/a")])).ids
    job = await claimed(books, "w1")
    assert (job.id, job.state, job.attempts, job.worker) == (number, "running", 1, "w1")
    assert (job.payload, job.host, job.asset, job.batch) == ({"number": 7}, "h", "1/1/a", None)
    assert await claim(books) is None
    assert (await books.claims.complete(job)).was_ours
    now = await books.jobs.get(number)
    assert now is not None
    assert (now.state, now.fault) == ("done", None)
    assert now.finished is not None


async def test_only_kinds_one_can_do_are_claimed(books: Catalog) -> None:
    await record(books, [a_draft(kind="other")])
    assert await claim(books) is None
    assert await books.claims.claim("w", ["other"], LANES, 1) is not None


async def test_a_job_that_is_not_due_waits(books: Catalog) -> None:
    await record(books, [a_draft(0, delay_s=0.3)])
    assert await claim(books) is None
    due_s = await books.claims.next_due_s([KIND])
    assert due_s is not None
    assert 0 < due_s <= 0.3
    assert await books.claims.next_due_s(["other"]) is None
    await asyncio.sleep(0.35)
    assert await claim(books) is not None
    assert await books.claims.next_due_s([KIND]) is None


@pytest.mark.parametrize("first", [LANES, NORMAL_FIRST], ids=["priority", "normal"])
async def test_the_first_lane_that_has_work_is_taken_from(
    books: Catalog, first: tuple[Lane, ...]
) -> None:
    await record(books, [a_draft(lane=lane) for lane in ("normal", "priority") for _ in range(2)])
    got = [await books.claims.claim("w", [KIND], first, 9) for _ in range(4)]
    assert [job and job.lane for job in got] == [lane for lane in first for _ in range(2)]


async def test_the_customer_with_the_fewest_running_jobs_is_next(books: Catalog) -> None:
    await record(books, drafts(20, customer=1) + drafts(3, customer=2) + drafts(3, customer=3))
    got = [await claimed(books) for _ in range(9)]
    assert Counter(job.customer for job in got) == {1: 3, 2: 3, 3: 3}
    for job in got:
        if job.customer == 1:
            await books.claims.complete(job)
    await record(books, drafts(1, customer=2))
    assert (await claimed(books)).customer == 1  # 0 running, against 3


async def test_a_customers_own_jobs_come_in_their_order(books: Catalog) -> None:
    recorded = await record(books, drafts(5))
    assert tuple([(await claimed(books)).id for _ in range(5)]) == recorded.ids


async def test_of_one_host_no_more_run_than_allowed_whoever_claims(books: Catalog) -> None:
    await record(books, drafts(30, host="slow") + drafts(4, host="quick") + drafts(3))

    async def take(worker: int) -> list[Job]:
        found = []
        while (job := await claim(books, f"w{worker}", per_host=2)) is not None:
            found.append(job)
        return found

    got = [job for some in await asyncio.gather(*(take(n) for n in range(6))) for job in some]
    assert Counter(job.host for job in got) == {"slow": 2, "quick": 2, "": 3}
    slow = next(job for job in got if job.host == "slow")
    await books.claims.postpone(slow, 0)
    again = await claim(books, per_host=2)
    assert again is not None
    assert again.host == "slow"


async def test_of_one_asset_one_job_runs_and_the_others_hold_nobody_up(books: Catalog) -> None:
    given = [*drafts(3, asset="1/1/slow"), a_draft(asset="1/1/quick"), *drafts(2)]
    recorded = await record(books, given)
    first = await claimed(books)
    others = [(await claimed(books)).id for _ in range(3)]
    assert (first.id, *others) == (recorded.ids[0], *recorded.ids[3:])
    assert await claim(books) is None
    await books.claims.complete(first)
    assert (await claimed(books)).id == recorded.ids[1]


async def test_a_job_remembers_its_first_beginning_until_a_person_has_it_done_again(
    books: Catalog,
) -> None:
    await record(books, drafts(1))
    first = await claimed(books)
    await books.claims.postpone(first, 0, FAULT)
    again = await claimed(books)
    assert first.begun == again.begun is not None
    await books.claims.fail(again, FAULT)
    async with books.transaction() as connection:
        assert (await books.jobs.retry(connection, first.id)).begun is None
    anew = await claimed(books)
    assert anew.begun is not None
    assert anew.begun > first.begun


async def test_many_workers_never_get_the_same_job(books: Catalog) -> None:
    recorded = await record(books, drafts(200))

    async def take(worker: int) -> list[int]:
        found = []
        while (job := await claim(books, f"w{worker}")) is not None:
            found.append(job.id)
        return found

    got = [job for some in await asyncio.gather(*(take(n) for n in range(8))) for job in some]
    assert sorted(got) == list(recorded.ids)


async def test_a_claimant_that_stands_still_holds_nobody_up(
    books: Catalog, database: Database
) -> None:
    await record(books, drafts(3))
    other = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        async with other.transaction():
            await other.fetch("SELECT * FROM jobs ORDER BY id LIMIT 1 FOR UPDATE")
            assert (await claimed(books)).id == 2
    finally:
        await other.close()


async def test_counts_of_a_batch_are_exact_and_it_is_finished_once(books: Catalog) -> None:
    recorded = await record(books, drafts(60), BatchDraft(1))
    finished = 0

    async def work(worker: int) -> None:
        nonlocal finished
        while (job := await claim(books, f"w{worker}")) is not None:
            ends = [
                books.claims.fail(job, FAULT) if job.id % 3 == 0 else books.claims.complete(job)
            ]
            ends += [books.claims.complete(job), books.claims.fail(job, FAULT)]  # and races itself
            settled = await asyncio.gather(*ends)
            assert sum(each.was_ours for each in settled) == 1
            finished += sum(each.batch_finished for each in settled)

    await asyncio.gather(*(work(n) for n in range(6)))
    batch = await batch_of(books, recorded.batch)
    assert batch.completed + batch.errors == batch.count == 60
    assert batch.finished is not None
    assert batch.estimate is None
    assert finished == 1
    states = Counter(job.state for job in await books.jobs.page(100, batch=recorded.batch))
    assert states == {"done": batch.completed, "failed": batch.errors}


async def test_what_was_taken_away_cannot_be_settled(books: Catalog) -> None:
    recorded = await record(books, drafts(1), BatchDraft(1))
    slow = await claimed(books, "slow")
    assert (await books.claims.recover(0, 5)).requeued == recorded.ids
    assert await books.claims.heartbeat([slow]) == frozenset()
    quick = await claimed(books, "quick")
    assert quick.attempts == 2
    assert not (await books.claims.complete(slow)).was_ours
    assert not (await books.claims.fail(slow, FAULT)).was_ours
    assert not await books.claims.postpone(slow, 0)
    assert await books.claims.heartbeat([slow, quick]) == {quick.id}
    assert (await books.claims.complete(quick)).batch_finished
    assert (await batch_of(books, recorded.batch)).completed == 1


async def test_silent_workers_lose_their_jobs_and_the_last_attempt_ends_them(
    books: Catalog,
) -> None:
    recorded = await record(books, drafts(2), BatchDraft(1))
    await claimed(books)
    assert (await books.claims.recover(60, 1)).requeued == ()
    assert (await books.claims.recover(0, 2)).requeued == recorded.ids[:1]
    for _ in range(2):
        await claimed(books)
    found = await books.claims.recover(0, 2)
    assert found.requeued == recorded.ids[1:]
    assert [(job.id, job.fault and job.fault.code) for job in found.given_up] == [
        (recorded.ids[0], "worker_lost")
    ]
    assert (await batch_of(books, recorded.batch)).errors == 1


async def test_a_job_put_off_keeps_its_fault_and_counts_unless_told_not_to(books: Catalog) -> None:
    await record(books, drafts(1))
    assert await books.claims.postpone(await claimed(books), 0, FAULT)
    job = await claimed(books)
    assert (job.attempts, job.fault) == (2, FAULT)
    assert await books.claims.postpone(job, 0, is_counted=False)
    job = await claimed(books)
    assert (job.attempts, job.fault) == (2, FAULT)


async def test_cancelling_ends_what_waits_and_leaves_what_runs(books: Catalog) -> None:
    recorded = await record(books, drafts(4), BatchDraft(1))
    running = await claimed(books)
    with pytest.raises(Conflict):
        await books.jobs.cancel(running.id)
    with pytest.raises(NotFound):
        await books.jobs.cancel(999)
    assert (await books.jobs.cancel(recorded.ids[1])).state == "cancelled"
    assert await books.jobs.cancel_batch(recorded.batch or 0) == 2
    assert await books.jobs.cancel_batch(recorded.batch or 0) == 0
    batch = await batch_of(books, recorded.batch)
    assert (batch.cancelled, batch.remaining, batch.finished) == (3, 1, None)
    assert (await books.claims.complete(running)).batch_finished
    with pytest.raises(Conflict):
        await books.jobs.cancel(running.id)


async def test_a_cancellation_of_the_last_one_finishes_the_batch(books: Catalog) -> None:
    recorded = await record(books, drafts(2), BatchDraft(1))
    await books.jobs.cancel_batch(recorded.batch or 0)
    assert (await batch_of(books, recorded.batch)).finished is not None


async def test_a_retry_takes_the_counts_back_and_opens_the_batch(books: Catalog) -> None:
    recorded = await record(books, drafts(3), BatchDraft(1))
    for _ in range(2):
        await books.claims.fail(await claimed(books), FAULT)
    await books.claims.complete(await claimed(books))
    assert (await batch_of(books, recorded.batch)).finished is not None
    async with books.transaction() as connection:
        one = await books.jobs.retry(connection, recorded.ids[0])
    assert (one.state, one.attempts, one.fault) == ("queued", 0, FAULT)
    batch = await batch_of(books, recorded.batch)
    assert (batch.completed, batch.errors, batch.finished) == (1, 1, None)
    async with books.transaction() as connection:
        again = await books.jobs.retry_batch(connection, recorded.batch or 0)
    assert [job.id for job in again] == [recorded.ids[1]]
    for _ in range(2):
        settled = await books.claims.complete(await claimed(books))
    assert settled.batch_finished
    batch = await batch_of(books, recorded.batch)
    assert (batch.completed, batch.errors) == (3, 0)
    done = await books.jobs.get(recorded.ids[0])
    assert done is not None
    assert done.fault is None
    async with books.transaction() as connection:
        with pytest.raises(Conflict):
            await books.jobs.retry(connection, recorded.ids[0])
        with pytest.raises(NotFound):
            await books.jobs.retry(connection, 999)


async def test_a_cancelled_job_can_be_retried(books: Catalog) -> None:
    recorded = await record(books, drafts(1), BatchDraft(1))
    await books.jobs.cancel(recorded.ids[0])
    async with books.transaction() as connection:
        await books.jobs.retry(connection, recorded.ids[0])
    batch = await batch_of(books, recorded.batch)
    assert (batch.cancelled, batch.finished) == (0, None)


async def test_an_empty_batch_is_finished_at_once(books: Catalog) -> None:
    batch = await batch_of(books, (await record(books, [], BatchDraft(1))).batch)
    assert (batch.count, batch.remaining) == (0, 0)
    assert batch.finished is not None


async def test_a_batch_of_nobody_is_refused_and_leaves_nothing(books: Catalog) -> None:
    with pytest.raises(NotFound):
        await record(books, drafts(3), BatchDraft(99))
    assert await books.jobs.page() == []


async def test_a_job_known_by_its_mark_is_recorded_once(books: Catalog) -> None:
    first = await record(books, [a_draft(1, dedupe="m1")])
    given = [a_draft(2, dedupe="m1"), a_draft(3, dedupe="m2")]
    second = await record(books, given)
    assert second.ids[0] == first.ids[0] != second.ids[1]
    assert [job.payload for job in await books.jobs.page()] == [{"number": 3}, {"number": 1}]
    with pytest.raises(Conflict):
        await record(books, [a_draft(dedupe="m3")], BatchDraft(1))


async def test_an_estimate_comes_of_the_rate_so_far(books: Catalog) -> None:
    recorded = await record(books, drafts(11), BatchDraft(1))
    assert (await batch_of(books, recorded.batch)).estimate is None
    job = await claimed(books)
    await asyncio.sleep(0.2)
    await books.claims.complete(job)
    batch = await batch_of(books, recorded.batch)
    assert batch.estimate is not None
    ended = (await books.jobs.page(states=("done",)))[0].finished
    assert ended is not None
    assert 1.5 < (batch.estimate - ended).total_seconds() < 10  # ten more of 0.2 s or so


async def test_lists_go_by_customer_batch_state_and_asset_newest_first(books: Catalog) -> None:
    first = await record(books, drafts(3, asset="1/1/a"), BatchDraft(1))
    second = await record(books, drafts(2, customer=2), BatchDraft(2, "priority"))
    await books.claims.fail(replace(await claimed(books, "x"), worker="x"), FAULT)

    async def ids(**by: object) -> list[int]:
        return [job.id for job in await books.jobs.page(**by)]  # type: ignore[arg-type]

    assert await ids() == [5, 4, 3, 2, 1]
    assert await ids(limit=2, before=4) == [3, 2]
    assert await ids(customer=2) == [5, 4]
    assert await ids(batch=first.batch) == [3, 2, 1]
    assert await ids(asset="1/1/a") == [3, 2, 1]
    assert await ids(states=("failed",)) == [1]
    assert await books.jobs.get(1, customer=2) is None
    listed = [batch.id for batch in await books.batches.page()]
    assert listed == [second.batch, first.batch]
    assert [batch.id for batch in await books.batches.page(customer=1)] == [first.batch]
    assert await books.batches.page(finished=True) == []
    assert await books.batches.get(first.batch or 0, customer=2) is None
    assert await books.batches.backlog(1, "normal") == Backlog(batches=1, queued=2, running=0)


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(
    books: Catalog, database: Database
) -> None:
    await record(books, drafts(2), BatchDraft(1))
    await record(books, drafts(2))
    for _ in range(3):
        await books.claims.complete(await claimed(books))
    assert await books.batches.sweep(1) == await books.jobs.sweep(1) == 0
    connection = await asyncpg.connect(database.dsn.get_secret_value())
    try:
        for table in ("jobs", "batches"):
            await connection.execute(f"UPDATE {table} SET finished = finished - interval '2 days'")
    finally:
        await connection.close()
    assert (await books.batches.sweep(1), await books.jobs.sweep(1)) == (1, 1)
    assert [job.state for job in await books.jobs.page()] == ["queued"]


async def test_depths_tell_what_waits_how_long(books: Catalog) -> None:
    await record(books, [*drafts(3), a_draft(lane="priority"), a_draft(delay_s=60)])
    await claimed(books)
    await books.claims.fail(await claimed(books), FAULT)
    found = {(depth.lane, depth.state): depth for depth in await books.claims.depths()}
    numbers = {where: depth.number for where, depth in found.items()}
    assert numbers == {("normal", "queued"): 3, ("priority", "running"): 1, ("normal", "failed"): 1}
    assert 0 < found["normal", "queued"].age_s < 10
