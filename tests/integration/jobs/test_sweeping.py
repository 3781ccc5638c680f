"""The sweeper of jobs, and the jobs made of messages of other systems."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from orchestrator import metrics
from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import INGEST, LANES
from orchestrator.errors import CatalogUnavailable
from orchestrator.ingest.job_handler import draft_from_message
from tests.support.caches import ManualClock
from tests.support.jobs import KIND, LEASES, JobSystem, RecordingHandler, drafts, running
from tests.support.patience import patience


async def test_jobs_of_a_silent_worker_run_again(either: JobSystem) -> None:
    recorded = await either.submitter.submit(drafts(3), BatchDraft(1))
    for _ in recorded.ids:
        assert await either.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
    async with running(either.sweeper().run()), either.working(RecordingHandler()):
        jobs = await either.ended(recorded.ids)
    assert {(job.state, job.attempts) for job in jobs} == {("done", 2)}


async def test_a_job_whose_workers_all_die_becomes_a_dead_letter(system: JobSystem) -> None:
    recorded = await system.submitter.submit(drafts(1), BatchDraft(1))
    sweeper = system.sweeper()
    before = metrics.JOB_DEAD_LETTERS.labels("worker_lost")._value.get()
    for _ in range(system.settings.jobs.max_attempts):
        assert await system.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
        await asyncio.sleep(LEASES["lease_s"] + 0.1)
        await sweeper.sweep()
    [job] = await system.ended(recorded.ids)
    assert job.fault is not None
    assert (job.state, job.fault.code) == ("failed", "worker_lost")
    assert metrics.JOB_DEAD_LETTERS.labels("worker_lost")._value.get() == before + 1


async def set_clock_back(system: JobSystem) -> None:
    """Move all recorded times an hour into the future, as they are when the clock of the database
    is set back by an hour.
    """
    async with system.catalog.connection() as connection:
        await connection.execute(
            "UPDATE jobs SET due = due + interval '1 h', heartbeat = heartbeat + interval '1 h'"
        )


async def test_a_clock_set_back_by_an_hour_delays_no_job(system: JobSystem) -> None:
    claims = system.catalog.claims
    new, retried, long = (await system.submitter.submit(drafts(3))).ids
    for wait_s in (0.2, 600):
        claimed = await claims.claim("worker", [KIND], LANES, 9)
        assert claimed is not None
        await claims.postpone(claimed, wait_s)
    waiting = {number: await system.job(number) for number in (new, retried, long)}
    [new, retried, long] = sorted(waiting, key=lambda number: waiting[number].due)
    await set_clock_back(system)
    sweeper = system.sweeper(every_s=0.05)
    async with running(sweeper.run()), system.working(RecordingHandler()):
        ended = await system.ended([new, retried])
    assert {job.state for job in ended} == {"done"}
    postponed = await system.job(long)
    assert postponed.state == "queued"
    assert postponed.due <= waiting[long].due + timedelta(seconds=60), "its delay begins again"
    assert await claims.cap_times() == 0


async def test_a_clock_set_back_by_an_hour_keeps_no_job_of_a_dead_worker(system: JobSystem) -> None:
    recorded = await system.submitter.submit(drafts(1))
    assert await system.catalog.claims.claim("dead", [KIND], LANES, 9) is not None
    await set_clock_back(system)
    async with running(system.sweeper(every_s=0.05).run()), system.working(RecordingHandler()):
        [job] = await system.ended(recorded.ids)
    assert (job.state, job.attempts) == ("done", 2)


async def test_after_an_outage_workers_have_time_to_send_heartbeats(
    system: JobSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.submitter.submit(drafts(1))
    await system.catalog.claims.claim("slow", [KIND], LANES, 9)
    await asyncio.sleep(LEASES["lease_s"] + 0.1)
    clock = ManualClock()
    sweeper = system.sweeper(every_s=0.01, now=clock)
    depths = system.catalog.claims.depths
    sweeps = 0

    async def away_at_first() -> list[object]:
        nonlocal sweeps
        sweeps += 1
        if sweeps > 1:
            return await depths()  # type: ignore[return-value]
        raise CatalogUnavailable("The catalogue does not answer.")

    monkeypatch.setattr(system.catalog.claims, "depths", away_at_first)
    async with running(sweeper.run()):
        async with asyncio.timeout(20 * patience()):
            while sweeps < 4:  # two have ended since the outage
                await asyncio.sleep(0.01)
        assert (await system.job(1)).state == "running"
        clock.advance(2 * LEASES["heartbeat_s"])
        await system.until([1], lambda job: job.state == "queued")


async def test_of_several_sweepers_one_recovers_a_job(system: JobSystem) -> None:
    recorded = await system.submitter.submit(drafts(50))
    for _ in recorded.ids:
        assert await system.catalog.claims.claim("dead", [KIND], LANES, 99) is not None
    await asyncio.sleep(LEASES["lease_s"] + 0.1)
    before = metrics.JOBS_RECOVERED._value.get()
    await asyncio.gather(*(system.sweeper().sweep() for _ in range(3)))
    assert metrics.JOBS_RECOVERED._value.get() == before + 50


async def test_gauges_count_jobs_by_lane_and_state(system: JobSystem) -> None:
    await system.submitter.submit([*drafts(3), *drafts(2, lane="priority")])
    await system.catalog.claims.claim("w", [KIND], LANES, 9)
    await system.sweeper().sweep()

    def figure(lane: str, state: str) -> float:
        return float(metrics.JOBS.labels(lane, state)._value.get())

    assert (figure("normal", "queued"), figure("priority", "queued")) == (3, 1)
    assert (figure("priority", "running"), figure("normal", "failed")) == (1, 0)
    assert metrics.JOB_QUEUE_AGE.labels("normal")._value.get() > 0


async def test_a_purge_deletes_jobs_and_batches_that_ended_long_ago(system: JobSystem) -> None:
    async with system.working(RecordingHandler()):
        recorded = await system.submitter.submit(drafts(3), BatchDraft(1))
        alone = await system.submitter.submit(drafts(2))
        await system.ended([*recorded.ids, *alone.ids])
    async with system.catalog.connection() as connection:
        for query in (
            "UPDATE jobs SET finished = finished - interval '31 days'",
            "UPDATE batches SET finished = finished - interval '31 days'",
        ):
            await connection.execute(query)
        await system.sweeper().purge()
    assert await system.catalog.jobs.page() == await system.catalog.batches.page() == []


async def test_a_purge_that_fails_is_not_repeated_with_every_sweep(
    system: JobSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    async def broken(*_: object) -> int:
        nonlocal tried
        tried += 1
        raise CatalogUnavailable("The query took too long.")

    monkeypatch.setattr(system.catalog.batches, "sweep", broken)
    sweeper = system.sweeper()
    with pytest.raises(CatalogUnavailable):
        await sweeper.sweep()
    await sweeper.sweep()
    assert tried == 1


PLAIN = {"id": "7/2/page", "origin": "https://images.example/page.tif"}
MESSAGES = {
    "plain": json.dumps(PLAIN),
    "enveloped": json.dumps({"TopicArn": "t", "Message": json.dumps(PLAIN)}),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_payload_of_another_system_is_read(name: str) -> None:
    draft = draft_from_message(MESSAGES[name].encode())
    assert (draft.kind, draft.customer, draft.host) == (INGEST, 7, "images.example")
    assert draft.asset == "7/2/page"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\0", b"[]", b"[" * 100_000], ids=range(5))
def test_an_unreadable_message_is_kept_in_the_job_that_fails(body: bytes) -> None:
    draft = draft_from_message(body)
    assert list(draft.payload) == ["unreadable"]
    assert "\0" not in draft.payload["unreadable"]
