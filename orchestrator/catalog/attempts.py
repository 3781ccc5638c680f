"""The history of ingests: the attempts at each asset, how they ended and why."""

from __future__ import annotations

from dataclasses import asdict

import asyncpg

from orchestrator.catalog.asset_transaction import WHERE, key
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.values import Attempt
from orchestrator.errors import Fault
from orchestrator.model import AssetId

MAX_DETAIL_CHARS = 2000


class Attempts:
    """The repository of attempts. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def record(self, attempt: Attempt) -> None:
        """Add an attempt to the history."""
        async with self._pool.connection() as connection:
            await insert_attempt(connection, attempt)

    async def of(self, asset_id: AssetId, limit: int = 20) -> list[Attempt]:
        """The attempts at the asset, the latest first."""
        rows = await self._pool.fetch(
            f"SELECT * FROM ingest_attempts WHERE {WHERE} ORDER BY id DESC LIMIT $4",  # noqa: S608
            *key(asset_id),
            limit,
        )
        return [_attempt(row) for row in rows]

    async def forget(self, older_s: float) -> int:
        """Delete attempts that ended more than `older_s` seconds ago, ten thousand at most; returns
        how many.
        """
        rows = await self._pool.fetch(
            """DELETE FROM ingest_attempts WHERE id IN (
                   SELECT id FROM ingest_attempts
                   WHERE finished < now() - make_interval(secs => $1) ORDER BY finished LIMIT 10000)
               RETURNING id""",
            older_s,
        )
        return len(rows)


async def insert_attempt(connection: asyncpg.Connection, attempt: Attempt) -> None:
    """Add an attempt to the history, in the caller's transaction."""
    fault = attempt.fault
    await connection.execute(
        """INSERT INTO ingest_attempts
               (customer, space, name, job, version, outcome, bytes, fault, started)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        *key(attempt.asset),
        attempt.job,
        attempt.version,
        attempt.outcome,
        attempt.bytes,
        None if fault is None else {**asdict(fault), "detail": fault.detail[:MAX_DETAIL_CHARS]},
        attempt.started,
    )


def _attempt(row: asyncpg.Record) -> Attempt:
    fault = row["fault"]
    return Attempt(
        asset=AssetId(row["customer"], row["space"], row["name"]),
        started=row["started"],
        outcome=row["outcome"],
        job=row["job"],
        version=row["version"],
        bytes=row["bytes"],
        fault=None if fault is None else Fault(**fault),
        finished=row["finished"],
    )
