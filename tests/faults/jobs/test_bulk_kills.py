"""Workers are killed in the middle of a bulk change: each asset is changed exactly once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.catalog.asset_selection import Selection
from orchestrator.catalog.asset_transaction import next_generation
from orchestrator.catalog.bulk_jobs import BULK
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.ingest.bulk_changes import BulkProgress, BulkWork
from orchestrator.ingest.payload.fields import Metadata
from orchestrator.settings import Database
from tests.support.patience import patience
from tests.support.serve_process import COMMAND

SHORT, LONG = 400, 20_000


def start_worker(database: Database, data: Path) -> subprocess.Popen[bytes]:
    env = {**os.environ, "ORCHESTRATOR_DATABASE__DSN": database.dsn.get_secret_value()}
    words = [str(COMMAND), "worker", "--data", str(data)]
    with (data.parent / "worker.log").open("ab") as log:
        return subprocess.Popen(words, env=env, stdout=log, stderr=log, start_new_session=True)


def kill(worker: subprocess.Popen[bytes]) -> None:
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


async def until_done(catalog: Catalog, number: int, done: int) -> Job:
    """The job when it has handled so many assets."""
    async with asyncio.timeout((60 + done / 50) * patience()):
        while True:
            job = await catalog.jobs.get(number)
            assert job is not None
            progress = BulkProgress.decode(job.progress) if job.progress else BulkProgress(0)
            if progress.done >= done and (job.finished or done < progress.total):
                return job
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "kills"),
    [(SHORT, 1), pytest.param(LONG, 8, marks=pytest.mark.soak)],
    ids=["short", "long"],
)
async def test_a_bulk_change_survives_kills_and_changes_each_asset_once(
    catalog: Catalog, database: Database, tmp_path: Path, number: int, kills: int
):
    await catalog.customers.ensure(1, "main")
    work = BulkWork("patch", Selection(customer=1, spaces=(1,)), Metadata(tags=("new",)))
    async with catalog.transaction() as connection:
        await connection.execute(
            """INSERT INTO assets (customer, space, name, version, state, width, height, source)
               SELECT 1, 1, 'p' || n, n, 'ready', 10, 10,
                   '{"location": "file:///none/x.jpg", "kind": "original", "bytes": 1,
                     "fingerprint": "1-1", "extension": "jpg", "tile_width": 256,
                     "tile_height": 256, "levels": 1}'::text::jsonb
               FROM generate_series(1, $1::int) AS n""",
            number,
        )
        draft = JobDraft(BULK, work.encode(), 1, generation=await next_generation(connection))
        [job] = (await catalog.jobs.record(connection, [draft])).ids
    for turn in range(kills):
        worker = start_worker(database, tmp_path / "data")
        try:
            await until_done(catalog, job, number * (turn + 1) // (kills + 2))
        finally:
            kill(worker)
    worker = start_worker(database, tmp_path / "data")
    try:
        ended = await until_done(catalog, job, number)
    finally:
        kill(worker)
    assert ended.state == "done"
    assert ended.progress is not None
    progress = BulkProgress.decode(ended.progress)
    assert (progress.total, progress.changed, progress.done) == (number, number, number)
    async with catalog.connection() as connection:
        changes = await connection.fetch(
            "SELECT count(*) AS times FROM activities WHERE kind = 'Update' GROUP BY space, name"
        )
    assert [row["times"] for row in changes] == [1] * number
