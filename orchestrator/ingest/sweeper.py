"""The sweepers of ingest: what the dead left is found, said and dealt with.

One host of the installation at a time looks (a lock in the catalogue); an asset is touched only
while nobody is at it (its own lock). Every step may be repeated, and one that fails does not keep
the others from their work.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from orchestrator import metrics
from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import Attempt
from orchestrator.errors import Fault, Unavailable
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.convert import lock_name
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.rights import filing_lock
from orchestrator.ingest.scratch import sweep as sweep_scratch
from orchestrator.model import STORE, Asset, AssetId
from orchestrator.settings import Ingest

log = logging.getLogger(__name__)
GAVE_UP = Fault(
    "ingest_died",
    "request",
    retryable=True,
    detail="The ingest did not end: whoever was at it died, or nobody took it up. Try it again.",
)
_DAY_S = 86_400.0

Requeue = Callable[[Asset], Awaitable[bool]]
"""Hands a stuck ingest in again; False when that cannot be."""


class Sweeper:
    """Looks for leftovers again and again; `sweep` once."""

    def __init__(
        self,
        catalog: Catalog,
        remover: Remover,
        scratch: Path,
        settings: Ingest,
        *,
        conversions: ConversionJobs,
        requeue: Requeue | None = None,
    ) -> None:
        """`scratch` is the folder that scratch space of this host's processes lies in."""
        self._catalog = catalog
        self._remover = remover
        self._scratch = scratch
        self._settings = settings
        self._conversions = conversions
        self._requeue = requeue

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(self._settings.sweep_every_s * random.uniform(0.8, 1.2))  # noqa: S311  jitter

    async def sweep(self) -> Counter[str]:
        """Look once; returns how much there was of what. What could not be looked for is logged."""
        swept: Counter[str] = Counter()
        swept["scratch"] = await asyncio.to_thread(_scratch, self._scratch)
        try:
            async with self._catalog.exclusive("sweeping") as alone:
                if alone:
                    await self._sweep(swept)
        except Unavailable as error:
            log.warning("sweepers wait for the catalogue", extra={"reason": error.public})
        found = {what: count for what, count in swept.items() if count}
        for what, count in found.items():
            metrics.SWEPT.labels(what).inc(count)
        if found:
            log.info("swept", extra=found)
        return swept

    async def _sweep(self, swept: Counter[str]) -> None:
        steps: dict[str, Callable[[], Awaitable[int]]] = {
            "stuck_ingests": self._stuck,
            "stuck_conversions": self._stuck_conversions,
            "unfinished_objects": self._unfinished,
            "unwanted_objects": self._remover.remove,
            "reservations": self._catalog.quotas.expire,
            "attempts": self._old_attempts,
        }
        for what, step in steps.items():
            try:
                swept[what] = await step()
            except Unavailable as error:
                log.warning("not swept", extra={"what": what, "reason": error.public})

    async def _stuck(self) -> int:
        """Hand in again, or record as failed, what is ingesting with nobody at it."""
        older_s = self._settings.stuck_after_s
        dealt_with = 0
        for asset in await self._catalog.ingesting.stuck(older_s):
            async with self._catalog.exclusive(lock_name(asset.id)) as alone:
                if not alone:
                    continue
                # It may have ended between the look and the lock.
                still = await self._catalog.ingesting.stuck(older_s, only=asset.id)
                for one in still:
                    await self._give_up(one)
                    dealt_with += 1
        return dealt_with

    async def _stuck_conversions(self) -> int:
        return await self._conversions.submit_missing(self._settings.stuck_after_s)

    async def _give_up(self, asset: Asset) -> None:
        # What is served is not taken in again unasked: its origin is that of what is served, and
        # may not be the one that was asked for.
        is_first = bool(asset.origin) and not _is_published(asset)
        if self._requeue is not None and is_first and await self._requeue(asset):
            log.warning("stuck ingest handed in again", extra={"asset": str(asset.id)})
            return
        now = datetime.now(UTC)
        attempt = Attempt(asset.id, asset.declared or now, "failed", fault=GAVE_UP)
        await self._catalog.ingesting.failed(asset.id, GAVE_UP.detail, attempt)
        metrics.INGESTS.labels("failed").inc()
        log.warning("stuck ingest given up", extra={"asset": str(asset.id)})

    async def _unfinished(self) -> int:
        """Make unwanted what the dead had entered, and perhaps written."""
        older_s = self._settings.stuck_after_s
        return sum(
            [
                await self._abandon(asset_id, older_s)
                for asset_id in await self._catalog.objects.writers(older_s)
            ]
        )

    async def _abandon(self, asset_id: AssetId, older_s: float) -> int:
        async with AsyncExitStack() as held:
            for name in (lock_name(asset_id), filing_lock(asset_id)):
                if not await held.enter_async_context(self._catalog.exclusive(name)):
                    return 0
            return await self._catalog.objects.abandon(asset_id, older_s)

    async def _old_attempts(self) -> int:
        return await self._catalog.attempts.forget(self._settings.keep_attempts_days * _DAY_S)


def _is_published(asset: Asset) -> bool:
    """Tell whether an ingest ever ended well; an original stored by one that did not is answered
    from, too.
    """
    if asset.source is None:
        return False
    return asset.thumbnails_version > 0 or not asset.source.location.startswith(STORE)


def _scratch(folder: Path) -> int:
    return sweep_scratch(folder) if folder.is_dir() else 0
