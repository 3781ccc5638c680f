"""One decode worker process. It is started outside the event loop, runs one call at a time, and is
killed when a call uses too much processor time.

It is a `ProcessPoolExecutor` of one *spawned* process (fork deadlocks libvips). All methods are
called on the event loop.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from orchestrator.imaging.workers import decode_worker, large_results
from orchestrator.imaging.workers.handed_files import FileHandover

_START_TIMEOUT_S = 60.0
_BUSY_SHARE = 0.1
"""A worker that used the processor for less than this share of the time was stopped, waited for a
disk, or had to share the processor with many others. That is no fault of the picture.
"""
_CHECK_PRECISION_S = 0.01
"""A call that has nearly used its time is looked at again after this time at the earliest."""
_CPUCLOCK_SCHED = 2
"""The clock of the processor time of all threads of a process (Linux)."""

_Started = tuple[ProcessPoolExecutor, FileHandover, int, tuple[str, ...]]
OnResult = Callable[[Any, BaseException | None], None]
"""Called with the result of a call, or None and its error."""


class WorkerDied(Exception):
    """The process ended during a call; `overdue` if we killed it because of the time limit, and
    `stalled` if it had hardly used the processor until then: it was stopped, or waited.
    """

    def __init__(self, *, overdue: bool, stalled: bool) -> None:
        super().__init__()
        self.overdue = overdue
        self.stalled = stalled


class WorkerProcess:
    """A process that is stopped, starting, idle or busy."""

    def __init__(self, number: int, limits: decode_worker.WorkerLimits, threads: Executor) -> None:
        self.number = number
        self._limits = limits
        self._threads = threads
        self._executor: ProcessPoolExecutor | None = None
        self._call: Callable[..., Any] = _call
        self._handover: FileHandover | None = None
        self.pid = 0
        self.gaps: tuple[str, ...] = ()
        """What the system does not let us refuse the process: see `sandbox.find_gaps`."""
        self.started_at = 0.0
        """When the process began to start."""
        self.is_unused = True
        """True until the first call."""
        self.is_starting = False
        self.is_busy = False

    @property
    def is_stopped(self) -> bool:
        """True if it must be started before it can run a call."""
        return not self.pid and not self.is_starting

    @property
    def is_idle(self) -> bool:
        """True if it can run a call now."""
        return self.pid > 0 and not self.is_busy

    def start(self, on_started: Callable[[bool], None]) -> None:
        """Start the process in a thread. `on_started` is called with True if that succeeded."""
        loop = asyncio.get_running_loop()
        self.is_starting = self.is_unused = True
        self.started_at = time.monotonic()
        starting = self._threads.submit(self._start_executor)

        def finish(future: Future[_Started]) -> None:
            self.is_starting = False
            succeeded = future.exception() is None
            if succeeded:
                self._executor, self._handover, self.pid, self.gaps = future.result()
            on_started(succeeded)

        starting.add_done_callback(lambda future: _call_on_loop(loop, finish, future))

    def _start_executor(self) -> _Started:
        with ExitStack() as on_failure:
            handover = FileHandover()
            on_failure.callback(handover.close)
            executor = ProcessPoolExecutor(
                max_workers=1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=decode_worker.start,
                initargs=(self._limits, handover.theirs),
            )
            on_failure.callback(executor.shutdown, wait=False, cancel_futures=True)
            pid, gaps = executor.submit(decode_worker.report_ready).result(_START_TIMEOUT_S)
            self._call = large_results.call if _shares_files(executor) else _call
            on_failure.pop_all()
        handover.theirs.close()  # the process has its own descriptor of this end
        return executor, handover, pid, gaps

    def call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout_s: float,
        on_result: OnResult,
    ) -> None:
        """Run one call in the process. When `on_result` is called, the process is idle again. The
        error is WorkerDied if the process ended.

        `timeout_s` limits processor time, not the time that a busy machine lets the call wait. As
        a call must use a tenth of a processor, it ends at the latest after 10 x `timeout_s`.
        """
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle
        overdue = stalled = False
        was_unused = self.is_unused
        started_at, used_before_s = time.monotonic(), _processor_seconds(self.pid)

        def check_time() -> None:
            nonlocal overdue, stalled, timer
            used_s = _processor_seconds(self.pid) - used_before_s
            stalled = used_s < _BUSY_SHARE * (time.monotonic() - started_at)
            if used_s < timeout_s and not stalled:
                timer = loop.call_later(timeout_s - used_s + _CHECK_PRECISION_S, check_time)
                return
            overdue = True
            self.kill()

        def finish(outcome: tuple[Any, BaseException | None]) -> None:
            timer.cancel()
            self.is_busy = False
            result, error = outcome
            is_outdated = not was_unused and self._lost_access(error)
            if is_outdated:
                self.kill()
            if is_outdated or isinstance(error, BrokenProcessPool):
                self.discard()
                error = WorkerDied(overdue=overdue, stalled=stalled)
            on_result(result, error)

        timer = loop.call_later(timeout_s, check_time)
        self.is_busy, self.is_unused = True, False
        try:
            assert self._executor and self._handover  # noqa: S101  an idle process has them
            function, arguments = self._handover.prepare(function, arguments)
            future = self._executor.submit(self._call, function, *arguments)
        except BrokenProcessPool as error:  # the process ended while it was idle
            future = Future()
            future.set_exception(error)
        future.add_done_callback(lambda done: _call_on_loop(loop, finish, _outcome_of(done)))

    def _lost_access(self, error: BaseException | None) -> bool:
        """True if the process was refused a file that it should be able to open, as we are: its
        folder was made or mounted after the process had started. A new process has access to it.
        """
        files = self._limits.files
        if files is None or not isinstance(error, PermissionError) or error.filename is None:
            return False
        path = Path(error.filename)
        is_open_to_us = (
            os.access(path, os.R_OK) if path.exists() else os.access(path.parent, os.W_OK)
        )
        return is_open_to_us and files.covers(error.filename)

    def kill(self) -> None:
        """End the process at once. A call that runs in it gets WorkerDied."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def discard(self) -> None:
        """Forget a process that has ended or was killed. Its executor frees its resources."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        if self._handover is not None:
            self._handover.close()
        self._executor, self._handover, self.pid = None, None, 0


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _shares_files(executor: ProcessPoolExecutor) -> bool:
    """True if this process can open a file that its worker has in memory: /proc may be hidden."""
    try:
        return executor.submit(large_results.keep, b"test").result().take() == b"test"
    except OSError:
        return False


def _outcome_of(future: Future[Any]) -> tuple[Any, BaseException | None]:
    """(result, None) or (None, error) of a call. Runs in the thread of the executor, so that the
    event loop does not wait for the bytes of a large result.
    """
    error = future.exception()
    if error is not None:
        return None, error
    result = future.result()
    if not isinstance(result, large_results.LargeResult):
        return result, None
    try:
        return result.take(), None
    except OSError:  # the worker has ended, and the result with it
        return None, BrokenProcessPool()


def _processor_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 if it has ended."""
    # What clock_getcpuclockid(3) computes, which Python does not offer: a hundredth of the time of
    # reading /proc, at each call of a worker.
    clock = (~pid << 3) | _CPUCLOCK_SCHED
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def _call_on_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., None], argument: object
) -> None:
    """Call `function` on the event loop, unless the loop is closed: when the interpreter exits, no
    caller waits.
    """
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)
