"""Single-flight: concurrent identical work runs once, for all tasks and processes of the host. All
callers share its outcome.

The work belongs to no request: a caller that leaves ends only its own wait. Between processes the
right to work is a flock, so when the leader is killed another process continues at once. A failure
is repeated to later callers for a short time, never as success. Callers have the result before it
is published.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import metrics
from orchestrator.cache.failures import NOTE, FailureMemory
from orchestrator.cache.locks import release_and_remove, try_lock
from orchestrator.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_POLL_S, _LAST_POLL_S = 0.002, 0.025
_LEFTOVER_S = 60
_STOPPING = "The server is stopping. Retry the request."
_STUCK = "Another process has been working on this for too long. Retry the request."


@dataclass(frozen=True, slots=True)
class _Flight:
    """One run: its task, and the result for the callers."""

    task: asyncio.Task[None]
    outcome: asyncio.Future[Any]


class SingleFlight:
    """Runs `produce` once for each key at a time, host-wide, and shares the outcome."""

    def __init__(
        self,
        folder: Path,
        *,
        remember: Callable[[BaseException], float],
        wait_s: float = 150.0,
        now: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`folder` holds lock files and notes. `remember` returns the seconds that a failure is
        repeated, 0 for not at all.

        `wait_s` bounds the wait for another process's flight. `wall_clock` must be the same in all
        processes.
        """
        self._folder = folder
        self._wait_s = wait_s
        self._jitter = jitter
        self._failures = FailureMemory(remember, now, jitter, wall_clock)
        self._flights: dict[str, _Flight] = {}
        self._is_closed = False
        self.led = self.joined = 0

    @property
    def repeated(self) -> int:
        """The failures that were repeated to callers."""
        return self._failures.repeated

    @property
    def in_flight(self) -> int:
        """The keys that this process works on, or waits for while another process works on them."""
        return len(self._flights)

    async def run(
        self,
        key: str,
        produce: Callable[[], Awaitable[T]],
        *,
        find: Callable[[], Awaitable[T | None]] | None,
        publish: Callable[[T], Awaitable[None]] | None = None,
    ) -> T:
        """The result of `find`, or else of `produce`, from one run for all concurrent callers of
        `key`.

        `find` returns the result if the work has been done already (it runs under the host-wide
        lock). `produce` does the work. `publish` stores its result where `find` finds it; callers
        do not wait for that, but the run ends after it. Without `publish`, `produce` has published
        the result when it returns. Without `find`, the result is not shared with other processes:
        there is no host-wide lock.

        Raises what `produce` raised, for every waiter, and again while the failure is remembered;
        Unavailable when another process holds the key longer than `wait_s`, or when the server
        stops.
        """
        flight = self._flights.get(key)
        if flight is None:
            if self._is_closed:
                raise Unavailable(_STOPPING)
            self._failures.raise_remembered(key)
            flight = self._start(key, produce, find, publish)
            self.led += 1
            metrics.FLIGHTS.labels(role="led").inc()
        else:
            self.joined += 1
            metrics.FLIGHTS.labels(role="joined").inc()
        try:
            result: T = await asyncio.shield(flight.outcome)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if flight.outcome.cancelled() and not (task and task.cancelling()):
                raise Unavailable(_STOPPING) from None
            raise
        return result

    async def close(self, drain_s: float = 0.0) -> None:
        """Accept no more flights; give running flights `drain_s` seconds, then cancel them and wait
        for their end.
        """
        self._is_closed = True
        flights = {flight.task for flight in self._flights.values()}
        if flights and drain_s > 0:
            await asyncio.wait(flights, timeout=drain_s)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def sweep(self) -> int:
        """Remove notes whose time is over, and lock files of killed processes; returns their
        number. Blocking.
        """
        removed = 0
        for path in self._folder.glob("*"):
            with suppress(OSError):
                # A negative age is that of a file from before the clock was set back.
                if 0 <= time.time() - path.stat().st_mtime < _LEFTOVER_S:
                    continue
                if NOTE in path.name:
                    removed += self._failures.remove_if_over(path)
                elif (descriptor := try_lock(path)) is not None:
                    release_and_remove(path, descriptor)
                    removed += 1
        return removed

    def _start(
        self,
        key: str,
        produce: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T | None]] | None,
        publish: Callable[[T], Awaitable[None]] | None,
    ) -> _Flight:
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        lead = self._lead(key, outcome, produce, find, publish)
        # Not in a TaskGroup: the leader must outlive the first caller. `close` ends it.
        task = loop.create_task(lead)  # see the line above
        flight = self._flights[key] = _Flight(task, outcome)
        task.add_done_callback(lambda _: self._on_done(key, flight))
        return flight

    def _on_done(self, key: str, flight: _Flight) -> None:
        self._flights.pop(key, None)
        task, outcome = flight.task, flight.outcome
        if task.cancelled():
            outcome.cancel()
        elif (error := task.exception()) is not None:
            if outcome.done():
                log.error("result not published", exc_info=error)
            else:
                outcome.set_exception(error)
                outcome.exception()  # mark it as retrieved, even when all waiters have left

    async def _lead(
        self,
        key: str,
        outcome: asyncio.Future[T],
        produce: Callable[[], Awaitable[T]],
        find: Callable[[], Awaitable[T | None]] | None,
        publish: Callable[[T], Awaitable[None]] | None,
    ) -> None:
        lock_path = self._folder / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        if find is None:
            outcome.set_result(await self._produce(key, lock_path, produce))
            return
        async with self._host_lock(lock_path):
            existing = await find()
            if existing is not None:
                outcome.set_result(existing)
                return
            self._failures.raise_noted(key, lock_path)
            result = await self._produce(key, lock_path, produce)
            outcome.set_result(result)
            if publish is not None:
                await publish(result)

    async def _produce(self, key: str, lock_path: Path, produce: Callable[[], Awaitable[T]]) -> T:
        try:
            return await produce()
        except Exception as error:  # remembered, and re-raised to every waiter
            self._failures.remember(key, lock_path, error)
            raise

    @asynccontextmanager
    async def _host_lock(self, path: Path) -> AsyncIterator[None]:
        """Polls, because a blocking flock would need a thread for each waiting key. A waiter gets
        the lock at most 25 ms late.
        """
        pause_s = _FIRST_POLL_S
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        while (descriptor := self._try_lock(path)) is None:
            if loop.time() > deadline:
                raise Unavailable(_STUCK)
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))
            pause_s = min(pause_s * 1.5, _LAST_POLL_S)
        try:
            yield
        finally:
            if descriptor >= 0:
                release_and_remove(path, descriptor)

    def _try_lock(self, path: Path) -> int | None:
        """A descriptor; None while another process leads; -1 if the folder has no locks: then each
        process works for itself.
        """
        try:
            return try_lock(path)
        except FileNotFoundError:
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                return try_lock(path)
            return -1
        except OSError:
            return -1
