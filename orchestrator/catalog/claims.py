"""Claims: a worker claims a job, keeps the claim by heartbeats, and settles it exactly once.

A claim is identified by the job's number and the text in `worker`, which is new with each claim.
So a worker that was silent cannot settle a job that another worker has claimed since.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import asyncpg

from orchestrator.catalog.batches import MOVE, Lane
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import Job, State, job_of
from orchestrator.errors import Fault

LOST = Fault("worker_lost", "work", retryable=True, detail="Every worker that ran this job died.")


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """The result of settling a claim. `was_ours` is False when the claim had been lost before:
    nothing is recorded then, and `ended` is the state in which a request has ended the job, if one
    did. `batch_finished`: this was the last job of its batch.
    """

    was_ours: bool
    batch_finished: bool = False
    ended: State | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The number of jobs of a lane in a state. `age_s` is how long the oldest queued job is due."""

    lane: Lane
    state: State
    number: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """The jobs taken from silent workers: those queued again, and those that are dead letters."""

    requeued: tuple[int, ...]
    given_up: tuple[Job, ...]


class Claims:
    """The repository of claims. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(
        self,
        worker: str,
        kinds: Sequence[str],
        lanes: Sequence[Lane],
        per_host: int,
        without: Sequence[int] = (),
    ) -> Job | None:
        """Claim the best due job of the first lane that has one: it is now running for `worker`.
        None when no job is due whose origin host has room and whose asset has no running job.
        Jobs of the customers `without` are not claimed.
        """
        row = await self._pool.fetchrow(
            "SELECT * FROM claim_job($1, $2, $3, $4, $5)",
            worker,
            list(kinds),
            list(lanes),
            per_host,
            list(without),
        )
        return None if row is None else job_of(row)

    async def next_due_s(self, kinds: Sequence[str]) -> float | None:
        """Seconds until the next queued job of these kinds is due, 0 or less when one is due now;
        None when none is queued.
        """
        row = await self._pool.fetchrow(
            """SELECT extract(epoch FROM due - clock_timestamp())::float8 AS due_s FROM jobs
               WHERE state = 'queued' AND kind = ANY ($1::text[]) ORDER BY due LIMIT 1""",
            list(kinds),
        )
        return None if row is None else float(row["due_s"])

    async def heartbeat(self, claimed: Sequence[Job]) -> frozenset[int]:
        """Record that these jobs still run. Returns the ids of those whose claim is not lost."""
        rows = await self._pool.fetch(
            """UPDATE jobs SET heartbeat = clock_timestamp()
               FROM unnest($1::bigint[], $2::text[]) AS claimed (id, worker)
               WHERE jobs.id = claimed.id AND jobs.worker = claimed.worker AND state = 'running'
               RETURNING jobs.id""",
            [job.id for job in claimed],
            [job.worker for job in claimed],
        )
        return frozenset(row["id"] for row in rows)

    async def ended(self, claimed: Sequence[Job]) -> dict[int, State]:
        """Those of these claimed jobs that a request has ended, with their states."""
        rows = await self._pool.fetch(
            """SELECT jobs.id, state FROM jobs
               JOIN unnest($1::bigint[], $2::text[]) AS claimed (id, worker) USING (id, worker)
               WHERE state IN ('cancelled', 'superseded')""",
            [job.id for job in claimed],
            [job.worker for job in claimed],
        )
        return {row["id"]: row["state"] for row in rows}

    async def record_fetched(self, job: Job) -> None:
        """Record that a claimed job no longer reads from the host of its origin."""
        await self._pool.fetchrow(
            """UPDATE jobs SET fetched = true
               WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id""",
            job.id,
            job.worker,
        )

    async def complete(self, job: Job) -> ClaimOutcome:
        """Settle a claim: the job is done."""
        return await self._end(job, "done", "completed", None)

    async def fail(self, job: Job, fault: Fault) -> ClaimOutcome:
        """Settle a claim: the job failed for good and is a dead letter."""
        return await self._end(job, "failed", "errors", fault)

    async def supersede(self, job: Job, fault: Fault) -> ClaimOutcome:
        """Settle a claim: a later request replaced that of the job."""
        return await self._end(job, "superseded", "superseded", fault)

    async def postpone(
        self, job: Job, delay_s: float, fault: Fault | None = None, *, is_counted: bool = True
    ) -> bool:
        """Queue a claimed job again, due after `delay_s`. The attempt counts if `is_counted`. False
        when the claim was lost.
        """
        row = await self._pool.fetchrow(
            """UPDATE jobs SET state = 'queued', heartbeat = NULL,
                   due = clock_timestamp() + make_interval(secs => $3), wait_s = $3,
                   fault = coalesce($4::jsonb, fault), attempts = attempts - $5::int
               WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id""",
            job.id,
            job.worker,
            delay_s,
            None if fault is None else asdict(fault),
            int(not is_counted),
        )
        return row is not None

    async def cap_times(self) -> int:
        """After the clock of the database was set back, no job waits longer than its delay, and no
        claim lasts longer than its lease, both from now on. Returns how many jobs this corrected.
        """
        row = await self._pool.fetchrow(_CAP)
        return 0 if row is None else int(row["number"])

    async def recover(self, silent_s: float, max_attempts: int) -> Recovery:
        """Take the jobs of workers that have been silent for `silent_s` seconds. They are queued
        again, unless they have had `max_attempts` attempts.
        """
        return await self._recover(_SILENT, silent_s, max_attempts)

    async def recover_from(self, workers: Sequence[str], max_attempts: int) -> Recovery:
        """Take the jobs of these workers, which have died. `workers` are the texts before the slash
        in `Job.worker`. They are queued again as by `recover`.
        """
        return await self._recover(_THEIRS, list(workers), max_attempts)

    async def _recover(
        self, condition: str, value: float | list[str], max_attempts: int
    ) -> Recovery:
        async with self._pool.transaction() as connection:
            given_up = await connection.fetch(
                f"""WITH ended AS (
                        UPDATE jobs SET state = 'failed', finished = clock_timestamp(), fault = $3
                        WHERE {condition} AND attempts >= $2 RETURNING *
                    ){MOVE.format(column="errors")} SELECT * FROM ended""",  # noqa: S608
                value,
                max_attempts,
                asdict(LOST),
            )
            requeued = await connection.fetch(
                f"""UPDATE jobs SET state = 'queued', heartbeat = NULL,
                        worker = '', due = clock_timestamp(), wait_s = 0
                    WHERE {condition} RETURNING id""",  # noqa: S608
                value,
            )
        return Recovery(
            tuple(row["id"] for row in requeued), tuple(job_of(row) for row in given_up)
        )

    async def depths(self) -> list[Depth]:
        """The number of queued, running and failed jobs of each lane."""
        rows = await self._pool.fetch(
            """SELECT lane, state, count(*) AS number, coalesce(extract(epoch FROM max(now() - due)
                   FILTER (WHERE state = 'queued')), 0)::float8 AS age_s
               FROM jobs WHERE state = 'queued' GROUP BY lane, state
               UNION ALL SELECT lane, state, count(*), 0 FROM jobs WHERE state = 'running'
               GROUP BY lane, state
               UNION ALL SELECT lane, state, count(*), 0 FROM jobs WHERE state = 'failed'
               GROUP BY lane, state"""
        )
        return [
            Depth(row["lane"], row["state"], row["number"], max(row["age_s"], 0.0)) for row in rows
        ]

    async def _end(self, job: Job, state: State, column: str, fault: Fault | None) -> ClaimOutcome:
        row = await self._pool.fetchrow(
            f"""WITH ended AS (
                    UPDATE jobs SET state = $3, finished = clock_timestamp(), fault = $4::jsonb
                    WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING *
                ){MOVE.format(column=column)}
                SELECT EXISTS (SELECT FROM ended) AS was_ours,
                    EXISTS (SELECT FROM counted WHERE is_finished) AS batch_finished,
                    (SELECT state FROM jobs WHERE id = $1 AND worker = $2
                         AND state IN ('cancelled', 'superseded')) AS ended""",  # noqa: S608
            job.id,
            job.worker,
            state,
            None if fault is None else asdict(fault),
        )
        return _settled(row)


_CAP = """WITH queued AS (
        UPDATE jobs SET state = 'queued',  -- named, so that workers are notified
            due = clock_timestamp() + make_interval(secs => wait_s)
        WHERE state = 'queued' AND due > clock_timestamp()
            AND due > clock_timestamp() + make_interval(secs => wait_s) RETURNING id
    ), running AS (
        UPDATE jobs SET heartbeat = clock_timestamp()
        WHERE state = 'running' AND heartbeat > clock_timestamp() RETURNING id
    ) SELECT (SELECT count(*) FROM queued) + (SELECT count(*) FROM running) AS number"""
_THEIRS = "state = 'running' AND split_part(worker, '/', 1) = ANY ($1::text[])"
_SILENT = """state = 'running' AND heartbeat < clock_timestamp() - make_interval(secs => $1)"""


def _settled(row: asyncpg.Record | None) -> ClaimOutcome:
    return (
        ClaimOutcome(False)
        if row is None
        else ClaimOutcome(row["was_ours"], row["batch_finished"], row["ended"])
    )
