"""Measures how long work keeps the event loop from other tasks."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

LIMIT_S = 0.02
"""What no work may take at a time."""


@dataclass
class Longest:
    """The longest turn of the event loop so far, in seconds of processor time of its thread."""

    seconds: float = 0.0


@asynccontextmanager
async def longest_turn() -> AsyncIterator[Longest]:
    """Measure the turns of the event loop in the block. Processor time is the same on a busy
    machine, and the objects of the test run are not collected meanwhile.
    """
    longest = Longest()

    async def measure() -> None:
        used = time.thread_time()
        while True:
            await asyncio.sleep(0)
            longest.seconds = max(longest.seconds, time.thread_time() - used)
            used = time.thread_time()

    gc.collect()
    gc.freeze()
    measuring = asyncio.create_task(measure())
    await asyncio.sleep(0)
    try:
        yield longest
        await asyncio.sleep(0)
    finally:
        measuring.cancel()
        gc.unfreeze()
        with suppress(asyncio.CancelledError):
            await measuring
