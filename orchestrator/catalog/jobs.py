"""The jobs table: recording, listing, cancelling and retrying jobs.

The table is the queue (docs/adr/0011-jobs.md). What workers do with it is in `claims.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from orchestrator.catalog.batches import MOVE, BatchDraft, Batches, Lane, uncount
from orchestrator.catalog.connection import Pool
from orchestrator.errors import Conflict, Fault, NotFound

State = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled")
LANES: tuple[Lane, ...] = ("priority", "normal")
INGEST = "ingest"
"""The kind of job whose payload is an ingest payload."""
CONVERT = "convert"
"""The kind of job that converts the registered asset it names."""
JOBS_CHANNEL = "orchestrator_jobs"
"""The channel of the notices that a job is queued. A trigger of the table sends them (migration
0008), so they are part of every transaction that queues a job.
"""


@dataclass(frozen=True, slots=True)
class JobDraft:
    """A job to record. `host`: the origin host that it reads from, "" for none; `asset`: the id of
    the asset that it changes; `dedupe`: of all jobs with the same text only the first is recorded.
    """

    kind: str
    payload: Mapping[str, Any]
    customer: int
    lane: Lane = "normal"
    host: str = ""
    asset: str = ""
    delay_s: float = 0.0
    dedupe: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A recorded job. `attempts` is the number of attempts that started; `worker` identifies the
    last claim; `fault` is why the last attempt failed; `begun` is the time of the first attempt
    since the job was submitted or a person retried it.
    """

    id: int
    kind: str
    lane: Lane
    customer: int
    host: str
    asset: str
    batch: int | None
    payload: Mapping[str, Any]
    state: State
    attempts: int
    due: datetime
    worker: str
    fault: Fault | None
    created: datetime
    started: datetime | None = None
    heartbeat: datetime | None = None
    finished: datetime | None = None
    begun: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecordedJobs:
    """The ids of recorded jobs, in the order of their drafts, and of the batch they form."""

    batch: int | None
    ids: tuple[int, ...]


