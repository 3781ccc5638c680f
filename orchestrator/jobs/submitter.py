"""Handing in work: recorded, and the queue told of it, or neither.

PgQueuer is told in the transaction that records the jobs. SQS cannot be: it is told after the
commit, and what it could not be told is still marked so in the table, from where a sweeper tells
it (`announce_rest`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg

from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import Job, JobDraft, Recorded
from orchestrator.errors import Unavailable
from orchestrator.jobs.queue import Announcement, JobQueue

log = logging.getLogger(__name__)


class Submission:
    """One transaction in which jobs are handed in, together with the caller's own changes through
    `connection`.
    """

    def __init__(self, catalog: Catalog, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.announcements: list[Announcement] = []
        self._catalog = catalog

    async def submit(self, drafts: Sequence[JobDraft], batch: BatchDraft | None = None) -> Recorded:
        """Record jobs and the batch they make. Raises NotFound when there is no such customer."""
        recorded = await self._catalog.jobs.record(self.connection, drafts, batch)
        self.announcements += [
            Announcement(job, draft.lane) for job, draft in zip(recorded.ids, drafts, strict=True)
        ]
        return recorded

    def again(self, jobs: Sequence[Job]) -> None:
        """Have jobs announced that were recorded before and wait again."""
        self.announcements += [Announcement(job.id, job.lane) for job in jobs]


class Submitter:
    """Whoever has work done goes through this. Every method raises CatalogUnavailable."""

    def __init__(self, catalog: Catalog, queue: JobQueue) -> None:
        self._catalog = catalog
        self._queue = queue

    @asynccontextmanager
    async def submission(self) -> AsyncIterator[Submission]:
        """A transaction to hand in work with; all of it or, on an exception, nothing."""
        async with self._catalog.transaction() as connection:
            submission = Submission(self._catalog, connection)
            yield submission
            if self._queue.is_transactional:
                await self._announce(connection, submission.announcements)
        if not self._queue.is_transactional:
            await self._announce_committed(submission.announcements)

    async def submit(self, drafts: Sequence[JobDraft], batch: BatchDraft | None = None) -> Recorded:
        """Hand in jobs, and the batch they make, in a transaction of their own.

        Raises NotFound when there is no such customer.
        """
        async with self.submission() as submission:
            return await submission.submit(drafts, batch)

    async def record(self, draft: JobDraft) -> int:
        """Record a job that the queue knows of already; its id."""
        async with self._catalog.transaction() as connection:
            recorded = await self._catalog.jobs.record(connection, [draft])
            await self._catalog.jobs.announced(connection, recorded.ids)
        return recorded.ids[0]

    async def retry(self, job: int) -> Job:
        """Have a job that failed or was cancelled done again. Raises NotFound, Conflict in any
        other state.
        """
        async with self.submission() as submission:
            again = await self._catalog.jobs.retry(submission.connection, job)
            submission.again([again])
        return again

    async def retry_batch(self, batch: int) -> list[Job]:
        """Have the failures of a batch done again; the jobs."""
        async with self.submission() as submission:
            jobs = await self._catalog.jobs.retry_batch(submission.connection, batch)
            submission.again(jobs)
        return jobs

    async def cancel(self, job: int) -> Job:
        """Give up a job that waits, and say so of its asset. Raises NotFound, Conflict in any other
        state.
        """
        given_up = await self._catalog.jobs.cancel(job)
        await self._catalog.ingesting.cancelled(job=job)
        return given_up

    async def cancel_batch(self, batch: int) -> int:
        """Give up what still waits of a batch, and say so of the assets; how many jobs that
        were.
        """
        number = await self._catalog.jobs.cancel_batch(batch)
        await self._catalog.ingesting.cancelled(batch=batch)
        return number

    async def announce_rest(self, limit: int = 100) -> int:
        """Tell the queue of jobs that it was never told of; how many. Raises Unavailable, too."""
        jobs = await self._catalog.jobs.unannounced(limit)
        announcements = [Announcement(job.id, job.lane) for job in jobs]
        if self._queue.is_transactional:
            async with self._catalog.transaction() as connection:
                await self._announce(connection, announcements)
        else:
            await self._announce_outside(announcements)
        return len(jobs)

    async def _announce(
        self, connection: asyncpg.Connection, announcements: Sequence[Announcement]
    ) -> None:
        if announcements:
            await self._queue.announce(connection, announcements)
            await self._note(connection, announcements)

    async def _announce_outside(self, announcements: Sequence[Announcement]) -> None:
        """Speak to the queue while neither a connection nor a row waits for its answer; who dies
        before the note has them announced twice, which does no harm.
        """
        if announcements:
            await self._queue.announce(None, announcements)
            async with self._catalog.connection() as connection:
                await self._note(connection, announcements)

    async def _note(
        self, connection: asyncpg.Connection, announcements: Sequence[Announcement]
    ) -> None:
        ids = [announcement.job for announcement in announcements]
        await self._catalog.jobs.announced(connection, ids)

    async def _announce_committed(self, announcements: Sequence[Announcement]) -> None:
        """Who handed them in is told that all is well even when the queue is away: it is."""
        try:
            await self._announce_outside(announcements)
        except Unavailable as error:
            log.warning("jobs are announced later", extra={"reason": error.public})


def host_of(origin: str) -> str:
    """The host an origin's bytes come from, whose load `jobs.per_host` bounds; "" for files."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return ""
    return "" if parts.scheme in ("", "file") else host
