"""Worker processes in lanes: who runs what, for how long, and what happens when one dies.

A lane prefers to give a job to the worker that has its picture open, and spills over to an idle
one. Its queue is bounded; beyond it `Overloaded`. A waiter that leaves cancels a job that has not
begun, never one that has.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from orchestrator.errors import DecodeTimeout, Overloaded, Unavailable, Unprocessable
from orchestrator.imaging import decode_worker as entry
from orchestrator.imaging.worker_process import WorkerDied, WorkerProcess

log = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES = 2
_START_TRIES = 3
_LOOK_AHEAD = 16
_GATHER_S = 0.002
"""How long a job waits for others of its group: a viewer's requests come within this."""
_MOST_TOGETHER = 8
_LONGEST_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Group:
    """Jobs that cost less done together: those of one `key`, by `call` on the list of their first
    arguments, which returns each one's result or error. Neighbours by `order` go together.
    """

    key: Hashable
    call: Callable[..., list[Any]]
    order: tuple[int, ...] = ()
    undivided: bool = False
    """True if it is better that one worker does all of them than that several share them."""


@dataclass(slots=True, eq=False)
class Job:
    """One call waiting for or running in a worker."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout_s: float
    affinity: int
    answer: asyncio.Future[Any]
    group: Group | None = None
    tries: int = 0
    began: float = 0.0


class Lane:
    """`size` worker processes, each started when first needed, and at most `queue` jobs before
    them.
    """

    def __init__(
        self, name: str, size: int, queue: int, limits: entry.WorkerLimits, threads: Executor
    ) -> None:
        """`threads` is where processes are started and stopped, so that the loop never waits for
        one.
        """
        self._name = name
        self._queue = queue
        self._workers = [WorkerProcess(number, limits, threads) for number in range(size)]
        self._waiting: deque[Job] = deque()
        self._failed_starts = 0
        self._seconds_per_job = 0.1
        self._closed = False

    async def run(
        self,
        call: Callable[..., T],
        *arguments: Any,
        timeout_s: float,
        affinity: int = 0,
        group: Group | None = None,
    ) -> T:
        """What `call` returns in a worker, at best the one numbered by `affinity`; a job with a
        `group` waits some milliseconds for others of it.

        Raises what it raises, DecodeTimeout after `timeout_s` seconds of running, Unprocessable if
        it kills its worker twice, Overloaded when the queue is full, Unavailable if no worker can
        be started.
        """
        if self._closed:
            raise Unavailable("The image workers are shutting down.")
        if self.waiting >= self._queue:
            raise Overloaded("Too many images are being decoded; try again soon.", self._patience())
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        job = Job(call, arguments, timeout_s, affinity % len(self._workers), answer, group)
        self._waiting.append(job)
        if group is None:
            self._pump()
        else:
            asyncio.get_running_loop().call_later(_GATHER_S, self._pump)
        return await answer

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken and somebody still waits for."""
        self._waiting = deque(job for job in self._waiting if not job.answer.done())
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """True if a worker has a job, or one waits for a worker."""
        return self.waiting > 0 or any(worker.busy for worker in self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run."""
        return tuple(worker.pid for worker in self._workers if worker.pid)

    def warm(self) -> None:
        """Start all workers now, so that no request waits for one to start."""
        for worker in self._workers:
            if worker.cold and not self._closed:
                worker.start(partial(self._started, worker))

    def close(self) -> None:
        """End the workers at once; whoever still waits hears Unavailable."""
        self._closed = True
        self._fail_waiting()
        for worker in self._workers:
            worker.kill()
            if not worker.busy:
                worker.discard()

    def _patience(self) -> float:
        waves = len(self._waiting) / len(self._workers)
        return min(_LONGEST_RETRY_S, max(1.0, waves * self._seconds_per_job))

    def _pump(self) -> None:
        """Give what waits to idle workers, then start workers for what still waits."""
        while self.waiting:
            worker = self._idle_for(self._waiting[0])
            if worker is None:
                break
            self._give(worker, self._take(worker))
        starting = sum(worker.starting for worker in self._workers)
        for worker in self._workers:
            if starting >= len(self._waiting):
                break
            if worker.cold:
                starting += 1
                worker.start(partial(self._started, worker))

    def _idle_for(self, job: Job) -> WorkerProcess | None:
        preferred = self._workers[job.affinity]
        if preferred.idle:
            return preferred
        return next((worker for worker in self._workers if worker.idle), None)

    def _take(self, worker: WorkerProcess) -> list[Job]:
        """The first job near the front whose picture this worker may have open, else the first;
        with it this worker's share of its group.
        """
        near = itertools.islice(self._waiting, _LOOK_AHEAD)
        job = next((job for job in near if job.affinity == worker.number), self._waiting[0])
        taken = [job, *self._mates(job)]
        for one in taken:
            self._waiting.remove(one)
        return taken

    def _mates(self, first: Job) -> list[Job]:
        group = first.group
        if group is None or first.tries:
            return []
        mates = [job for job in self._waiting if job.group and job.group.key == group.key]
        mates = [job for job in mates if job is not first and not job.tries]
        idle = 1 if group.undivided else max(1, sum(worker.idle for worker in self._workers))
        share = min(_MOST_TOGETHER, -(-(len(mates) + 1) // idle))
        ordered = sorted([first, *mates], key=_order)
        start = ordered.index(first) // share * share
        return [job for job in ordered[start : start + share] if job is not first]

    def _give(self, worker: WorkerProcess, jobs: list[Job]) -> None:
        for job in jobs:
            job.tries += 1
            job.began = time.monotonic()
        first, timeout_s = jobs[0], max(job.timeout_s for job in jobs)
        if len(jobs) == 1 or first.group is None:
            worker.call(first.call, first.arguments, timeout_s, partial(self._ended, first))
            return
        together = ([job.arguments[0] for job in jobs],)
        worker.call(first.group.call, together, timeout_s, partial(self._all_ended, jobs))

    def _all_ended(
        self, jobs: list[Job], results: list[Any] | None, error: BaseException | None
    ) -> None:
        """Hand each job its own result; after a death each is tried alone."""
        for job, result in zip(jobs, results or [None] * len(jobs), strict=True):
            failed = result if isinstance(result, Exception) else error
            self._settle(job, result, failed)
        self._pump()

    def _ended(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._settle(job, result, error)
        self._pump()

    def _settle(self, job: Job, result: Any, error: BaseException | None) -> None:
        self._seconds_per_job += 0.1 * (time.monotonic() - job.began - self._seconds_per_job)
        if isinstance(error, WorkerDied):
            self._after_death(job, overdue=error.overdue)
        elif not job.answer.done():
            if error is not None:
                job.answer.set_exception(error)
            else:
                job.answer.set_result(result)

    def _after_death(self, job: Job, *, overdue: bool) -> None:
        log.warning(
            "decode worker ended",
            extra={
                "lane": self._name,
                "overdue": overdue,
                "tries": job.tries,
                "call": job.call.__name__,
            },
        )
        if job.answer.done():
            return
        if self._closed:
            job.answer.set_exception(Unavailable("The image workers are shutting down."))
        elif overdue:
            job.answer.set_exception(DecodeTimeout("The image took too long to decode."))
        elif job.tries >= _TRIES:
            job.answer.set_exception(Unprocessable("The image could not be decoded."))
        else:
            self._waiting.appendleft(job)

    def _started(self, worker: WorkerProcess, up: bool) -> None:
        if self._closed:
            worker.kill()
            worker.discard()
            return
        self._failed_starts = 0 if up else self._failed_starts + 1
        if self._failed_starts >= _START_TRIES:
            log.error("decode worker does not start", extra={"lane": self._name})
            self._failed_starts = 0
            self._fail_waiting()
            return
        self._pump()

    def _fail_waiting(self) -> None:
        for job in self._waiting:
            if not job.answer.done():
                job.answer.set_exception(Unavailable("The image decoder does not run."))
        self._waiting.clear()


def _order(job: Job) -> tuple[int, ...]:
    return job.group.order if job.group else ()
