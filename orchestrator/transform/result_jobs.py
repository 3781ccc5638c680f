"""The jobs that store results beside their originals and delete those of earlier versions.

The results of the same moment are recorded as one job, in one transaction: recording each alone
takes a third of the processor time of a small result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from orchestrator import metrics
from orchestrator.catalog.jobs import Job, JobDraft
from orchestrator.errors import Unavailable
from orchestrator.fault_log import FaultLog
from orchestrator.jobs.submitter import Submitter
from orchestrator.transform.originals import Place

log = logging.getLogger(__name__)
STORE = "ico_store"
"""The kind of the jobs."""
MAX_ITEMS = 50
"""Results of one job."""
_GATHER_S = 0.1
_NO_CUSTOMER = 0


@dataclass(frozen=True, slots=True)
class ResultItem:
    """A result that a job stores beside the original `key`; with empty `params` only the outdated
    results of the original are deleted.

    `params` are the parameters in the key, `canonical` their canonical text. Without `etag` the
    result is made of the version of the original that is there when the job runs.
    """

    store: str
    key: str
    params: str = ""
    canonical: str = ""
    etag: str = ""

    @property
    def place(self) -> Place:
        """The original."""
        return Place(self.store, self.key)


@dataclass(slots=True)
class _Group:
    """The results that the next job gets, and the task that records it."""

    items: list[ResultItem] = field(default_factory=list)
    recorded: asyncio.Task[None] | None = None


class ResultJobs:
    """Records the jobs of one process. If the database is away, nothing is recorded: the next
    request that makes a result tries again.
    """

    def __init__(self, submitter: Submitter, *, gather_s: float = _GATHER_S) -> None:
        """A job has the results of `gather_s` seconds."""
        self._submitter = submitter
        self._gather_s = gather_s
        self._group = _Group()
        self._running: set[asyncio.Task[None]] = set()
        self._faults = FaultLog(log, "results not recorded", "results recorded again")

    async def record(self, item: ResultItem) -> None:
        """Record a result in a job with others. Returns when it is recorded."""
        group = self._group
        group.items.append(item)
        if group.recorded is None:
            task = asyncio.create_task(self._record_later(group))  # no TaskGroup: `close` ends it
            group.recorded = task
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        if len(group.items) >= MAX_ITEMS:
            self._group = _Group()
        await asyncio.shield(group.recorded)

    async def record_change(self, place: Place) -> None:
        """Record the job that deletes the results of earlier versions of an original."""
        await self._submit([ResultItem(place.store, place.key)])

    async def close(self) -> None:
        """Record what waits."""
        await asyncio.gather(*self._running)

    async def _record_later(self, group: _Group) -> None:
        await asyncio.sleep(self._gather_s)
        if self._group is group:
            self._group = _Group()
        await self._submit(group.items)

    async def _submit(self, items: Sequence[ResultItem]) -> None:
        try:
            await self._submitter.submit([job_draft(items)])
        except Unavailable as error:
            metrics.ICO_RESULTS.labels("unrecorded").inc(len(items))
            self._faults.report(reason=error.public)
        else:
            self._faults.clear()


def job_draft(items: Sequence[ResultItem]) -> JobDraft:
    """The job that stores these results."""
    return JobDraft(STORE, {"results": [asdict(item) for item in items]}, _NO_CUSTOMER)


def items_of(job: Job) -> list[ResultItem]:
    """The results that a job stores."""
    return [ResultItem(**item) for item in job.payload["results"]]
