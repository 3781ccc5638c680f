"""The sweeper of ingest: finds what killed processes left, reports it, and removes or requeues it.

One host of the installation sweeps at a time (a lock in the catalogue). An asset is changed only
while no ingest or conversion holds its lock. Every step can be repeated, and a step that fails does
not stop the others.
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
from orchestrator.fault_log import FaultLog
from orchestrator.ingest.conversion_jobs import ConversionJobs
from orchestrator.ingest.convert import lock_name
from orchestrator.ingest.remove import Remover
from orchestrator.ingest.rights import filing_lock
from orchestrator.ingest.scratch import sweep as sweep_scratch
from orchestrator.model import STORE, Asset, AssetId
from orchestrator.settings import Ingest

log = logging.getLogger(__name__)
INGEST_DIED = Fault(
    "ingest_died",
    "request",
    retryable=True,
    detail="The worker that ran this ingest died, or no worker claimed it. Retry it.",
)
_DAY_S = 86_400.0

Requeue = Callable[[Asset], Awaitable[bool]]
"""Submits a stuck ingest again; False if that is not possible."""


class Sweeper:
    """Sweeps periodically (`run`) or once (`sweep`)."""

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
        """`scratch` is the folder that contains the scratch space of this host's processes."""
        self._catalog = catalog
        self._remover = remover
        self._scratch = scratch
        self._settings = settings
        self._conversions = conversions
        self._requeue = requeue
        self._faults = FaultLog(log, "ingest not swept", "ingest swept again")
        self._step_faults = FaultLog(log, "sweep step failed", "sweep step done again")

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(self._settings.sweep_every_s * random.uniform(0.8, 1.2))  # noqa: S311  jitter

    async def sweep(self) -> Counter[str]:
        """Sweep once. Returns how many leftovers of each kind were handled. An outage is logged."""
        swept: Counter[str] = Counter()
        swept["scratch"] = await asyncio.to_thread(_sweep_scratch, self._scratch)
        try:
            async with self._catalog.exclusive("sweeping") as is_locked:
                if is_locked:
                    await self._run_steps(swept)
            self._faults.clear()
        except Unavailable as error:
            self._faults.report(reason=error.public)
        handled = {what: count for what, count in swept.items() if count}
        for what, count in handled.items():
            metrics.SWEPT.labels(what).inc(count)
        if handled:
            log.info("leftovers swept", extra=handled)
        return swept

    async def _run_steps(self, swept: Counter[str]) -> None:
        steps: dict[str, Callable[[], Awaitable[int]]] = {
            "stuck_ingests": self._end_stuck_ingests,
            "stuck_conversions": self._submit_stuck_conversions,
            "unfinished_objects": self._discard_unfinished,
            "unwanted_objects": self._remover.remove,
            "reservations": self._catalog.quotas.expire,
            "attempts": self._forget_attempts,
            "activities": self._prune_activities,
        }
        for what, step in steps.items():
            try:
                swept[what] = await step()
                self._step_faults.clear(what, what=what)
            except Unavailable as error:
                self._step_faults.report(what, what=what, reason=error.public)

    async def _end_stuck_ingests(self) -> int:
        """Requeue, or record as failed, each asset in the state ingesting that no process
        ingests.
        """
        older_s = self._settings.stuck_after_s
        handled = 0
        for asset in await self._catalog.ingest_states.find_stuck(older_s):
            async with self._catalog.exclusive(lock_name(asset.id)) as is_locked:
                if not is_locked:
                    continue
                # Read again under the lock: it may have ended since.
                for stuck in await self._catalog.ingest_states.find_stuck(older_s, only=asset.id):
                    await self._end_stuck_ingest(stuck)
                    handled += 1
        return handled

    async def _end_stuck_ingest(self, asset: Asset) -> None:
        # An earlier release did not record what was requested of a published asset.
        is_known = asset.is_pending or (bool(asset.origin) and not _is_published(asset))
        if self._requeue is not None and is_known and await self._requeue(asset):
            log.warning("stuck ingest requeued", extra={"asset": str(asset.id)})
            return
        now = datetime.now(UTC)
        attempt = Attempt(asset.id, asset.declared or now, "failed", fault=INGEST_DIED)
        await self._catalog.ingest_states.record_failure(
            asset.id, INGEST_DIED.detail, attempt, generation=asset.ingest_generation
        )
        metrics.INGESTS.labels("failed").inc()
        log.warning("stuck ingest failed", extra={"asset": str(asset.id)})

    async def _submit_stuck_conversions(self) -> int:
        return await self._conversions.submit_missing(self._settings.stuck_after_s)

    async def _discard_unfinished(self) -> int:
        """Make the objects unwanted that killed processes entered in the ledger."""
        older_s = self._settings.stuck_after_s
        writers = await self._catalog.objects.writers(older_s)
        return sum([await self._abandon(asset_id, older_s) for asset_id in writers])

    async def _abandon(self, asset_id: AssetId, older_s: float) -> int:
        async with AsyncExitStack() as locks:
            for name in (lock_name(asset_id), filing_lock(asset_id)):
                if not await locks.enter_async_context(self._catalog.exclusive(name)):
                    return 0
            return await self._catalog.objects.abandon(asset_id, older_s)

    async def _forget_attempts(self) -> int:
        return await self._catalog.attempts.forget(self._settings.keep_attempts_days * _DAY_S)

    async def _prune_activities(self) -> int:
        return await self._catalog.activities.prune(self._settings.keep_activities_days * _DAY_S)


def _is_published(asset: Asset) -> bool:
    """Return whether an ingest of the asset ever succeeded. An asset can also be served from the
    stored original of a first ingest that did not end.
    """
    if asset.source is None:
        return False
    return asset.thumbnails_version > 0 or not asset.source.location.startswith(STORE)


def _sweep_scratch(folder: Path) -> int:
    return sweep_scratch(folder) if folder.is_dir() else 0
