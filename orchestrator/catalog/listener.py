"""The LISTEN connection of a process: it receives the notices of all its channels and reconnects
when the connection is lost.

Notices sent between `on_lost` and `on_restored` are missed. Callers must not trust what they
remember during that time, and must look again after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

import asyncpg

from orchestrator import metrics
from orchestrator.backoff import backoff_s
from orchestrator.catalog.connected_processes import listener_name
from orchestrator.catalog.connection import connect, translated
from orchestrator.errors import CatalogUnavailable
from orchestrator.fault_log import FaultLog
from orchestrator.settings import Database

log = logging.getLogger(__name__)
PROBE_S, ANSWER_S = 2.0, 3.0
"""How often the connection is tested, and the time in which it must answer: a connection that fails
silently is detected within the sum, unless a statement of the process meets the fault before. The
loss of a connection empties the hot tier, so that the time is longer than that of a request.
"""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

OnNotice = Callable[[str], None]
"""Called on the event loop with the payload of a notice. It must not raise."""


class Listener:
    """Calls the function of a channel for each notice that any process commits."""

    def __init__(
        self,
        settings: Database,
        channels: Mapping[str, OnNotice],
        *,
        on_lost: Callable[[], None] = lambda: None,
        on_restored: Callable[[], None] = lambda: None,
        role: str = "process",
    ) -> None:
        """`on_restored` is called each time the connection listens, the first time too. `on_lost`
        is also called when the first connection cannot be opened. `role` is what the list of
        processes shows of this one.
        """
        self._settings = settings
        self._channels = dict(channels)
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._name = listener_name(role)
        self._disconnect: Callable[[], None] = lambda: None
        self._faults = FaultLog(log, "listen connection failed", "listen connection restored")

    async def run(self, started: asyncio.Event | None = None) -> None:
        """Listen until cancelled. Sets `started` when the connection listens the first time, or
        cannot be opened the first time, after `on_lost`.
        """
        started = started or asyncio.Event()
        failures = 0
        while True:
            try:
                await self._listen(started)
            except CatalogUnavailable as error:
                failures += 1
                self._faults.report(reason=error.public)
                if not started.is_set():
                    self._on_lost()
                    started.set()
            else:
                failures = 0
            await asyncio.sleep(
                backoff_s(failures, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S)
            )

    def disconnect(self) -> None:
        """Give up the connection, as the database is known not to answer, and connect again."""
        self._disconnect()

    async def _listen(self, started: asyncio.Event) -> None:
        """Connect and listen until the connection ends. Raises CatalogUnavailable when the
        connection cannot be opened.
        """
        connection = await connect(self._settings, name=self._name)
        self._disconnect = connection.terminate  # which also ends a test that waits for an answer
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            with translated():
                for channel in self._channels:
                    await connection.add_listener(channel, self._on_notice)
            metrics.LISTENER_CONNECTED.set(1)
            self._faults.clear()
            self._on_restored()
            started.set()
            try:
                await _wait_for_end(connection, ended)
            finally:
                metrics.LISTENER_CONNECTED.set(0)
                metrics.LISTENER_LOST.inc()
                self._on_lost()
        finally:
            connection.terminate()

    def _on_notice(self, _connection: object, _pid: int, channel: str, payload: object) -> None:
        self._channels[channel](str(payload))


async def _wait_for_end(connection: asyncpg.Connection, ended: asyncio.Event) -> None:
    """Return when the connection has ended or does not answer."""
    while not ended.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(PROBE_S):
                await ended.wait()
                return
        try:
            with translated():
                await connection.execute("SELECT 1", timeout=ANSWER_S)
        except CatalogUnavailable:
            return
