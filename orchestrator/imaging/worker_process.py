"""One decode worker process: started off the loop, given one call at a time, killed when overdue,
replaced when dead.

It is a `ProcessPoolExecutor` of one *spawned* process (fork deadlocks libvips). All methods are
called on the event loop.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any

from orchestrator.imaging import decode_worker as entry

_START_TIMEOUT_S = 60.0


class WorkerDied(Exception):
    """The process ended during a call; `overdue` if we ended it."""

    def __init__(self, *, overdue: bool) -> None:
        super().__init__()
        self.overdue = overdue


class WorkerProcess:
    """A process in one of the states cold, starting, idle and busy."""

    def __init__(self, number: int, limits: entry.WorkerLimits, threads: Executor) -> None:
        self.number = number
        self._limits = limits
        self._threads = threads
        self._executor: ProcessPoolExecutor | None = None
        self.pid = 0
        self.starting = False
        self.busy = False

    @property
    def cold(self) -> bool:
        """True if it has to be started before it can be given a call."""
        return not self.pid and not self.starting

    @property
    def idle(self) -> bool:
        """True if it can be given a call now."""
        return self.pid > 0 and not self.busy

    def start(self, then: Callable[[bool], None]) -> None:
        """Start the process in a thread; `then` hears whether it came up."""
        loop = asyncio.get_running_loop()
        self.starting = True
        started = self._threads.submit(self._start)

        def settled(future: Future[tuple[ProcessPoolExecutor, int]]) -> None:
            self.starting = False
            up = future.exception() is None
            if up:
                self._executor, self.pid = future.result()
            then(up)

        started.add_done_callback(lambda future: _soon(loop, settled, future))

    def _start(self) -> tuple[ProcessPoolExecutor, int]:
        executor = ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=entry.start,
            initargs=(self._limits,),
        )
        try:
            return executor, executor.submit(entry.ready).result(_START_TIMEOUT_S)
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise

    def call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        timeout_s: float,
        then: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run one call; `then` hears its result or error (WorkerDied if the process ended), with
        the worker free again.
        """
        loop = asyncio.get_running_loop()
        overdue = False

        def end_it() -> None:
            nonlocal overdue
            overdue = True
            self.kill()

        def settled(future: Future[Any]) -> None:
            timer.cancel()
            self.busy = False
            error = future.exception()
            if isinstance(error, BrokenProcessPool):
                self.discard()
                error = WorkerDied(overdue=overdue)
            then(None if error else future.result(), error)

        timer = loop.call_later(timeout_s, end_it)
        self.busy = True
        try:
            assert self._executor is not None  # noqa: S101  idle implies it
            future = self._executor.submit(function, *arguments)
        except BrokenProcessPool as error:  # it died while idle
            future = Future()
            future.set_exception(error)
        future.add_done_callback(lambda done: _soon(loop, settled, done))

    def kill(self) -> None:
        """End the process at once; a call that runs in it hears WorkerDied."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def discard(self) -> None:
        """Forget a process that is dead or dying; its executor clears itself away."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._executor, self.pid = None, 0


def _soon(loop: asyncio.AbstractEventLoop, function: Callable[..., None], argument: object) -> None:
    """Hand over to the loop, if it still runs: at interpreter exit nobody waits any more."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(function, argument)
