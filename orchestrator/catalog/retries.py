"""Queueing jobs again that failed or were cancelled.

A job for an ingest is queued again only while no later request for its asset has been accepted.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from orchestrator.catalog.asset_transaction import lock_assets
from orchestrator.catalog.batches import uncount
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import INGEST, Job, job_of
from orchestrator.errors import NotFound, StateConflict
from orchestrator.model import AssetId

_REQUEUE = """UPDATE jobs SET state = 'queued', attempts = 0, due = clock_timestamp(), wait_s = 0,
    finished = NULL, started = NULL, begun = NULL, heartbeat = NULL, worker = '',
    fault = NULL"""
_REOPEN = """UPDATE assets SET state = 'ingesting', error = '', error_code = '', finished = NULL,
        declared = now()
    FROM unnest($1::int[], $2::int[], $3::text[], $4::bigint[])
        AS job (customer, space, name, generation)
    WHERE (assets.customer, assets.space, assets.name) = (job.customer, job.space, job.name)
        AND assets.ingest_generation = job.generation
    RETURNING assets.customer, assets.space, assets.name, assets.ingest_generation"""


class Retries:
    """The repository of retries. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def retry_job(self, job: int) -> Job:
        """Queue a failed or cancelled job again, with no attempts used. Raises NotFound, Conflict
        in any other state and when a later request replaced that of the job.
        """
        async with self._pool.transaction() as connection:
            row = await connection.fetchrow("SELECT * FROM jobs WHERE id = $1", job)
            if row is None:
                raise NotFound(f"There is no job {job}.")
            current = await _reopen(connection, [job_of(row)])
            state = await connection.fetchval(
                "SELECT state FROM jobs WHERE id = $1 FOR UPDATE", job
            )
            if state not in ("failed", "cancelled"):
                raise StateConflict(f"Job {job} is {state}. It cannot be retried.")
            if not current:
                raise StateConflict(
                    f"A later change of {row['asset']} was accepted. Job {job} cannot be retried."
                )
            [queued] = await connection.fetch(f"{_REQUEUE} WHERE id = $1 RETURNING *", job)
            if queued["batch"] is not None:
                column = "errors" if state == "failed" else "cancelled"
                await uncount(connection, queued["batch"], column, 1)
            return job_of(queued)

    async def retry_batch(self, batch: int) -> list[Job]:
        """Queue the failed jobs of a batch again that no later request has replaced; returns
        them.
        """
        async with self._pool.transaction() as connection:
            failed = await connection.fetch(
                "SELECT * FROM jobs WHERE batch = $1 AND state = 'failed'", batch
            )
            current = await _reopen(connection, [job_of(row) for row in failed])
            rows = await connection.fetch(
                f"{_REQUEUE} WHERE id = ANY ($1::bigint[]) AND state = 'failed' RETURNING *",
                [job.id for job in current],
            )
            if rows:
                await uncount(connection, batch, "errors", len(rows))
            return [job_of(row) for row in rows]


async def _reopen(connection: asyncpg.Connection, jobs: Sequence[Job]) -> list[Job]:
    """Set the assets of these jobs back to ingesting. Returns the jobs that may run: those without
    a request, and those whose request is the last one of its asset.
    """
    ingests = sorted(
        (AssetId.parse(job.asset), job.generation)
        for job in jobs
        if job.kind == INGEST and job.generation
    )
    await lock_assets(connection, [asset_id for asset_id, _ in ingests])
    rows = await connection.fetch(
        _REOPEN,
        [each.customer for each, _ in ingests],
        [each.space for each, _ in ingests],
        [each.name for each, _ in ingests],
        [generation for _, generation in ingests],
    )
    current = {
        (str(AssetId(row["customer"], row["space"], row["name"])), row["ingest_generation"])
        for row in rows
    }
    return [
        job
        for job in jobs
        if job.kind != INGEST or not job.generation or (job.asset, job.generation) in current
    ]
