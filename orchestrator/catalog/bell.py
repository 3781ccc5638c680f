"""Hears one channel of the database's notices: a connection of its own that LISTENs and comes back
when it is lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from orchestrator.catalog.connection import connect, translated
from orchestrator.errors import CatalogUnavailable
from orchestrator.settings import Database

log = logging.getLogger(__name__)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0


class Bell:
    """Calls `heard` on the event loop for every notice, and with "" whenever it listens (again):
    notices of before may have been missed.

    A connection that is silently dead is not found out: whoever waits for the bell must look by
    itself now and then.
    """

    def __init__(self, settings: Database, channel: str, heard: Callable[[str], None]) -> None:
        self._settings = settings
        self._channel = channel
        self._heard = heard

    async def run(self) -> None:
        """Listen until cancelled."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await self._listen()
            except CatalogUnavailable:
                log.warning("notices cannot be heard", extra={"channel": self._channel})
            else:
                wait_s = _FIRST_WAIT_S
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311  jitter
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _listen(self) -> None:
        connection = await connect(self._settings)
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            with translated():
                await connection.add_listener(
                    self._channel, lambda _connection, _pid, _channel, text: self._heard(str(text))
                )
            self._heard("")
            await ended.wait()
        finally:
            connection.terminate()
