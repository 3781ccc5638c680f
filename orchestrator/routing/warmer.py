"""Orchestrate-on-info.json: who reads an info document will soon ask for tiles, so the source may
come here ahead.

A hint, never a promise: one copy at a time, behind what clients wait for; the queue is bounded
and counts what it drops.
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
    """A bounded queue of assets whose source is to be brought here, and the task that works it
    off.
    """

    def __init__(self, sources: SourceOrchestrator, capacity: int) -> None:
        self._sources = sources
        self._queue: asyncio.Queue[Asset] = asyncio.Queue(capacity)
        self._queued: set[tuple[str, int]] = set()

    def hint(self, asset: Asset) -> None:
        """Queue the asset unless it is queued already; dropped and counted when the queue is
        full.
        """
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
        """Work the queue off until cancelled; a failing copy is counted and costs nobody
        anything, whatever it fails of.
        """
        while True:
            asset = await self._queue.get()
            try:
                await self._sources.orchestrate(asset)
            except OrchestratorError as error:
                log.info(
                    "warm-up failed", extra={"asset": str(asset.id), "error": type(error).__name__}
                )
            except Exception:
                log.exception("warm-up failed", extra={"asset": str(asset.id)})
            finally:
                self._queued.discard((str(asset.id), asset.version))
