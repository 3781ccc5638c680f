"""Worker processes in lanes: which worker runs which job, for how long, and what happens when one
ends during a call.

A lane gives a job preferably to the worker that has its picture open, otherwise to any idle one.
The number of waiting jobs is bounded; beyond it a caller gets `Overloaded`. A caller that leaves
cancels a job that has not started, never one that runs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from orchestrator.errors import Overloaded, Unavailable
from orchestrator.imaging.workers.decode_queue import DecodeJob, DecodeQueue, JobGroup
from orchestrator.imaging.workers.decode_worker import WorkerLimits
from orchestrator.imaging.workers.picture_holders import PictureHolders
from orchestrator.imaging.workers.worker_process import WorkerDied, WorkerProcess
from orchestrator.work_context import work_context

log = logging.getLogger(__name__)
T = TypeVar("T")

_MAX_FAILED_STARTS = 3
_GATHER_S = 0.002
"""How long a job waits for others of its group. The requests of one viewer arrive within this
time.
"""
_MAX_RETRY_AFTER_S = 30.0
_SHUTTING_DOWN = "The image workers are shutting down. Retry later."


class Lane:
    """`size` worker processes, each started when it is first needed, and at most `max_waiting`
    jobs that wait for them.
    """

    def __init__(
        self, name: str, size: int, max_waiting: int, limits: WorkerLimits, threads: Executor
    ) -> None:
        """Processes are started in `threads`, so that the event loop never waits for a start."""
        self._name = name
        self._max_waiting = max_waiting
        self._workers = [WorkerProcess(number, limits, threads) for number in range(size)]
        self._holders = PictureHolders()
        self._waiting = DecodeQueue(self._holders)
        self._failed_starts = 0
        self.can_start = True
        """False if the last worker could not be started."""
        self._seconds_per_job = 0.1
        self._has_reported_gaps = False
        self._is_closed = False

    async def run(
        self,
        call: Callable[..., T],
        *arguments: Any,
        timeout_s: float,
        affinity: int = 0,
        group: JobGroup | None = None,
        picture: Hashable = None,
    ) -> T:
        """Run `call` in a worker, preferably in the one that `affinity` selects, and return its
        result. A job with a `group` waits two milliseconds for others of the group. One with a
        `picture`, which must be decoded as a whole, waits for the worker that does it now.

        Raises what the call raises, DecodeTimeout after `timeout_s` seconds of running,
        DecodeFailed if it ends two new workers, Overloaded if too many jobs wait, Unavailable if
        no worker can be started, or if workers were ended or stopped by something else.
        """
        if self._is_closed:
            raise Unavailable(_SHUTTING_DOWN)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                "The server is decoding too many images. Retry later.", self._retry_after_s()
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        job = DecodeJob(
            call, arguments, timeout_s, affinity % len(self._workers), answer, group, picture
        )
        self._waiting.append(job)
        if group is None:
            self._dispatch()
        else:
            loop.call_later(_GATHER_S, self._dispatch)
        with work_context().tracing.span(f"decode {call.__name__}", {"lane": self._name}):
            return await answer

    @property
    def is_busy(self) -> bool:
        """True if a worker runs a job, or a job waits."""
        return len(self._waiting) > 0 or any(worker.is_busy for worker in self._workers)

    @property
    def has_free_worker(self) -> bool:
        """True if a job would run at once, or as soon as a worker has started."""
        busy = sum(worker.is_busy for worker in self._workers)
        return busy + len(self._waiting) < len(self._workers)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers that run."""
        return tuple(worker.pid for worker in self._workers if worker.pid)

    def start_all(self) -> None:
        """Start all workers now, so that no request waits for one to start."""
        for worker in self._workers:
            if worker.is_stopped and not self._is_closed:
                worker.start(partial(self._on_started, worker))

    def close(self) -> None:
        """End the workers at once. Callers that still wait get Unavailable."""
        self._is_closed = True
        self._waiting.fail_all(Unavailable(_SHUTTING_DOWN))
        for worker in self._workers:
            worker.kill()
            worker.discard()  # a busy one, too: the loop may end before it hears of its end

    def _retry_after_s(self) -> float:
        """The time in which the waiting jobs will probably be done."""
        waves = len(self._waiting) / len(self._workers)
        return min(_MAX_RETRY_AFTER_S, max(1.0, waves * self._seconds_per_job))

    def _dispatch(self) -> None:
        """Give waiting jobs to idle workers, then start workers for the jobs that still wait."""
        while self._waiting and self._give_jobs():
            pass
        starting = sum(worker.is_starting for worker in self._workers)
        needed = self._waiting.runnable
        for worker in self._workers:
            if starting >= needed:
                break
            if worker.is_stopped:
                starting += 1
                worker.start(partial(self._on_started, worker))

    def _give_jobs(self) -> bool:
        """Give jobs to one idle worker, preferably to the one that may have the picture of the
        first job open. False if no idle worker may run a waiting job.
        """
        idle = [worker for worker in self._workers if worker.is_idle]
        preferred = self._waiting.preferred_worker()
        for worker in sorted(idle, key=lambda worker: worker.number != preferred):
            jobs = self._waiting.take_for(worker, idle_workers=len(idle))
            if jobs:
                self._run_jobs(worker, jobs)
                return True
        return False

    def _run_jobs(self, worker: WorkerProcess, jobs: list[DecodeJob]) -> None:
        for job in jobs:
            job.worker, job.started_at = worker.number, time.monotonic()
            job.in_new_worker = job.losses > 0 and worker.is_unused
        first, timeout_s = jobs[0], max(job.timeout_s for job in jobs)
        self._holders.begin(first.picture, worker.number)
        if len(jobs) == 1 or first.group is None:
            worker.call(first.call, first.arguments, timeout_s, partial(self._on_result, first))
            return
        arguments = ([job.arguments[0] for job in jobs],)
        on_result = partial(self._on_group_result, jobs)
        worker.call(first.group.call, arguments, timeout_s, on_result)

    def _on_group_result(
        self, jobs: list[DecodeJob], results: list[Any] | None, error: BaseException | None
    ) -> None:
        """Settle each job with its own result. If the worker ended, each job is tried alone."""
        for job, result in zip(jobs, results or [None] * len(jobs), strict=True):
            self._settle(job, result, result if isinstance(result, Exception) else error)
        self._dispatch()

    def _on_result(self, job: DecodeJob, result: Any, error: BaseException | None) -> None:
        self._settle(job, result, error)
        self._dispatch()

    def _settle(self, job: DecodeJob, result: Any, error: BaseException | None) -> None:
        elapsed_s = time.monotonic() - job.started_at
        self._seconds_per_job += 0.1 * (elapsed_s - self._seconds_per_job)
        self._holders.end(job.picture, job.worker, elapsed_s, lost=isinstance(error, WorkerDied))
        if isinstance(error, WorkerDied):
            self._retry_or_fail(job, error)
        elif error is not None:
            job.fail(error)
        else:
            job.succeed(result)

    def _retry_or_fail(self, job: DecodeJob, death: WorkerDied) -> None:
        """Try a job whose worker ended again, or give it up."""
        fault = job.lose_worker(death)
        log.warning(
            "decode worker ended",
            extra={
                "lane": self._name,
                "overdue": death.overdue,
                "stalled": death.stalled,
                "losses": job.losses,
                "call": job.call.__name__,
            },
        )
        if job.answer.done():
            return
        if self._is_closed:
            fault = Unavailable(_SHUTTING_DOWN)
        if fault is None:
            self._waiting.requeue(job)
        else:
            job.fail(fault)

    def _on_started(self, worker: WorkerProcess, succeeded: bool) -> None:
        if self._is_closed:
            worker.kill()
            worker.discard()
            return
        self.can_start = succeeded
        if worker.gaps and not self._has_reported_gaps:
            self._has_reported_gaps = True
            log.warning("decode workers not confined", extra={"open": list(worker.gaps)})
        self._failed_starts = 0 if succeeded else self._failed_starts + 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            log.error("decode worker start failed", extra={"lane": self._name})
            self._failed_starts = 0
            self._waiting.fail_all(Unavailable("The image decoder does not start. Retry later."))
            return
        self._dispatch()
