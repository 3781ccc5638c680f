"""Hears that assets changed: one connection of its own that LISTENs, and comes back when it is
lost.

Between `on_lost` and `on_restored` changes go unheard; whoever remembers assets must not trust
its memory then.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import asyncpg

from orchestrator import metrics
from orchestrator.catalog.asset_transaction import CHANNEL
from orchestrator.catalog.changes import PREFIX
from orchestrator.catalog.connection import connect, translated
from orchestrator.errors import CatalogUnavailable, OrchestratorError
from orchestrator.model import AssetId
from orchestrator.settings import Database

log = logging.getLogger(__name__)
PROBE_S = 5.0
"""A connection that is silently dead is found out within this time and the query time-out."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0


class ChangeListener:
    """Calls back on the event loop for every change of an asset that commits anywhere."""

    def __init__(
        self,
        settings: Database,
        *,
        on_change: Callable[[AssetId, int], None],
        on_lost: Callable[[], None],
        on_restored: Callable[[], None],
        on_prefix: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_change` is given the asset and its new version, 0 when it was deleted; `on_prefix`
        the beginning of the ids whose caches are to be cleared.
        """
        self._settings = settings
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._on_prefix = on_prefix

    async def run(self, listening: asyncio.Event) -> None:
        """Listen until cancelled; sets `listening` at the first success."""
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                await self._listen(listening)
            except CatalogUnavailable:
                log.warning("change notices cannot be heard", extra={"retry_s": round(wait_s, 1)})
            else:
                wait_s = _FIRST_WAIT_S
            await asyncio.sleep(wait_s * random.uniform(0.5, 1))  # noqa: S311  jitter
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _listen(self, listening: asyncio.Event) -> None:
        """Connect and listen until the connection ends. Raises CatalogUnavailable when it cannot
        be made.
        """
        connection = await connect(self._settings)
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            with translated():
                await connection.add_listener(CHANNEL, self._heard)
            await self._while_heard(connection, ended, listening)
        finally:
            connection.terminate()

    async def _while_heard(
        self, connection: asyncpg.Connection, ended: asyncio.Event, listening: asyncio.Event
    ) -> None:
        metrics.LISTENER_CONNECTED.set(1)
        self._on_restored()
        listening.set()
        try:
            await self._watch(connection, ended)
        finally:
            metrics.LISTENER_CONNECTED.set(0)
            metrics.LISTENER_LOST.inc()
            self._on_lost()

    async def _watch(self, connection: asyncpg.Connection, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with asyncio.timeout(PROBE_S):
                    await ended.wait()
            except TimeoutError:
                try:
                    with translated():
                        await connection.execute("SELECT 1")
                except CatalogUnavailable:
                    return

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        version, _, text = str(payload).partition(" ")
        try:
            if int(version) == PREFIX:
                self._on_prefix(text)
            else:
                self._on_change(AssetId.parse(text), int(version))
        except (OrchestratorError, ValueError):
            log.warning("change notice not understood", extra={"payload": str(payload)[:300]})
