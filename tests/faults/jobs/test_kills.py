"""Workers and the database are killed in the middle of a batch: nothing is lost, nothing counted
twice.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.catalog.batches import Batch, BatchDraft
from orchestrator.catalog.embedded.database import EmbeddedDatabase, embedded
from orchestrator.catalog.migrator import migrate
from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Database, Jobs
from tests.support.jobs import (
    LEASES,
    JobSystem,
    a_worker_process,
    drafts,
    kill,
    open_job_system,
    running,
)
from tests.support.patience import ANSWER_S, patience


async def test_another_worker_runs_the_job_of_a_killed_one(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with embedded(tmp_path) as server:
        database = Database(dsn=SecretStr(server.dsn), answer_timeout_s=ANSWER_S)
        await migrate(database)
        async with open_job_system(database, Jobs(**LEASES)) as system:
            [number] = (await system.submitter.submit(drafts(1), BatchDraft(1))).ids
            first = a_worker_process(server.dsn, log, 60)
            await system.until([number], lambda job: job.state == "running", 30)
            kill(first)
            second = a_worker_process(server.dsn, log, 0)
            try:
                [job] = await system.ended([number], 30)
            finally:
                second.send_signal(signal.SIGTERM)
                assert second.wait(20) == 0
            assert (job.state, job.attempts) == ("done", 2)
            batch = await system.catalog.batches.get(1)
            assert batch is not None
            assert (batch.completed, batch.errors) == (1, 0)


@pytest.mark.parametrize(
    ("jobs", "seconds", "kill_every_s"),
    [(60, 0.3, 2.5), pytest.param(500, 0.6, 10, marks=pytest.mark.soak)],
    ids=["short", "long"],
)
async def test_a_batch_survives_kills_of_workers_and_of_the_database(
    tmp_path: Path, jobs: int, seconds: float, kill_every_s: float
) -> None:
    log = tmp_path / "log"
    with embedded(tmp_path) as server:
        database = Database(dsn=SecretStr(server.dsn), connect_timeout_s=2, query_timeout_s=3)
        await migrate(database)
        async with open_job_system(database, Jobs(**LEASES)) as system:
            recorded = await system.submitter.submit(drafts(jobs), BatchDraft(1))
            workers = [a_worker_process(server.dsn, log, seconds) for _ in range(2)]

            async def cause_trouble() -> None:
                turn = 0
                while True:
                    await asyncio.sleep(kill_every_s * patience())  # a worker must start in it
                    turn += 1
                    if turn == 2:
                        await asyncio.to_thread(_kill_database, tmp_path, server)
                        continue
                    kill(workers[turn % 2])
                    workers[turn % 2] = a_worker_process(server.dsn, log, seconds)

            try:
                async with running(cause_trouble()):
                    batch = await _finished(system, recorded.batch or 0, 60 + jobs * seconds * 3)
            finally:
                for worker in workers:
                    kill(worker)
            assert (batch.completed, batch.errors, batch.cancelled) == (jobs, 0, 0)
            states = Counter(job.state for job in await system.catalog.jobs.page(jobs + 1))
            assert states == {"done": jobs}
            ended = Counter(int(line) for line in log.read_text().split() if line[0] == "-")
            assert {-number for number in ended} == set(recorded.ids)


async def _finished(system: JobSystem, batch: int, within_s: float) -> Batch:
    began = time.monotonic()
    found: Batch | None = None
    while time.monotonic() < began + within_s * patience():
        try:
            found = await system.catalog.batches.get(batch)
        except CatalogUnavailable:
            found = None
        if found is not None and found.finished is not None:
            return found
        await asyncio.sleep(0.2)
    raise TimeoutError(f"not finished: {found}")


def _kill_database(folder: Path, server: EmbeddedDatabase) -> None:
    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 30 * patience()
    while not server.revive():
        if time.monotonic() > until:
            raise TimeoutError("the database did not come back")
        time.sleep(0.1)
