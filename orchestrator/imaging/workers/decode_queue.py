"""The jobs of a lane that wait for a decode worker, and which of them a worker takes next."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import DecodeFailed, DecodeTimeout, Unavailable
from orchestrator.imaging.workers.picture_holders import PictureHolders
from orchestrator.imaging.workers.worker_process import WorkerDied, WorkerProcess

_MAX_FAULTS = 2
"""A picture that ends this many new workers is refused."""
_MAX_LOSSES = 6
"""A job that lost this many workers, for whatever reasons, is given up."""
_DIED_TWICE = (
    "The decoder ended twice without a result. "
    "Convert the file to another format, or use another copy."
)
_LOOK_AHEAD = 16
_MAX_GROUP = 8


@dataclass(frozen=True, slots=True)
class JobGroup:
    """Jobs that cost less when one call does several of them: those with the same `key`.

    `call` takes the list of the first arguments of the jobs, and returns for each its result or its
    error. Jobs that are neighbours in `order` go together.
    """

    key: Hashable
    call: Callable[..., list[Any]]
    order: tuple[int, ...] = ()
    undivided: bool = False
    """True if one worker should do all of them, even if others are idle."""


@dataclass(slots=True, eq=False)
class DecodeJob:
    """One call that waits for a worker or runs in one."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout_s: float
    affinity: int
    answer: asyncio.Future[Any]
    group: JobGroup | None = None
    picture: Hashable = None
    """The original that must be decoded as a whole for this job; None if a part is enough."""
    worker: int = 0
    """The number of the worker that runs it."""
    started_at: float = 0.0
    in_new_worker: bool = False
    """True if this is the first call of a worker that was started after `lost_at`."""
    losses: int = 0
    """How many workers were lost while they ran this job, whatever the cause."""
    faults: int = 0
    """How many of them ran nothing but this job, so that it is the cause."""
    lost_at: float = 0.0
    """When the last of them was lost. Only a worker that was started later tries the job again."""

    def lose_worker(self, death: WorkerDied) -> Exception | None:
        """Count a worker that ended during this job. Returns the error with which the job ends;
        None if it is to be tried again.

        The picture is at fault only if it took too much processor time, or twice ended a worker
        that had run nothing else. Anything else (the worker was killed while it was idle, stopped,
        or damaged by the picture before) is retried, and then a fault of ours.
        """
        self.losses += 1
        self.lost_at = time.monotonic()
        self.faults += self.in_new_worker and not death.overdue
        if death.overdue and not death.stalled:
            return DecodeTimeout("The image took too long to decode.")
        if self.faults >= _MAX_FAULTS:
            return DecodeFailed(_DIED_TWICE)
        if self.losses >= _MAX_LOSSES or (death.stalled and self.losses > 1):
            return Unavailable("The image decoder was interrupted. Retry later.")
        return None

    def fail(self, error: BaseException) -> None:
        """Give the caller `error`, if it still waits."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def succeed(self, result: Any) -> None:
        """Give the caller `result`, if it still waits."""
        if not self.answer.done():
            self.answer.set_result(result)


class DecodeQueue:
    """Waiting jobs in order. A job whose caller has left is removed before it starts. A job may
    have to wait until another worker has decoded its picture.
    """

    def __init__(self, holders: PictureHolders) -> None:
        self._jobs: deque[DecodeJob] = deque()
        self._holders = holders

    def __len__(self) -> int:
        """How many jobs wait whose callers also still wait."""
        self._jobs = deque(job for job in self._jobs if not job.answer.done())
        return len(self._jobs)

    @property
    def runnable(self) -> int:
        """How many jobs an idle or a new worker may run now."""
        return sum(1 for _ in self._runnable_jobs())

    def append(self, job: DecodeJob) -> None:
        """Add a new job at the end."""
        self._jobs.append(job)

    def requeue(self, job: DecodeJob) -> None:
        """Add a job that must be tried again, before all others."""
        self._jobs.appendleft(job)

    def take_for(self, worker: WorkerProcess, *, idle_workers: int) -> list[DecodeJob]:
        """Remove and return what an idle worker does next: a job that waits for a new worker, if
        this one is new; else a job near the front whose picture it may have open; else the first
        one. If the job belongs to a group, this worker's share of the group comes with it. [] if
        every waiting job needs a newer worker, or waits for the worker that decodes its picture.
        """
        runnable = list(self._runnable_jobs())
        lost = (job for job in runnable if job.losses and job.lost_at < worker.started_at)
        new = [job for job in runnable if not job.losses]
        near = (job for job in new[:_LOOK_AHEAD] if self._preferred(job) == worker.number)
        job = next(lost, None) or next(near, None) or (new[0] if new else None)
        if job is None:
            return []
        taken = [job, *self._group_share(job, idle_workers)]
        for each in taken:
            self._jobs.remove(each)
        return taken

    def preferred_worker(self) -> int:
        """The number of the worker that may have the picture of the first runnable job open; 0 if
        there is no such job.
        """
        return next((self._preferred(job) for job in self._runnable_jobs()), 0)

    def _runnable_jobs(self) -> Iterator[DecodeJob]:
        return (job for job in self._jobs if not self._holders.must_wait(job.picture))

    def _preferred(self, job: DecodeJob) -> int:
        holder = self._holders.worker_of(job.picture)
        return job.affinity if holder is None else holder

    def _group_share(self, first: DecodeJob, idle_workers: int) -> list[DecodeJob]:
        """The other jobs of `first`'s group for one call, if the group is divided evenly among the
        idle workers. A job that lost a worker is done alone.
        """
        group = first.group
        if group is None or first.losses:
            return []
        others = [
            job
            for job in self._jobs
            if not job.losses and job is not first and job.group and job.group.key == group.key
        ]
        workers = 1 if group.undivided else max(1, idle_workers)
        share = min(_MAX_GROUP, -(-(len(others) + 1) // workers))
        ordered = sorted([first, *others], key=_group_order)
        start = ordered.index(first) // share * share
        return [job for job in ordered[start : start + share] if job is not first]

    def fail_all(self, error: Exception) -> None:
        """Give all callers `error` and remove all jobs."""
        for job in self._jobs:
            job.fail(error)
        self._jobs.clear()


def _group_order(job: DecodeJob) -> tuple[int, ...]:
    return job.group.order if job.group else ()
