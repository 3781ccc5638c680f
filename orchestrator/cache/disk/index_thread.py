"""The one thread of a process that uses a cache's index. It runs jobs in order, writes queued
bodies in batches, and does the periodic work between jobs. Without work it sleeps.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.cache.disk.batch_writer import BatchWriter, Put
from orchestrator.cache.disk.ledger import room_for
from orchestrator.cache.disk.periodic_work import PeriodicWork

log = logging.getLogger(__name__)
R = TypeVar("R")


@dataclass(slots=True)
class _Call:
    work: Callable[[], None]


class IndexThread:
    """The thread of one cache, from `start` to `stop`."""

    def __init__(self, name: str, writer: BatchWriter, periodic: PeriodicWork) -> None:
        self.writer = writer
        self.periodic = periodic
        self._name = name
        self._jobs: queue.SimpleQueue[Put | _Call | None] = queue.SimpleQueue()
        self._next_job: Put | _Call | None = None
        """A job that was taken off the queue and comes next."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"cache-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish all jobs, do the periodic work once more, and end. Blocking."""
        self._jobs.put(None)
        self._thread.join()

    def call(self, work: Callable[[], R]) -> Future[R]:
        """Run `work` on the thread. It cannot be cancelled."""
        done: Future[R] = Future()
        done.set_running_or_notify_cancel()
        self._jobs.put(_Call(lambda: _complete(done, work)))
        return done

    async def run(self, work: Callable[[], R]) -> R:
        """Run `work` on the thread and wait for its result. If the caller is cancelled, the work is
        done all the same.
        """
        return await asyncio.wrap_future(self.call(work))

    def wake(self) -> None:
        """Make the periodic work due within its interval."""
        self._jobs.put(_Call(_no_work))

    def put(self, put: Put) -> Future[bool]:
        """Store a body; the future's result is True if it was stored."""
        put.done.set_running_or_notify_cancel()
        self._jobs.put(put)
        return put.done

    @property
    def is_idle(self) -> bool:
        """True if the thread may sleep until the next job."""
        return not (self.periodic.has_work or self._stopping)

    def _run(self) -> None:
        due = time.monotonic() + self.periodic.every_s
        while True:
            was_idle = self.is_idle
            job, self._next_job = self._next_job or self._wait_for_job(due), None
            if job is None and self._stopping:
                break
            if was_idle:
                due = time.monotonic() + self.periodic.every_s
            try:
                if job is not None:
                    self._run_job(job)
                if time.monotonic() >= due:
                    due = time.monotonic() + self.periodic.every_s
                    self.periodic.run()
                self.periodic.step()
            except Exception:  # one failed job must not end the thread of all others
                log.exception("cache thread failed", extra={"cache": self._name})
        self.periodic.run()
        self.writer.ledger.index.close()

    def _run_job(self, job: Put | _Call) -> None:
        self.periodic.request()
        if isinstance(job, Put):
            self.writer.write(self._batch_from(job))
        else:
            job.work()

    def _wait_for_job(self, due: float) -> Put | _Call | None:
        """The next job; None if none arrives before the periodic work is due."""
        if self.is_idle:
            return self._received(self._jobs.get())
        is_busy = self.periodic.is_rebuilding or self._stopping
        wait_s = 0.0 if is_busy else due - time.monotonic()
        try:
            if wait_s > 0:
                return self._received(self._jobs.get(timeout=wait_s))
            return self._received(self._jobs.get_nowait())
        except queue.Empty:
            return None

    def _received(self, job: Put | _Call | None) -> Put | _Call | None:
        self._stopping = self._stopping or job is None
        return job

    def _batch_from(self, first: Put) -> list[Put]:
        """This body and those queued after it, up to a job of another kind."""
        batch, size = [first], room_for(len(first.body))
        while not self.writer.is_full_batch(len(batch), size):
            try:
                job = self._received(self._jobs.get_nowait())
            except queue.Empty:
                break
            if not isinstance(job, Put):
                self._next_job = job
                break
            batch.append(job)
            size += room_for(len(job.body))
        return batch


def _no_work() -> None:
    """A job that only wakes the thread."""


def _complete(done: Future[R], work: Callable[[], R]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # passed to the caller, who waits for the future
        done.set_exception(error)
