"""Copies sources to fast disk before their first tile is requested: a client that reads an info
document will soon ask for tiles.

This is best effort. One copy runs at a time, after the copies that clients wait for; the queue is
bounded and counts what it drops.
"""

from __future__ import annotations

import asyncio
import logging

from orchestrator import metrics
from orchestrator.errors import OrchestratorError
from orchestrator.model import Asset
from orchestrator.routing.orchestrate import SourceOrchestrator

log = logging.getLogger(__name__)


class SourceWarmer:
    """A bounded queue of assets whose source should be orchestrated, and the loop that does it."""

    def __init__(self, sources: SourceOrchestrator, capacity: int) -> None:
        self._sources = sources
        self._queue: asyncio.Queue[Asset] = asyncio.Queue(capacity)
        self._queued: set[tuple[str, int]] = set()

    def enqueue(self, asset: Asset) -> None:
        """Queue the asset unless it is queued already. If the queue is full, drop and count it."""
        key = (str(asset.id), asset.version)
        if key in self._queued:
            return
        try:
            self._queue.put_nowait(asset)
        except asyncio.QueueFull:
            metrics.WARM_UPS_DROPPED.inc()
            return
        self._queued.add(key)

    async def run(self) -> None:
        """Orchestrate the queued sources until cancelled. A failure is logged and affects no client
        and no later source.
        """
        while True:
            asset = await self._queue.get()
            try:
                await self._sources.orchestrate(asset)
            except OrchestratorError as error:
                log.info(
                    "warm-up failed", extra={"asset": str(asset.id), "error": type(error).__name__}
                )
            except Exception:  # the loop must survive any failure of one source
                log.exception("warm-up failed", extra={"asset": str(asset.id)})
            finally:
                self._queued.discard((str(asset.id), asset.version))
