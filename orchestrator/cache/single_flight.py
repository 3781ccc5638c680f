"""Identical work runs once, however many tasks and processes of the host ask for it; all share its
outcome.

The work belongs to nobody's request: a caller that leaves ends only its own wait. Between processes
the right to work is a flock, so a killed leader is followed at once. A failure is repeated to
askers for its short time, never as success.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from orchestrator import metrics
from orchestrator.cache.failures import Failure, read_note, write_note
from orchestrator.cache.locks import release_and_remove, try_lock
from orchestrator.errors import OrchestratorError, Unavailable

T = TypeVar("T")

_FIRST_POLL_S, _LAST_POLL_S = 0.002, 0.025
_REMEMBERED_KEYS = 4096
_NOTE = ".failed"
_LEFTOVER_S = 60
_STOPPING = "The server is stopping; ask again."
_STUCK = "The same work has been going on elsewhere for too long."


class SingleFlight:
    """Runs `produce` once per key at a time, host-wide, and shares what came of it."""

    def __init__(
        self,
        folder: Path,
        *,
        remember: Callable[[BaseException], float],
        wait_s: float = 150.0,
        now: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`folder` holds lock files and notes; `remember` gives the seconds a failure is repeated,
        0 for not at all.

        `wait_s` bounds the wait for another process's flight. `now` must be the same clock in all
        processes.
        """
        self._folder = folder
        self._remember = remember
        self._wait_s = wait_s
        self._now = now
        self._jitter = jitter
        # Detached on purpose, the one exception to structured tasks: the leader must outlive the
        # caller that happened to be first. `close` ends whatever is left.
        self._flights: dict[str, asyncio.Task[Any]] = {}
        self._failures: OrderedDict[str, Failure] = OrderedDict()
        self._closed = False
        self.led = self.joined = self.repeated = 0

    async def run(
        self,
        key: str,
        produce: Callable[[], Awaitable[T]],
        *,
        found: Callable[[], Awaitable[T | None]],
    ) -> T:
        """What `found` or else `produce` returns, from one run shared by all who ask for `key`
        meanwhile.

        `found` looks whether the work has been done (it is called under the host-wide lock);
        `produce` does it and publishes the result before it returns. Raises what `produce` raised,
        to every waiter, and again for its remembered time; Unavailable when another process holds
        the key beyond `wait_s` or the server stops.
        """
        flight: asyncio.Task[T] | None = self._flights.get(key)
        if flight is None:
            if self._closed:
                raise Unavailable(_STOPPING)
            self._repeat_failure(key)
            flight = asyncio.get_running_loop().create_task(self._lead(key, produce, found))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
            self.led += 1
            metrics.FLIGHTS.labels(role="led").inc()
        else:
            self.joined += 1
            metrics.FLIGHTS.labels(role="joined").inc()
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if flight.cancelled() and not (task and task.cancelling()):
                raise Unavailable(_STOPPING) from None
            raise

    @property
    def in_flight(self) -> int:
        """How many keys this process is working on or waiting for another process to finish."""
        return len(self._flights)

    async def close(self, drain_s: float = 0.0) -> None:
        """Accept no more; give running flights `drain_s` seconds, then cancel them and wait for
        their end.
        """
        self._closed = True
        flights = set(self._flights.values())
        if flights and drain_s > 0:
            await asyncio.wait(flights, timeout=drain_s)
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def sweep(self) -> int:
        """Remove notes whose time is over and lock files of killed processes; returns how many
        went.

        Blocking: for housekeeping's thread.
        """
        removed = 0
        for path in self._folder.glob("*"):
            with suppress(OSError):
                if path.stat().st_mtime > time.time() - _LEFTOVER_S:
                    continue
                if _NOTE in path.name:
                    removed += self._sweep_note(path)
                elif (descriptor := try_lock(path)) is not None:
                    release_and_remove(path, descriptor)
                    removed += 1
        return removed

    def _sweep_note(self, path: Path) -> bool:
        note = read_note(path)
        over = note is None or note.until <= self._now()
        if over:
            path.unlink()
        return over

    def _landed(self, key: str, flight: asyncio.Task[Any]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # seen, even when every waiter has left

    async def _lead(
        self,
        key: str,
        produce: Callable[[], Awaitable[T]],
        found: Callable[[], Awaitable[T | None]],
    ) -> T:
        path = self._folder / hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
        async with self._host_lock(path):
            present = await found()
            if present is not None:
                return present
            self._repeat_noted(key, path)
            try:
                return await produce()
            except Exception as error:  # not handled here: taken down, and raised to every waiter
                self._note(key, path, error)
                raise

    @asynccontextmanager
    async def _host_lock(self, path: Path) -> AsyncIterator[None]:
        """Polls, because a blocking flock would cost a thread per waiting key; takers lag by 25 ms
        at most.
        """
        pause = _FIRST_POLL_S
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        while (descriptor := self._try(path)) is None:
            if loop.time() > deadline:
                raise Unavailable(_STUCK)
            await asyncio.sleep(pause * (0.5 + self._jitter()))
            pause = min(pause * 1.5, _LAST_POLL_S)
        try:
            yield
        finally:
            if descriptor >= 0:
                release_and_remove(path, descriptor)

    def _try(self, path: Path) -> int | None:
        """A descriptor, None while another process leads, or -1 where locks cannot be had: then
        work goes on unshared.
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

    def _repeat_failure(self, key: str) -> None:
        failure = self._failures.get(key)
        if failure is None:
            return
        if failure.until > self._now():
            self.repeated += 1
            metrics.FLIGHTS.labels(role="repeated").inc()
            raise failure.error()
        del self._failures[key]

    def _repeat_noted(self, key: str, path: Path) -> None:
        note_path = path.with_name(path.name + _NOTE)
        note = read_note(note_path)
        if note is None:
            return
        if note.until > self._now():
            self._keep(key, note)
            self.repeated += 1
            metrics.FLIGHTS.labels(role="repeated").inc()
            raise note.error()
        with suppress(OSError):
            note_path.unlink()

    def _note(self, key: str, path: Path, error: Exception) -> None:
        """Remember for askers here and elsewhere; called under the host lock, so a taker reads the
        note first.
        """
        seconds = self._remember(error)
        if seconds <= 0 or not isinstance(error, OrchestratorError):
            return
        failure = Failure.of(error, self._now() + seconds * (0.75 + 0.5 * self._jitter()))
        self._keep(key, failure)
        write_note(path.with_name(path.name + _NOTE), failure)

    def _keep(self, key: str, failure: Failure) -> None:
        self._failures[key] = failure
        self._failures.move_to_end(key)
        while len(self._failures) > _REMEMBERED_KEYS:
            self._failures.popitem(last=False)
