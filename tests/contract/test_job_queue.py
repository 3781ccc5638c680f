"""What both ways of waking workers guarantee: notices of the database, and messages of SQS."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from orchestrator.errors import Unavailable
from orchestrator.jobs.sqs_queues import check_queue
from orchestrator.settings import Database, Jobs
from tests.support.jobs import (
    FAST,
    JobSystem,
    RecordingHandler,
    a_draft,
    drafts,
    open_job_system,
    sqs_settings,
)
from tests.support.patience import patience

PATIENT = replace(FAST, look_s=60)
"""A worker that finds no job by itself within the time of a test."""
_numbers = itertools.count()


@pytest.fixture(params=["postgresql", "sqs"])
async def system(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[JobSystem]:
    settings = Jobs()
    if request.param == "sqs":
        settings = sqs_settings(request.getfixturevalue("sqs_server"), f"q{next(_numbers)}")
    async with open_job_system(database, settings) as opened:
        yield opened


async def test_a_submitted_job_starts_at_once(system: JobSystem) -> None:
    handler = RecordingHandler()
    async with system.working(handler, PATIENT):
        await asyncio.sleep(1)  # the worker listens, or polls, by now
        before = time.monotonic()
        recorded = await system.submitter.submit([a_draft()])
        await system.ended(recorded.ids)
    assert time.monotonic() - before < 1.5 * patience()


async def test_a_job_submitted_before_the_worker_started_is_run(system: JobSystem) -> None:
    recorded = await system.submitter.submit(drafts(3))
    async with system.working(RecordingHandler(), PATIENT):
        await system.ended(recorded.ids)


async def test_each_job_of_a_submission_runs_once_in_its_lane(system: JobSystem) -> None:
    handler = RecordingHandler()
    async with system.working(handler, PATIENT):
        recorded = await system.submitter.submit([*drafts(25), *drafts(2, lane="priority")])
        jobs = await system.ended(recorded.ids)
    assert Counter(job.lane for job in jobs) == {"normal": 25, "priority": 2}
    assert sorted(handler.started) == list(recorded.ids)


async def test_a_submission_that_is_rolled_back_starts_nothing(system: JobSystem) -> None:
    handler = RecordingHandler()
    async with system.working(handler, PATIENT):
        with pytest.raises(ZeroDivisionError):
            async with system.submitter.submission() as submission:
                await submission.submit([a_draft()])
                raise ZeroDivisionError
        await asyncio.sleep(0.5)
    assert handler.started == []
    assert await system.catalog.jobs.page() == []


async def test_of_many_workers_one_runs_each_job(system: JobSystem) -> None:
    handler = RecordingHandler(seconds=0.01)
    async with AsyncExitStack() as workers:
        for _ in range(4):
            await workers.enter_async_context(system.working(handler, PATIENT))
        recorded = await system.submitter.submit(drafts(40))
        await system.ended(recorded.ids)
    assert sorted(handler.started) == list(recorded.ids)


async def test_a_retried_job_starts_at_once(system: JobSystem) -> None:
    [job] = (await system.submitter.submit([a_draft()])).ids
    await system.submitter.cancel(job)
    async with system.working(RecordingHandler(), PATIENT):
        await asyncio.sleep(0.5)
        await system.submitter.retry(job)
        [done] = await system.ended([job])
    assert done.state == "done"


async def test_a_delayed_job_starts_when_it_is_due(system: JobSystem) -> None:
    async with system.working(RecordingHandler(), PATIENT):
        [number] = (await system.submitter.submit([a_draft(delay_s=1)])).ids
        [job] = await system.ended([number])
    assert job.started is not None
    assert 0 <= (job.started - job.due).total_seconds() < 3 * patience()


async def test_a_worker_that_is_never_woken_finds_jobs_by_itself(system: JobSystem) -> None:
    async with system.working(RecordingHandler(), is_notified=False):
        await asyncio.sleep(0.2)
        recorded = await system.submitter.submit(drafts(5))
        await system.ended(recorded.ids)


async def test_a_queue_that_answers_passes_its_check(system: JobSystem) -> None:
    await check_queue(system.catalog, system.sqs)


async def test_jobs_run_although_sqs_does_not_answer(database: Database) -> None:
    settings = Jobs(
        kind="sqs",
        sqs_queue="http://127.0.0.1:9/0/normal",
        sqs_priority_queue="http://127.0.0.1:9/0/priority",
        sqs_endpoint="http://127.0.0.1:9",
        sqs_access_key="a",
        sqs_secret_key="b",
    )
    async with open_job_system(database, settings) as system:
        recorded = await system.submitter.submit([a_draft()])
        with pytest.raises(Unavailable):
            await check_queue(system.catalog, system.sqs)
        async with system.working(RecordingHandler()):
            await system.ended(recorded.ids)
