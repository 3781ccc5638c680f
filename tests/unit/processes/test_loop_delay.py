"""Work that blocks the event loop is seen in the metric of its delay."""

from __future__ import annotations

import asyncio
import time

from orchestrator import metrics
from orchestrator.processes.loop_delay import LoopDelay


def delays() -> dict[str, float]:
    (family,) = metrics.EVENT_LOOP_DELAY.collect()
    return {sample.name.rpartition("_")[2]: sample.value for sample in family.samples}


async def test_a_blocked_loop_is_seen() -> None:
    before = delays()
    measuring = asyncio.create_task(LoopDelay().run())
    await asyncio.sleep(0)
    time.sleep(0.3)  # what must never happen in a handler
    while delays()["count"] == before["count"]:
        await asyncio.sleep(0.01)
    assert delays()["sum"] - before["sum"] > 0.25
    measuring.cancel()
