"""The converter: takes assets that are answered from their original and makes them tile-ready.

What waits is in the catalogue, so nothing is lost when this process dies; the next one takes it up.
A picture that cannot be made is recorded at once; a part of ours that is away is waited for.
"""

from __future__ import annotations

import asyncio
import logging
import random

from orchestrator import metrics
from orchestrator.catalog.assets import Assets
from orchestrator.errors import (
    AssetNotFound,
    CatalogUnavailable,
    NoRoom,
    OriginUnavailable,
    Overloaded,
    SourceChanged,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.model import Asset, AssetId

log = logging.getLogger(__name__)
IDLE_S = 1.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0


class Converter:
    """Works the waiting assets off, `at_once` of them at a time."""

    def __init__(self, assets: Assets, pipeline: Pipeline, at_once: int) -> None:
        self._assets = assets
        self._pipeline = pipeline
        self._at_once = at_once
        self._wait_s = _FIRST_WAIT_S
        self._put_off: dict[AssetId, float] = {}

    async def run(self) -> None:
        """Convert until cancelled."""
        while True:
            try:
                done = await self._round()
            except CatalogUnavailable:
                done = 0
                log.warning("conversions wait for the catalogue")
            if not done:
                await asyncio.sleep(IDLE_S)

    async def _round(self) -> int:
        """One batch of what waits; how many were settled."""
        now = asyncio.get_running_loop().time()
        self._put_off = {asset: until for asset, until in self._put_off.items() if until > now}
        waiting = await self._assets.pending(self._at_once * 4 + len(self._put_off))
        todo = iter([asset for asset in waiting if asset.id not in self._put_off])
        settled = 0

        async def work() -> None:
            nonlocal settled
            for asset in todo:
                settled += await self._one(asset)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._at_once):
                tasks.create_task(work())
        return settled

    async def _one(self, asset: Asset) -> bool:
        """Convert one asset; False when it was put off."""
        try:
            await self._pipeline.convert(asset)
        except (Unprocessable, TooLarge, AssetNotFound) as error:
            await self._assets.fail(asset.id, asset.version, error.public)
            metrics.INGESTS.labels(outcome="failed").inc()
            log.warning(
                "asset cannot be made tile-ready",
                extra={"asset": str(asset.id), "reason": error.public},
            )
        except (SourceChanged, OriginUnavailable):
            return await self._again(asset)
        except (Unavailable, Overloaded, NoRoom) as error:
            self._put_off_for_now(asset, error.public)
            return False
        self._wait_s = _FIRST_WAIT_S
        return True

    async def _again(self, asset: Asset) -> bool:
        """The original was replaced or removed under the version: look at what is there now."""
        try:
            now = await self._pipeline.changed(asset)
        except (SourceChanged, Unprocessable, TooLarge) as error:
            await self._assets.fail(asset.id, asset.version, error.public)
            return True
        if now.version == asset.version:
            self._put_off_for_now(asset, "the original is being written")
            return False
        return True

    def _put_off_for_now(self, asset: Asset, reason: str) -> None:
        wait_s = self._wait_s * random.uniform(0.5, 1)  # noqa: S311  jitter
        self._put_off[asset.id] = asyncio.get_running_loop().time() + wait_s
        self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
        log.info("conversion put off", extra={"asset": str(asset.id), "reason": reason})
