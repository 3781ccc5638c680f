"""Cancelling queued and running jobs, and the ingests that they were to do: one transaction.

The claim of a running job ends; its worker is notified and stops it.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from orchestrator.catalog.accepted_requests import notify_ended
from orchestrator.catalog.asset_transaction import lock_assets
from orchestrator.catalog.batches import MOVE
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.ingest_state import SERVED_STATE, withdraw_original
from orchestrator.catalog.jobs import Job, job_of
from orchestrator.errors import NotFound, StateConflict
from orchestrator.model import AssetId

_ERROR = "The ingest was cancelled."
_UNFINISHED = "state IN ('queued', 'running')"
_JOBS = """unnest($1::int[], $2::int[], $3::text[], $4::bigint[])
    AS job (customer, space, name, generation)"""
_IS_THEIRS = """(assets.customer, assets.space, assets.name) = (job.customer, job.space, job.name)
    AND assets.ingest_generation = job.generation AND assets.state = 'ingesting'"""


class Cancellations:
    """The repository of cancellations. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def cancel_job(self, job: int) -> Job:
        """Cancel a queued or running job and the ingest of its asset. Raises NotFound, Conflict
        when it has ended.
        """
        async with self._pool.transaction() as connection:
            cancelled = await _cancel(connection, "id", job)
            if cancelled:
                return cancelled[0]
            state = await connection.fetchval("SELECT state FROM jobs WHERE id = $1", job)
        if state is None:
            raise NotFound(f"There is no job {job}.")
        raise StateConflict(f"Job {job} is {state}. It cannot be cancelled.")

    async def cancel_batch(self, batch: int) -> int:
        """Cancel the queued and running jobs of a batch and the ingests of their assets; returns
        how many jobs there were.
        """
        async with self._pool.transaction() as connection:
            return len(await _cancel(connection, "batch", batch))


async def _cancel(connection: asyncpg.Connection, column: str, value: int) -> list[Job]:
    rows = await connection.fetch(
        f"SELECT DISTINCT asset FROM jobs WHERE {column} = $1 AND {_UNFINISHED} AND asset <> ''",  # noqa: S608
        value,
    )
    # Locked before the jobs, as in every transaction.
    await lock_assets(connection, [AssetId.parse(row["asset"]) for row in rows])
    rows = await connection.fetch(
        f"""WITH ended AS (
                UPDATE jobs SET state = 'cancelled', finished = clock_timestamp(), heartbeat = NULL
                WHERE {column} = $1 AND {_UNFINISHED} RETURNING *
            ){MOVE.format(column="cancelled")} SELECT * FROM ended""",  # noqa: S608
        value,
    )
    jobs = [job_of(row) for row in rows]
    await _end_ingests(connection, [job for job in jobs if job.kind == "ingest" and job.asset])
    if any(job.started is not None for job in jobs):
        await notify_ended(connection)
    return jobs


async def _end_ingests(connection: asyncpg.Connection, jobs: Sequence[Job]) -> None:
    """End the ingests that no other job will do. The original of a first ingest is withdrawn."""
    assets = [AssetId.parse(job.asset) for job in jobs]
    values = (
        [each.customer for each in assets],
        [each.space for each in assets],
        [each.name for each in assets],
        [job.generation for job in jobs],
    )
    served = await connection.fetch(
        f"""SELECT assets.customer, assets.space, assets.name FROM assets, {_JOBS}
            WHERE {_IS_THEIRS} AND source IS NOT NULL AND thumbnails_version = 0""",  # noqa: S608
        *values,
    )
    for row in served:
        await withdraw_original(connection, AssetId(row["customer"], row["space"], row["name"]))
    await connection.execute(
        f"""UPDATE assets SET state = {SERVED_STATE}, error = $5, error_code = '',
                finished = now() FROM {_JOBS} WHERE {_IS_THEIRS}""",  # noqa: S608  constants
        *values,
        _ERROR,
    )
