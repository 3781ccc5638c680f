"""Jobs of killed workers of the same host, and running jobs that a request ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.jobs import LANES
from tests.support.jobs import (
    FAST,
    KIND,
    JobSystem,
    RecordingHandler,
    a_worker_process,
    drafts,
    kill,
)


async def test_the_next_worker_of_the_host_takes_the_jobs_of_a_killed_one_at_once(
    system: JobSystem, tmp_path: Path
) -> None:
    """No sweeper runs, and no lease ends: only the lock of the killed process does."""
    recorded = await system.submitter.submit(drafts(2), BatchDraft(1))
    log = tmp_path / "log"
    killed = a_worker_process(system.settings.database.dsn.get_secret_value(), log, 600)
    await system.until(recorded.ids, lambda job: job.state == "running", 60)
    handler, folder = RecordingHandler(), log.with_suffix(".workers")
    async with system.working(handler, folder=tmp_path / "another host"):
        pass
    kill(killed)
    async with system.working(handler, folder=tmp_path / "another host"):
        pass
    assert handler.started == []
    async with system.working(handler, folder=folder):
        jobs = await system.ended(recorded.ids, 60)
        assert [(job.state, job.attempts) for job in jobs] == [("done", 2), ("done", 2)]
    assert list(folder.iterdir()) == []


async def test_a_worker_with_fewer_attempts_gives_up_no_job_of_a_dead_worker_of_another_kind(
    system: JobSystem, tmp_path: Path
) -> None:
    [number] = (await system.submitter.submit(drafts(1))).ids
    folder = tmp_path / "workers"
    folder.mkdir()
    (folder / "dead").touch()  # no process has its lock
    assert await system.catalog.claims.claim("dead/1", [KIND], LANES, 9) is not None
    options = replace(FAST, max_attempts=1)
    async with system.working(RecordingHandler(), options, kind="another kind", folder=folder):
        await system.until([number], lambda job: job.state != "running")
    assert (await system.job(number)).state == "queued"


async def test_a_running_job_that_is_cancelled_is_stopped_at_once(system: JobSystem) -> None:
    handler = RecordingHandler(seconds=600)
    options = replace(FAST, slots=2, heartbeat_s=600)
    recorded = await system.submitter.submit(drafts(3), BatchDraft(1))
    async with system.working(handler, options):
        await system.until(recorded.ids[:2], lambda job: job.state == "running")
        assert (await system.submitter.cancel(recorded.ids[0])).state == "cancelled"
        await system.until(recorded.ids[2:], lambda job: job.state == "running")  # its slot is free
        assert handler.cancelled == [recorded.ids[0]]
        assert await system.submitter.cancel_batch(recorded.batch or 0) == 2
        batch = await system.catalog.batches.get(recorded.batch or 0)
        assert batch is not None
        assert (batch.cancelled, batch.remaining) == (3, 0)
        await system.ended(recorded.ids)
    assert sorted(handler.cancelled) == sorted(recorded.ids)
