"""The circuit breaker of the database. While it is open, no statement waits for the database.

A statement that waits long starts a probe, which asks on a connection of its own whether the
database answers at all. Only a failed probe opens the breaker, so that a slow statement or a full
pool never does; a process that starts without the database opens it, too. Then every waiting
statement ends at once, later ones are refused, and the probe is repeated. The first answer closes
the breaker. The probe is the only statement that a database gets
before it has answered, so its recovery is not delayed by waiting requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.errors import CatalogUnavailable

log = logging.getLogger(__name__)
AWAY = "The catalogue does not answer. Try again shortly."
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 1.0

Probe = Callable[[], Awaitable[bool]]
"""Asks the database for an answer; False if the connection was refused or lost."""


@dataclass(slots=True, eq=False)
class Use:
    """A use of the pool that waits for the database or may do so."""

    bound: asyncio.Timeout
    terminate: Callable[[], object] | None = None
    """Ends the connection of this use, once it has one."""
    timer: asyncio.TimerHandle | None = field(default=None)

    def end(self) -> None:
        """End the wait: the user of the connection gets an error now."""
        if self.terminate is not None:
            self.terminate()
        elif not self.bound.expired():
            self.bound.reschedule(0)


class CircuitBreaker:
    """The breaker of one process. It may be used on one event loop only."""

    def __init__(self, probe: Probe, answer_s: float, on_closed: Callable[[], Awaitable[None]]):
        """The breaker opens when a statement has waited for `answer_s` seconds and the probe, which
        has the second half of this time, got no answer. `on_closed` is called before the first
        statement after an outage; while it raises CatalogUnavailable, the breaker stays open.
        """
        self._probe = probe
        self._half_s = answer_s / 2
        self._on_closed = on_closed
        self.on_opened: Callable[[], None] = lambda: None
        """Called when the breaker opens: the database does not answer this process."""
        self.is_open = False
        self._uses: set[Use] = set()
        self._answers = 0
        self._probing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Use]:
        """Watch a use of the pool until the end of the block. Raises CatalogUnavailable while the
        breaker is open, and TimeoutError if it opens before the use has a connection.
        """
        if self.is_open:
            raise CatalogUnavailable(AWAY)
        async with asyncio.timeout(None) as bound:
            use = Use(bound)
            self._uses.add(use)
            self._set_timer(use)
            try:
                yield use
                self._answers += 1
            finally:
                self._uses.discard(use)
                if use.timer is not None:
                    use.timer.cancel()

    def open(self) -> None:
        """Open the breaker: the database is away. It closes as after any outage."""
        self._open()
        self.suspect()

    def suspect(self) -> None:
        """A statement failed or waits long: ask whether the database answers."""
        if self._probing is None or self._probing.done():
            # In no TaskGroup: the breaker lives as long as its pool, which awaits the task in close
            self._probing = asyncio.create_task(self._run_probes())  # ended by close

    async def close(self) -> None:
        """End the probe."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait({self._probing})

    def _set_timer(self, use: Use) -> None:
        loop = asyncio.get_running_loop()
        use.timer = loop.call_later(self._half_s, self._on_long_wait, use)

    def _on_long_wait(self, use: Use) -> None:
        self.suspect()
        self._set_timer(use)

    async def _run_probes(self) -> None:
        """Return once the database answers."""
        began, failures = time.monotonic(), 0
        while not await self._is_usable():
            failures += 1
            if not self.is_open:
                self._open()
            await asyncio.sleep(
                backoff_s(failures, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
            )
        if self.is_open:
            self.is_open = False
            metrics.BREAKER_OPEN.set(0)
            away_s = round(time.monotonic() - began, 1)
            log.info("database answers again", extra={"away_s": away_s})

    async def _is_usable(self) -> bool:
        if not await self._is_answering():
            return False
        if self.is_open:
            try:
                await self._on_closed()
            except CatalogUnavailable:  # `on_closed` reports it
                return False
        return True

    async def _is_answering(self) -> bool:
        loop = asyncio.get_running_loop()
        answers, began = self._answers, loop.time()
        while True:
            try:
                async with asyncio.timeout(self._half_s):
                    is_answering = await self._probe()
            except TimeoutError:
                is_answering = False
            if is_answering or self._answers > answers:
                return True
            if loop.time() - began < 2 * self._half_s:
                return False
            # The event loop was blocked, so the answer may have arrived unread.
            began = loop.time()

    def _open(self) -> None:
        self.is_open = True
        metrics.BREAKER_OPEN.set(1)
        metrics.BREAKER_OPENED.inc()
        log.warning("database does not answer", extra={"waiting": len(self._uses)})
        for use in list(self._uses):
            use.end()
        self.on_opened()
