"""Jobs as they are worked on: claimed by one worker at a time, kept by its heartbeats, settled
exactly once.

A claim is known by the job's number and the `worker` text, anew with every claim: what was taken
from a worker that stood still can no longer be settled by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import asyncpg

from orchestrator.catalog.batches import MOVE, Lane
from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import Job, State, job_of
from orchestrator.errors import Fault

LOST = Fault("worker_lost", "work", retryable=True, detail="The workers that had it died with it.")


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """What became of a claim. `was_ours` is False when it had been taken away: nothing was counted
    then. `batch_finished`: this was the last job of its batch.
    """

    was_ours: bool
    batch_finished: bool = False


@dataclass(frozen=True, slots=True)
class Depth:
    """How many jobs of a lane are in a state; `age_s` of the one that is due longest."""

    lane: Lane
    state: State
    number: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """Jobs of workers that fell silent: those that wait again, those given up as dead letters."""

    requeued: tuple[int, ...]
    given_up: tuple[Job, ...]


class Claims:
    """What workers and their sweeper do with jobs. Every method raises CatalogUnavailable when the
    database does not answer.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(
        self, worker: str, kinds: Sequence[str], lanes: Sequence[Lane], per_host: int
    ) -> Job | None:
        """The best due job of the first lane that has one, now running for `worker`; None when
        there is none, or none whose origin host has room and whose asset no other job is at.
        """
        row = await self._pool.fetchrow(
            "SELECT * FROM claim_job($1, $2, $3, $4)", worker, list(kinds), list(lanes), per_host
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
        """Say that these are still being worked on; the ids of those that are still ours."""
        rows = await self._pool.fetch(
            """UPDATE jobs SET heartbeat = clock_timestamp()
               FROM unnest($1::bigint[], $2::text[]) AS claimed (id, worker)
               WHERE jobs.id = claimed.id AND jobs.worker = claimed.worker AND state = 'running'
               RETURNING jobs.id""",
            [job.id for job in claimed],
            [job.worker for job in claimed],
        )
        return frozenset(row["id"] for row in rows)

    async def complete(self, job: Job) -> ClaimOutcome:
        """Settle a claim as done."""
        return await self._end(job, "done", "completed", None)

    async def fail(self, job: Job, fault: Fault) -> ClaimOutcome:
        """Settle a claim as failed for good: a dead letter."""
        return await self._end(job, "failed", "errors", fault)

    async def postpone(
        self, job: Job, delay_s: float, fault: Fault | None = None, *, counted: bool = True
    ) -> bool:
        """Let a claimed job wait again, due after `delay_s`; False when it was not ours any more.
        The attempt counts unless it is said not to.
        """
        row = await self._pool.fetchrow(
            """UPDATE jobs SET state = 'queued', heartbeat = NULL,
                   due = clock_timestamp() + make_interval(secs => $3),
                   fault = coalesce($4::jsonb, fault), attempts = attempts - $5::int
               WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING id""",
            job.id,
            job.worker,
            delay_s,
            None if fault is None else asdict(fault),
            int(not counted),
        )
        return row is not None

    async def recover(self, silent_s: float, max_attempts: int) -> Recovery:
        """Take the jobs of workers that have been silent for this long: they wait again, to be
        announced, unless they have used up their attempts.
        """
        async with self._pool.transaction() as connection:
            given_up = await connection.fetch(
                f"""WITH ended AS (
                        UPDATE jobs SET state = 'failed', finished = clock_timestamp(), fault = $3
                        WHERE {_SILENT} AND attempts >= $2 RETURNING *
                    ){MOVE.format(column="errors")} SELECT * FROM ended""",  # noqa: S608
                silent_s,
                max_attempts,
                asdict(LOST),
            )
            requeued = await connection.fetch(
                f"""UPDATE jobs SET state = 'queued', heartbeat = NULL,
                        worker = '', due = clock_timestamp()
                    WHERE {_SILENT} RETURNING id""",  # noqa: S608
                silent_s,
            )
        return Recovery(
            tuple(row["id"] for row in requeued), tuple(job_of(row) for row in given_up)
        )

    async def depths(self) -> list[Depth]:
        """How many jobs there are in each lane and state, but those that were done or cancelled."""
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
                    EXISTS (SELECT FROM counted WHERE is_finished) AS batch_finished""",  # noqa: S608
            job.id,
            job.worker,
            state,
            None if fault is None else asdict(fault),
        )
        return _settled(row)


_SILENT = """state = 'running' AND heartbeat < clock_timestamp() - make_interval(secs => $1)"""


def _settled(row: asyncpg.Record | None) -> ClaimOutcome:
    return (
        ClaimOutcome(False) if row is None else ClaimOutcome(row["was_ours"], row["batch_finished"])
    )
