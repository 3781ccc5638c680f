"""Submitting jobs: they are recorded in a transaction, together with the caller's own changes.

The transaction also notifies workers (a trigger of the jobs table). With SQS the jobs are announced
there after the commit, too. An announcement that fails delays nothing but the wake-up: workers look
into the table by themselves.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from orchestrator.catalog.batches import BatchDraft, Lane
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.connection import Connection
from orchestrator.catalog.jobs import Job, JobDraft, Jobs, RecordedJobs
from orchestrator.errors import Unavailable
from orchestrator.jobs.sqs_queues import SqsQueues

log = logging.getLogger(__name__)


class Submission:
    """One transaction in which jobs are submitted; the caller makes its own changes through
    `connection`.
    """

    def __init__(self, jobs: Jobs, connection: Connection) -> None:
        self.connection = connection
        self.submitted: list[tuple[int, Lane]] = []
        self._jobs = jobs

    async def submit(
        self, drafts: Sequence[JobDraft], batch: BatchDraft | None = None
    ) -> RecordedJobs:
        """Record jobs, any number in one statement, and the batch they form. Raises NotFound when
        there is no such customer.
        """
        recorded = await self._jobs.record(self.connection, drafts, batch)
        lanes = (draft.lane for draft in drafts)
        self.submitted += zip(recorded.ids, lanes, strict=True)
        return recorded


class Submitter:
    """Submits, retries and cancels jobs. Every method raises CatalogUnavailable."""

    def __init__(self, catalog: Catalog, sqs: SqsQueues | None = None) -> None:
        """`sqs`: where jobs are announced besides."""
        self._catalog = catalog
        self._sqs = sqs

    @asynccontextmanager
    async def submission(self) -> AsyncIterator[Submission]:
        """A transaction to submit jobs in. An exception rolls everything back."""
        async with self._catalog.transaction() as connection:
            submission = Submission(self._catalog.jobs, connection)
            yield submission
        await self._announce(submission.submitted)

    async def submit(
        self, drafts: Sequence[JobDraft], batch: BatchDraft | None = None
    ) -> RecordedJobs:
        """Submit jobs, and the batch they form, in a transaction of their own.

        Raises NotFound when there is no such customer.
        """
        async with self.submission() as submission:
            return await submission.submit(drafts, batch)

    async def retry(self, job: int) -> Job:
        """Queue a failed or cancelled job again. Raises as `Retries.retry_job`."""
        queued = await self._catalog.retries.retry_job(job)
        await self._announce([(queued.id, queued.lane)])
        return queued

    async def retry_batch(self, batch: int) -> list[Job]:
        """Queue the failed jobs of a batch again; returns them."""
        queued = await self._catalog.retries.retry_batch(batch)
        await self._announce((job.id, job.lane) for job in queued)
        return queued

    async def cancel(self, job: int) -> Job:
        """Cancel a queued or running job and the ingest of its asset. Raises NotFound, Conflict
        in any other state.
        """
        return await self._catalog.cancellations.cancel_job(job)

    async def cancel_batch(self, batch: int) -> int:
        """Cancel the queued and running jobs of a batch and the ingests of their assets; returns
        how many jobs there were.
        """
        return await self._catalog.cancellations.cancel_batch(batch)

    async def _announce(self, jobs: Iterable[tuple[int, Lane]]) -> None:
        """Announce committed jobs in SQS, while no connection and no row of the database waits for
        the answer.
        """
        if self._sqs is None:
            return
        try:
            await self._sqs.announce(jobs)
        except Unavailable as error:  # the jobs are recorded: the caller succeeded
            log.warning("jobs not announced", extra={"reason": error.public})


def host_of(origin: str) -> str:
    """The host that an origin is read from, whose load `jobs.per_host` limits; "" for files."""
    try:
        parts = urlsplit(origin)
        host = parts.hostname or ""
    except ValueError:
        return ""
    return "" if parts.scheme in ("", "file") else host
