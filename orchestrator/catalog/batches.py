"""Batches: jobs that were submitted together.

The statement that ends a job also changes the counts of its batch, so the counts are exact
whichever process dies at whichever moment. A batch is finished when its last job ends, once; a
retry opens it again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.errors import CatalogUnavailable, NotFound

Lane = Literal["normal", "priority"]
_RATE_WINDOW_S = 600.0

MOVE = """, moved AS (
        SELECT batch, count(*) AS number FROM ended WHERE batch IS NOT NULL GROUP BY batch
    ), locked AS (  -- in this order in every transaction
        SELECT id FROM batches WHERE id IN (SELECT batch FROM moved) ORDER BY id FOR UPDATE
    ), counted AS (
        UPDATE batches SET {column} = {column} + number,
            finished = CASE WHEN completed + errors + cancelled + superseded + number = count
                THEN clock_timestamp() END
        FROM moved JOIN locked ON locked.id = moved.batch WHERE batches.id = moved.batch
        RETURNING batches.id, finished IS NOT NULL AS is_finished
    )"""
"""Continues `WITH ended AS (UPDATE jobs ... RETURNING *)`: counts the ended jobs in `column`."""


@dataclass(frozen=True, slots=True)
class BatchDraft:
    """A batch to record with its jobs."""

    customer: int
    lane: Lane = "normal"
    is_notified: bool = False
    """True: a job of the kind `batch_webhook` is recorded with the end of the batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of `count` jobs. `superseded` jobs were replaced by later changes of their assets.
    `estimate` is when it will be finished at the rate of its last ten minutes, None while that is
    unknown.
    """

    id: int
    customer: int
    lane: Lane
    count: int
    completed: int
    errors: int
    cancelled: int
    superseded: int
    submitted: datetime
    finished: datetime | None = None
    estimate: datetime | None = None

    @property
    def remaining(self) -> int:
        """Jobs that have not ended."""
        return self.count - self.completed - self.errors - self.cancelled - self.superseded

    @property
    def completion(self) -> datetime | None:
        """When it ended, else `estimate`."""
        return self.finished or self.estimate


@dataclass(frozen=True, slots=True)
class Backlog:
    """The unfinished work of a customer in a lane: batches, queued jobs, running jobs."""

    batches: int
    queued: int
    running: int

    @property
    def unfinished(self) -> int:
        """Queued and running jobs."""
        return self.queued + self.running


class Batches:
    """The repository of batches. Every method raises CatalogUnavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, connection: asyncpg.Connection, draft: BatchDraft, count: int) -> int:
        """Record a batch of `count` jobs; returns its id. A batch without jobs is finished at once.

        Raises NotFound when there is no such customer.
        """
        try:
            number = await connection.fetchval(
                """INSERT INTO batches (customer, lane, count, is_notified, finished)
                   VALUES ($1, $2, $3, $4, CASE WHEN $3 = 0 THEN now() END) RETURNING id""",
                draft.customer,
                draft.lane,
                count,
                draft.is_notified,
            )
        except asyncpg.ForeignKeyViolationError as error:
            raise NotFound(f"There is no customer {draft.customer}.") from error
        return int(number)

    async def get(self, batch: int, *, customer: int | None = None) -> Batch | None:
        """The batch with its estimate, or None. With `customer`, only a batch of this customer."""
        row = await self._pool.fetchrow(
            """SELECT batches.*, recent.number, recent.since FROM batches, LATERAL (
                   SELECT count(*) AS number, min(started) AS since FROM jobs
                   WHERE batches.finished IS NULL AND batch = batches.id
                       AND state IN ('done', 'failed')
                       AND finished > now() - make_interval(secs => $3)) AS recent
               WHERE id = $1 AND ($2::int IS NULL OR customer = $2)""",
            batch,
            customer,
            _RATE_WINDOW_S,
        )
        return None if row is None else _batch(row)

    async def page(
        self,
        limit: int = 100,
        *,
        before: int | None = None,
        customer: int | None = None,
        finished: bool | None = None,
        lane: Lane | None = None,
    ) -> list[Batch]:
        """At most `limit` batches with ids below `before`, newest first, without estimates."""
        rows = await self._pool.fetch(
            """SELECT *, 0 AS number, NULL AS since FROM batches
               WHERE ($2::bigint IS NULL OR id < $2) AND ($3::int IS NULL OR customer = $3)
                   AND ($4::bool IS NULL OR (finished IS NOT NULL) = $4)
                   AND ($5::text IS NULL OR lane = $5)
               ORDER BY id DESC LIMIT $1""",
            limit,
            before,
            customer,
            finished,
            lane,
        )
        return [_batch(row) for row in rows]

    async def recent(
        self, customer: int, limit: int = 100, *, before: tuple[datetime, int] | None = None
    ) -> list[Batch]:
        """At most `limit` finished batches of a customer, that which finished last first. `before`
        is the (finished, id) of the batch that the page begins after.
        """
        rows = await self._pool.fetch(
            """SELECT *, 0 AS number, NULL AS since FROM batches
               WHERE customer = $1 AND finished IS NOT NULL
                   AND ($3::timestamptz IS NULL OR (finished, id) < ($3, $4::bigint))
               ORDER BY finished DESC, id DESC LIMIT $2""",
            customer,
            limit,
            *(before or (None, None)),
        )
        return [_batch(row) for row in rows]

    async def backlog(self, customer: int, lane: Lane) -> Backlog:
        """The unfinished work of a customer in a lane."""
        row = await self._pool.fetchrow(
            """SELECT (SELECT count(*) FROM batches
                       WHERE customer = $1 AND lane = $2 AND finished IS NULL) AS batches,
                   (SELECT count(*) FROM jobs
                    WHERE customer = $1 AND lane = $2 AND state = 'queued') AS queued,
                   (SELECT count(*) FROM jobs
                    WHERE customer = $1 AND lane = $2 AND state = 'running') AS running""",
            customer,
            lane,
        )
        return Backlog(**row) if row is not None else Backlog(0, 0, 0)

    async def sweep(self, keep_days: float, limit: int = 100) -> int:
        """Delete at most `limit` batches, with their jobs, that finished more than `keep_days` ago;
        returns how many.
        """
        rows = await self._pool.fetch(
            """DELETE FROM batches WHERE id = ANY (ARRAY(
                   SELECT id FROM batches WHERE finished < now() - make_interval(days => 1) * $1
                   ORDER BY finished LIMIT $2)) RETURNING id""",
            keep_days,
            limit,
        )
        return len(rows)


async def uncount(connection: asyncpg.Connection, batch: int, column: str, number: int) -> None:
    """Subtract `number` jobs that are queued again from a count, and open the batch."""
    changed = await connection.fetchval(
        f"""UPDATE batches SET {column} = {column} - $2, finished = NULL WHERE id = $1
            RETURNING id""",  # noqa: S608  constants
        batch,
        number,
    )
    if changed is None:
        raise CatalogUnavailable("The batch of the job was deleted.")


def _batch(row: asyncpg.Record) -> Batch:
    batch = Batch(
        row["id"],
        row["customer"],
        row["lane"],
        row["count"],
        row["completed"],
        row["errors"],
        row["cancelled"],
        row["superseded"],
        row["submitted"],
        row["finished"],
    )
    if not row["number"] or batch.finished is not None:
        return batch
    return _estimated(batch, row["number"], row["since"])


def _estimated(batch: Batch, number: int, since: datetime) -> Batch:
    now = datetime.now(since.tzinfo)
    each_s = max((now - since).total_seconds(), 0.001) / number
    return replace(batch, estimate=now + timedelta(seconds=each_s * batch.remaining))
