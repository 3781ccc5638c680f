"""Measures how late the event loop of a process runs what is due, and how much of that the process
itself caused: a busy machine delays the loop, too, but then its thread uses no processor. Counts
its tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import time

from orchestrator import metrics

_EVERY_S = 0.01
"""How much longer than the limit work may block the loop, at most, without being seen."""
_ROUNDS_OF_COUNT = 100
"""Tasks are counted about once a second."""


class LoopDelay:
    """Observes the delay of a timer, again and again, and the number of tasks."""

    async def run(self) -> None:
        """Measure until cancelled."""
        rounds = itertools.count()
        while True:
            if next(rounds) % _ROUNDS_OF_COUNT == 0:
                metrics.EVENT_LOOP_TASKS.set(len(asyncio.all_tasks()))
            # The clock of uvloop stands still between rounds.
            due, used = time.monotonic() + _EVERY_S, time.thread_time()
            await asyncio.sleep(_EVERY_S)
            late = max(0.0, time.monotonic() - due)
            metrics.EVENT_LOOP_DELAY.observe(late)
            metrics.EVENT_LOOP_BLOCKED.observe(blocked_s(late, time.thread_time() - used))


def blocked_s(late: float, processor: float) -> float:
    """Seconds, at least, that the thread of the loop worked after the timer was due. It used
    `processor` seconds since the timer was set, and no more than `_EVERY_S` of them before.
    """
    return min(late, max(0.0, processor - _EVERY_S))
