"""Jobs that change many assets, and how far they have come.

The progress is recorded in the transaction of each change, while the claim of the job is valid. So
a job that is run again goes on behind its last change, and one that was cancelled, or that another
worker runs now, changes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import Job, job_of
from orchestrator.errors import NotFound, Superseded
from orchestrator.model import AssetId

BULK = "bulk"
"""The kind of job that changes many assets."""


class BulkJobs:
    """The repository of jobs that change many assets. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, customer: int, limit: int, *, before: int | None = None) -> list[Job]:
        """At most `limit` jobs of a customer with ids below `before`, newest first."""
        rows = await self._pool.fetch(
            """SELECT * FROM jobs
               WHERE kind = 'bulk' AND customer = $1 AND ($3::bigint IS NULL OR id < $3)
               ORDER BY id DESC LIMIT $2""",
            customer,
            limit,
            before,
        )
        return [job_of(row) for row in rows]

    async def get(self, customer: int, job: int) -> Job:
        """The job of this customer. Raises NotFound."""
        row = await self._pool.fetchrow(
            "SELECT * FROM jobs WHERE kind = 'bulk' AND customer = $1 AND id = $2", customer, job
        )
        if row is None:
            raise NotFound(f"Customer {customer} has no bulk change {job}.")
        return job_of(row)

    async def unfinished(self, connection: asyncpg.Connection, customer: int) -> int:
        """The number of waiting and running jobs of a customer. Until the transaction ends, no
        other one counts them.
        """
        await connection.execute(
            "SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE", customer
        )
        return int(
            await connection.fetchval(
                """SELECT count(*) FROM jobs
                   WHERE kind = 'bulk' AND customer = $1 AND state IN ('queued', 'running')""",
                customer,
            )
        )

    async def record_progress(self, job: Job, progress: Mapping[str, Any]) -> None:
        """Record how far a claimed job has come. Raises Superseded if the claim is lost."""
        async with self._pool.connection() as connection:
            await record_progress(connection, job, progress)


async def record_progress(
    connection: asyncpg.Connection, job: Job, progress: Mapping[str, Any]
) -> None:
    """Record how far a claimed job has come, in the connection's transaction. An attempt that makes
    progress is its first one. Raises Superseded if the claim is lost.
    """
    recorded = await connection.fetchval(
        """UPDATE jobs SET progress = $3, attempts = 1
           WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id""",
        job.id,
        job.worker,
        dict(progress),
    )
    if recorded is None:
        raise Superseded


async def lock_older(
    connection: asyncpg.Connection, assets: Sequence[AssetId], generation: int
) -> set[AssetId]:
    """Lock those of the assets that exist, in the order of their keys. Returns those without an
    accepted request after this generation.
    """
    rows = await connection.fetch(
        """SELECT customer, space, name, generation FROM assets
               JOIN unnest($1::int[], $2::int[], $3::text[])
                   AS wanted (customer, space, name) USING (customer, space, name)
           ORDER BY customer, space, name FOR UPDATE OF assets""",
        [each.customer for each in assets],
        [each.space for each in assets],
        [each.name for each in assets],
    )
    return {
        AssetId(row["customer"], row["space"], row["name"])
        for row in rows
        if row["generation"] <= generation
    }
