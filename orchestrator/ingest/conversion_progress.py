"""The progress of the conversions that this process does, for the command that shows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from orchestrator.catalog.assets import Assets
from orchestrator.errors import CatalogUnavailable
from orchestrator.fault_log import FaultLog

log = logging.getLogger(__name__)
_EVERY_S = 1.0
"""The count of waiting assets reads all of them: not after each conversion."""

Progress = Callable[[int, int], None]
"""Called with the number of conversions this process ended, and that number plus those waiting."""


class ConversionProgress:
    """Counts conversions and reports them, with those that wait, at most once per `every_s`."""

    def __init__(self, assets: Assets, report: Progress, *, every_s: float = _EVERY_S) -> None:
        self._assets = assets
        self._report = report
        self._every_s = every_s
        self._ended = 0
        self._faults = FaultLog(log, "conversions not counted", "conversions counted again")

    def add(self) -> None:
        """Count a conversion that succeeded or failed for good."""
        self._ended += 1

    async def run(self) -> None:
        """Report until cancelled, whenever conversions ended since the last report."""
        reported = 0
        while True:
            await asyncio.sleep(self._every_s)
            ended = self._ended
            if ended == reported:
                continue
            try:
                counts = await self._assets.count()
            except CatalogUnavailable as error:
                self._faults.report(reason=error.public)
                continue
            self._faults.clear()
            waiting = counts.get("registered", 0) + counts.get("ingesting", 0)
            self._report(ended, ended + waiting)
            reported = ended
