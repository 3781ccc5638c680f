"""The jobs table: recording and listing jobs.

The table is the queue (docs/adr/0011-jobs.md). What workers do with it is in `claims.py`, what
persons do with it in `cancellations.py` and `retries.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import asyncpg

from orchestrator.catalog.accepted_requests import AT_ONCE, accept_ingests
from orchestrator.catalog.batches import BatchDraft, Batches, Lane
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.values import AssetDraft
from orchestrator.errors import Fault, StateConflict
from orchestrator.loop_turns import in_turns
from orchestrator.work_context import work_context

State = Literal["queued", "running", "done", "failed", "cancelled", "superseded"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed", "cancelled", "superseded")
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

    `request` is the request for an ingest that is accepted together with the job, which then acts
    for it. `generation` is that of a request that was accepted before.
    """

    kind: str
    payload: Mapping[str, Any]
    customer: int
    lane: Lane = "normal"
    host: str = ""
    asset: str = ""
    delay_s: float = 0.0
    dedupe: str | None = None
    request: AssetDraft | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A recorded job. `attempts` is the number of attempts that started; `worker` identifies the
    last claim; `fault` is why the last attempt failed; `begun` is the time of the first attempt
    since the job was submitted or a person retried it; `generation` is that of the request that it
    was accepted for, 0 without one; `progress` is what a job that changes many assets has recorded;
    `request_id` is the id of the HTTP request that caused the job, "" for none.
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
    generation: int = 0
    progress: Mapping[str, Any] | None = None
    request_id: str = ""


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
        """Record jobs, the batch they form, and the requests they are for, in the connection's
        transaction. Workers are notified when it commits.

        For a draft whose `dedupe` is recorded already, the id of the recorded job is returned.
        Raises NotFound when there is no such customer, Conflict for `dedupe` in a batch,
        AssetNotFound as `accept_ingests`.
        """
        if batch is not None and any(draft.dedupe is not None for draft in drafts):
            raise StateConflict("The jobs of a batch must be new.")
        number = None
        if batch is not None:
            number = await self._batches.create(connection, batch, len(drafts))
        generations = await _accept_requests(connection, drafts, number)
        ids: list[int] = []
        for start in range(0, len(drafts), AT_ONCE):
            some = drafts[start : start + AT_ONCE]
            rows = await connection.fetch(
                _INSERT,
                [draft.kind for draft in some],
                [draft.payload for draft in some],
                [draft.customer for draft in some],
                [draft.lane for draft in some],
                [draft.host for draft in some],
                [draft.asset for draft in some],
                [draft.delay_s for draft in some],
                [draft.dedupe for draft in some],
                [generations.get(draft.asset, draft.generation) for draft in some],
                number,
                work_context().request_id,
            )
            ids += [row["id"] for row in rows]
        return RecordedJobs(number, tuple(ids))

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
        return [job_of(row) async for row in in_turns(rows)]

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
        return [job_of(row) async for row in in_turns(rows)]

    async def sweep(self, keep_days: float, limit: int = 1000) -> int:
        """Delete at most `limit` jobs that ended more than `keep_days` ago and belong to no batch;
        returns how many.
        """
        rows = await self._pool.fetch(
            """DELETE FROM jobs WHERE id = ANY (ARRAY(
                   SELECT id FROM jobs
                   WHERE state IN ('done', 'failed', 'cancelled', 'superseded')
                       AND batch IS NULL AND finished < now() - make_interval(days => 1) * $1
                   ORDER BY finished LIMIT $2)) RETURNING id""",
            keep_days,
            limit,
        )
        return len(rows)


_INSERT = """INSERT INTO jobs
        (kind, payload, customer, lane, host, asset, due, wait_s, dedupe, generation, batch,
        request_id)
    SELECT kind, payload, customer, lane, host, asset,
        clock_timestamp() + make_interval(secs => delay), delay, dedupe, generation, $10, $11
    FROM unnest($1::text[], $2::jsonb[], $3::int[], $4::text[], $5::text[], $6::text[],
        $7::float8[], $8::text[], $9::bigint[]) WITH ORDINALITY AS draft
        (kind, payload, customer, lane, host, asset, delay, dedupe, generation, place)
    ORDER BY place
    ON CONFLICT (dedupe) DO UPDATE SET dedupe = excluded.dedupe
    RETURNING id"""


async def _accept_requests(
    connection: asyncpg.Connection, drafts: Sequence[JobDraft], batch: int | None
) -> dict[str, int]:
    """Accept the requests of drafts that are not recorded yet. Returns their generations by the id
    of the asset.
    """
    requests = [draft for draft in drafts if draft.request is not None]
    texts = sorted(draft.dedupe for draft in requests if draft.dedupe is not None)
    for text in texts:  # until the end: two receivers of one message must not both accept it
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 2))", text)
    rows = await connection.fetch("SELECT dedupe FROM jobs WHERE dedupe = ANY ($1::text[])", texts)
    known = {row["dedupe"] for row in rows}
    accepted = await accept_ingests(
        connection,
        [each.request for each in requests if each.request and each.dedupe not in known],
        batch,
    )
    return {str(asset_id): generation for asset_id, generation in accepted.items()}


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
        generation=row["generation"],
        progress=row["progress"],
        request_id=row["request_id"],
    )
