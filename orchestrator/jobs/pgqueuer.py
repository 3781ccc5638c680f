"""The queue on our own PostgreSQL: PgQueuer's tables and queries, its notices as the bell.

A job is announced in the transaction that records it. Of PgQueuer only the queries are used: what
to do next, retries and outcomes are the jobs table's. Its schema is migration `0004_pgqueuer.sql`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import orjson
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import (
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.models import Job as Row
from pgqueuer.domain.models import TableChangedEvent
from pgqueuer.domain.settings import DBSettings
from pgqueuer.domain.types import Channel, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter

from orchestrator.catalog.batches import Lane
from orchestrator.catalog.bell import Bell
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import LANES
from orchestrator.errors import InvalidInput
from orchestrator.jobs.queue import Announcement
from orchestrator.settings import Database

_LOOK_EVERY_S = 5.0
"""How soon a lease that ended, or a notice that was missed, is found out."""
_KEEP_LOG = timedelta(hours=1)
_TIDY_AT_ONCE = 1000
_PRIORITIES = {lane: len(LANES) - place for place, lane in enumerate(LANES)}
_ENTRYPOINTS = {QueueEntrypoint(lane): EntrypointExecutionParameter(0) for lane in LANES}


def schema() -> DBSettings:
    """The names of PgQueuer's tables, whatever the environment says: they are in a migration."""
    return DBSettings(
        prefix="",
        db_schema=None,
        channel=Channel("ch_pgqueuer"),
        function="fn_pgqueuer_changed",
        statistics_table="pgqueuer_statistics",
        queue_status_type="pgqueuer_status",
        queue_table="pgqueuer",
        queue_table_log="pgqueuer_log",
        trigger="tg_pgqueuer_changed",
        schedules_table="pgqueuer_schedules",
    )


class PgQueuerTicket:
    """One row of PgQueuer's, picked by us."""

    message = ""
    body = b""

    def __init__(self, queue: PgQueuerQueue, row: Row) -> None:
        self._queue = queue
        self._row = row

    @property
    def lane(self) -> Lane:
        """As Ticket.lane."""
        return "priority" if self._row.entrypoint == "priority" else "normal"

    async def extend(self) -> None:
        """As Ticket.extend."""
        async with self._queue.catalog.connection() as connection:
            await self._queue.queries(connection).update_heartbeat([self._row.id])

    async def done(self) -> None:
        """As Ticket.done."""
        async with self._queue.catalog.connection() as connection:
            await self._queue.queries(connection).log_jobs([(self._row, "successful", None)])

    async def put_back(self, delay_s: float = 0.0) -> None:
        """As Ticket.put_back."""
        async with self._queue.catalog.connection() as connection:
            queries = self._queue.queries(connection)
            await queries.retry_job(self._row, timedelta(seconds=delay_s), None)
            if not delay_s:  # PgQueuer gives no notice of a change to a row
                await queries.driver.notify(self._queue.channel, _notice(self._queue.channel))


class PgQueuerQueue:
    """A JobQueue; `run` has it hear notices at once instead of looking every few seconds."""

    is_transactional = True

    def __init__(self, catalog: Catalog, database: Database, lease_s: float) -> None:
        self.catalog = catalog
        self._settings = schema()
        # All three, or PgQueuer would look into the environment for the rest.
        self._tables = QueryBuilderEnvironment(self._settings)
        self._rows = QueryQueueBuilder(self._settings)
        self._schedules = QuerySchedulerBuilder(self._settings)
        self._lease = timedelta(seconds=lease_s)
        self._ourselves = QueueManagerId(uuid4())
        self._rung = asyncio.Event()
        self._bell = Bell(database, self.channel, self._heard)

    @property
    def channel(self) -> str:
        """The channel of PgQueuer's notices."""
        return self._settings.channel

    def queries(self, connection: asyncpg.Connection) -> Queries:
        """PgQueuer's queries over a connection, in its transaction if it is in one."""
        return Queries(AsyncpgDriver(connection), self._tables, self._rows, self._schedules)

    async def run(self) -> None:
        """As JobQueue.run."""
        await self._bell.run()

    async def announce(
        self, connection: asyncpg.Connection | None, jobs: Sequence[Announcement]
    ) -> None:
        """As JobQueue.announce."""
        if connection is None:
            raise InvalidInput("PgQueuer is told of jobs in the transaction that records them.")
        await self.queries(connection).enqueue(
            [job.lane for job in jobs],
            [b"%d" % job.job for job in jobs],
            [_PRIORITIES[job.lane] for job in jobs],
        )

    async def receive(self, limit: int, wait_s: float) -> list[PgQueuerTicket]:
        """As JobQueue.receive."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            self._rung.clear()
            async with self.catalog.connection() as connection:
                rows = await self._picked(connection, limit)
                left_s = until - loop.time()
                if rows or left_s <= 0:
                    return [PgQueuerTicket(self, row) for row in rows]
                due = await self.queries(connection).next_deferred_eta(list(_ENTRYPOINTS))
            due_s = _LOOK_EVERY_S if due is None else max(due.total_seconds(), 0.01)
            await self._wait(min(left_s, due_s, _LOOK_EVERY_S))

    async def check(self) -> None:
        """As JobQueue.check."""
        async with self.catalog.connection() as connection:
            await self.queries(connection).eligible_queued_work(list(_ENTRYPOINTS))

    async def tidy(self) -> None:
        """Forget PgQueuer's log of what it handed out: the jobs table says all that."""
        removed = _TIDY_AT_ONCE
        while removed == _TIDY_AT_ONCE:  # in pieces that a query's time-out never meets
            async with self.catalog.connection() as connection:
                removed = await connection.fetchval(
                    """WITH gone AS (DELETE FROM pgqueuer_log WHERE id = ANY (ARRAY(
                           SELECT id FROM pgqueuer_log WHERE created < now() - $1::interval
                           ORDER BY created LIMIT $2)) RETURNING id)
                       SELECT count(*) FROM gone""",
                    _KEEP_LOG,
                    _TIDY_AT_ONCE,
                )

    async def _picked(self, connection: asyncpg.Connection, limit: int) -> list[Row]:
        return await self.queries(connection).dequeue(
            limit, _ENTRYPOINTS, self._ourselves, None, self._lease
        )

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return

    def _heard(self, notice: str) -> None:
        if not notice or orjson.loads(notice).get("operation") == "insert":
            self._rung.set()


def _notice(channel: str) -> str:
    event = TableChangedEvent(
        channel=Channel(channel),
        operation="insert",
        sent_at=datetime.now(UTC),
        table="pgqueuer",
        type="table_changed_event",
    )
    return event.model_dump_json(exclude={"received_at"})
