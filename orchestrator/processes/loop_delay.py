"""Measures how late the event loop of a process runs what is due: work that blocks it shows here,
and so does a machine whose processors are busy.
"""

from __future__ import annotations

import asyncio
import time

from orchestrator import metrics

_EVERY_S = 0.02
"""Work that blocks the loop for longer than this is always seen."""


class LoopDelay:
    """Observes the delay of a timer, again and again."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            due = time.monotonic() + _EVERY_S  # the clock of uvloop stands still between rounds
            await asyncio.sleep(_EVERY_S)
            metrics.EVENT_LOOP_DELAY.observe(max(0.0, time.monotonic() - due))
