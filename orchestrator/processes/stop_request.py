"""The request to stop a process that has an event loop, by SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from orchestrator.app import Services, open_services
from orchestrator.processes.stop_signals import was_stopped
from orchestrator.settings import Settings

log = logging.getLogger(__name__)
_CLOSE_S = 1.0
"""How long services may take to close, after ports and jobs had `server.drain_s` to drain."""


class StopRequest:
    """Set by the first signal. Create it on the running loop."""

    def __init__(self) -> None:
        self.received = asyncio.Event()
        self._starting: asyncio.Task[object] | None = None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        if was_stopped():
            self.received.set()

    async def start(self, stack: AsyncExitStack, settings: Settings, share: int) -> Services | None:
        """Open the services on `stack`; None if the request arrived before they were open."""
        if self.received.is_set():
            return None
        self._starting = task = asyncio.current_task()
        try:
            return await stack.enter_async_context(
                open_services(settings, share=share, needs_database=False)
            )
        except asyncio.CancelledError:
            if not self.received.is_set():
                raise
            if task is not None:
                task.uncancel()
            return None
        finally:
            self._starting = None

    def _on_signal(self) -> None:
        if not self.received.is_set() and self._starting is not None:
            self._starting.cancel()
        self.received.set()


@asynccontextmanager
async def services_until(
    stop: StopRequest, settings: Settings, *, share: int = 1
) -> AsyncIterator[Services | None]:
    """The services of a process, also while the database is away; None if it is stopped before they
    are open. At the end they are closed within a bounded time. Raises as `open_services`.
    """
    async with AsyncExitStack() as stack:
        yield await stop.start(stack, settings, share)
        try:
            async with asyncio.timeout(_CLOSE_S):
                await stack.aclose()
        except TimeoutError:
            log.warning("services not closed in time")
