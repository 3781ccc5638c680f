"""Work that blocks the event loop is seen in the metric of its delay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from prometheus_client import Histogram

from orchestrator import metrics
from orchestrator.processes.loop_delay import LoopDelay, blocked_s


def delays(metric: Histogram = metrics.EVENT_LOOP_DELAY) -> dict[str, float]:
    (family,) = metric.collect()
    return {sample.name.rpartition("_")[2]: sample.value for sample in family.samples}


async def measured(block: Callable[[], object]) -> float:
    """What the metric of blocked time counts for this work."""
    before = delays(metrics.EVENT_LOOP_BLOCKED)
    measuring = asyncio.create_task(LoopDelay().run())
    await asyncio.sleep(0)
    block()
    while delays(metrics.EVENT_LOOP_BLOCKED)["count"] == before["count"]:
        await asyncio.sleep(0.01)
    measuring.cancel()
    return delays(metrics.EVENT_LOOP_BLOCKED)["sum"] - before["sum"]


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def test_a_blocked_loop_is_seen() -> None:
    before = delays()
    measuring = asyncio.create_task(LoopDelay().run())
    await asyncio.sleep(0)
    time.sleep(0.3)  # what must never happen in a handler
    while delays()["count"] == before["count"]:
        await asyncio.sleep(0.01)
    assert delays()["sum"] - before["sum"] > 0.25
    measuring.cancel()


async def test_long_work_counts_as_blocked() -> None:
    assert await measured(lambda: work(0.1)) > 0.08


async def test_time_without_a_processor_does_not_count_as_blocked() -> None:
    assert await measured(lambda: time.sleep(0.1)) < 0.02


@pytest.mark.parametrize(
    ("late", "processor", "blocked"),
    [
        (0.0, 0.01, 0.0),
        (0.03, 0.009, 0.0),  # the machine was busy with others
        (0.03, 0.04, 0.03),
        (0.03, 0.02, 0.01),  # half of it at most was used before the timer was due
        (0.005, 0.04, 0.005),
    ],
)
def test_only_work_after_the_timer_was_due_counts(
    late: float, processor: float, blocked: float
) -> None:
    assert blocked_s(late, processor) == pytest.approx(blocked)