class Jobs:
    """The repository of jobs. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._batches = Batches(pool)

    async def record(
        self,
        connection: asyncpg.Connection,
        drafts: Sequence[JobDraft],
        batch: BatchDraft | None = None,
    ) -> RecordedJobs:
        """Record jobs, any number in one statement, and the batch they form, in the connection's
        transaction. Workers are notified when it commits.

        For a draft whose `dedupe` is recorded already, the id of the recorded job is returned.
        Raises NotFound when there is no such customer, Conflict for `dedupe` in a batch.
        """
        if batch is not None and any(draft.dedupe is not None for draft in drafts):
            raise Conflict("The jobs of a batch must be new.")
        number = None
        if batch is not None:
            number = await self._batches.create(connection, batch, len(drafts))
        rows = await connection.fetch(
            """INSERT INTO jobs (kind, payload, customer, lane, host, asset, due, dedupe, batch)
               SELECT kind, payload, customer, lane, host, asset,
                   clock_timestamp() + make_interval(secs => delay), dedupe, $9
               FROM unnest($1::text[], $2::jsonb[], $3::int[], $4::text[], $5::text[], $6::text[],
                   $7::float8[], $8::text[]) WITH ORDINALITY AS draft
                   (kind, payload, customer, lane, host, asset, delay, dedupe, place)
               ORDER BY place
               ON CONFLICT (dedupe) DO UPDATE SET dedupe = excluded.dedupe
               RETURNING id""",
            [draft.kind for draft in drafts],
            [draft.payload for draft in drafts],
            [draft.customer for draft in drafts],
            [draft.lane for draft in drafts],
            [draft.host for draft in drafts],
            [draft.asset for draft in drafts],
            [draft.delay_s for draft in drafts],
            [draft.dedupe for draft in drafts],
            number,
        )
        return RecordedJobs(number, tuple(row["id"] for row in rows))

    async def get(self, job: int, *, customer: int | None = None) -> Job | None:
        """The job, or None. With `customer`, only a job of this customer."""
        row = await self._pool.fetchrow(
            "SELECT * FROM jobs WHERE id = $1 AND ($2::int IS NULL OR customer = $2)", job, customer
        )
        return None if row is None else job_of(row)

    async def page(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        customer: int | None = None,
        batch: int | None = None,
        states: Sequence[State] = STATES,
        asset: str | None = None,
    ) -> list[Job]:
        """At most `limit` jobs with ids below `before`, newest first."""
        values: list[Any] = [limit, list(states)]
        within = ""
        for condition, value in (
            ("id <", before),
            ("customer =", customer),
            ("batch =", batch),
            ("asset =", asset),
        ):
            if value is not None:  # a plain comparison, so that an index limits the rows read
                values.append(value)
                within += f" AND {condition} ${len(values)}"
        if tuple(states) == ("failed",):
            within += " AND state = 'failed'"
        rows = await self._pool.fetch(
            f"""SELECT * FROM jobs WHERE state = ANY ($2::text[]){within}
                ORDER BY id DESC LIMIT $1""",  # noqa: S608  constants
            *values,
        )
        return [job_of(row) for row in rows]

    async def failures(self, batch: int, limit: int) -> list[Job]:
        """At most `limit` jobs of a batch whose last attempt failed, newest first: those that
        failed for good, and those that are tried again.
        """
        rows = await self._pool.fetch(
            """SELECT * FROM jobs WHERE batch = $1 AND fault IS NOT NULL
                   AND state IN ('queued', 'running', 'failed') ORDER BY id DESC LIMIT $2""",
            batch,
            limit,
        )
        return [job_of(row) for row in rows]

    async def cancel(self, job: int) -> Job:
        """Cancel a queued job and count it as cancelled. Raises NotFound, Conflict when it is
        running or has ended.
        """
        rows = await self._pool.fetch(
            f"""WITH ended AS (
                    UPDATE jobs SET state = 'cancelled', finished = clock_timestamp()
                    WHERE id = $1 AND state = 'queued' RETURNING *
                ){MOVE.format(column="cancelled")} SELECT * FROM ended""",  # noqa: S608
            job,
        )
        return job_of(rows[0]) if rows else await self._refuse(job, "be cancelled")

    async def cancel_batch(self, batch: int) -> int:
        """Cancel the queued jobs of a batch; returns how many there were. Running jobs go on."""
        rows = await self._pool.fetch(
            f"""WITH ended AS (
                    UPDATE jobs SET state = 'cancelled', finished = clock_timestamp()
                    WHERE batch = $1 AND state = 'queued' RETURNING *
                ){MOVE.format(column="cancelled")} SELECT id FROM ended""",  # noqa: S608
            batch,
        )
        return len(rows)

    async def retry(self, connection: asyncpg.Connection, job: int) -> Job:
        """Queue a failed or cancelled job again, with no attempts used. Raises NotFound, Conflict
        in any other state.
        """
        row = await connection.fetchrow(
            "SELECT state FROM jobs WHERE id = $1 FOR UPDATE",
            job,
        )
        if row is None or row["state"] not in ("failed", "cancelled"):
            return await self._refuse(job, "be retried")
        [queued] = await connection.fetch(f"{_REQUEUE} WHERE id = $1 RETURNING *", job)
        if queued["batch"] is not None:
            column = "errors" if row["state"] == "failed" else "cancelled"
            await uncount(connection, queued["batch"], column, 1)
        return job_of(queued)

    async def retry_batch(self, connection: asyncpg.Connection, batch: int) -> list[Job]:
        """Queue the failed jobs of a batch again; returns them."""
        rows = await connection.fetch(
            f"{_REQUEUE} WHERE batch = $1 AND state = 'failed' RETURNING *", batch
        )
        if rows:
            await uncount(connection, batch, "errors", len(rows))
        return [job_of(row) for row in rows]

    async def sweep(self, keep_days: float, limit: int = 1000) -> int:
        """Delete at most `limit` jobs that ended more than `keep_days` ago and belong to no batch;
        returns how many.
        """
        rows = await self._pool.fetch(
            """DELETE FROM jobs WHERE id = ANY (ARRAY(
                   SELECT id FROM jobs WHERE state IN ('done', 'failed', 'cancelled')
                       AND batch IS NULL AND finished < now() - make_interval(days => 1) * $1
                   ORDER BY finished LIMIT $2)) RETURNING id""",
            keep_days,
            limit,
        )
        return len(rows)

    async def _refuse(self, job: int, action: str) -> Job:
        known = await self.get(job)
        if known is None:
            raise NotFound(f"There is no job {job}.")
        raise Conflict(f"Job {job} is {known.state}. It cannot {action}.")


_REQUEUE = """UPDATE jobs SET state = 'queued', attempts = 0, due = clock_timestamp(),
    finished = NULL, started = NULL, begun = NULL, heartbeat = NULL, worker = '',
    fault = NULL"""


def job_of(row: asyncpg.Record) -> Job:
    """The job in a row of the table."""
    fault = row["fault"]
    return Job(
        id=row["id"],
        kind=row["kind"],
        lane=row["lane"],
        customer=row["customer"],
        host=row["host"],
        asset=row["asset"],
        batch=row["batch"],
        payload=row["payload"],
        state=row["state"],
        attempts=row["attempts"],
        due=row["due"],
        worker=row["worker"],
        fault=None if fault is None else Fault(**fault),
        created=row["created"],
        started=row["started"],
        heartbeat=row["heartbeat"],
        finished=row["finished"],
        begun=row["begun"],
    )
