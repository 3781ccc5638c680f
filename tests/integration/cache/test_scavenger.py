"""The scavenger evicts down to low water, least recently used first."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from orchestrator.scavenger.scavenger import Pass, Scavenger
from tests.integration.cache.conftest import Open
from tests.support.caches import BODY, ManualClock, a_product, du

QUOTA = 2_000_000


async def test_a_pass_evicts_down_to_low_water_least_recently_used_first(
    open_cache: Open, folder: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await open_cache(quota=QUOTA)
    for number in range(100):
        clock.advance(1)
        assert await cache.put(a_product(number), BODY)
    await cache.maintenance.run_periodic_work()
    passes: list[Pass] = []
    scavenger = Scavenger([cache], low_water=0.5, report=passes.append)
    caplog.set_level(logging.INFO, logger="orchestrator.scavenger")
    dry = await scavenger.once(dry_run=True)
    assert (await cache.maintenance.totals()).files == 100
    (done,) = await scavenger.once()
    assert (done.files, done.bytes) == (dry[0].files, dry[0].bytes)
    assert du(folder) <= QUOTA * 0.5 + (await cache.maintenance.totals()).reserved
    there = [n for n in range(100) if await cache.get(a_product(n))]
    assert there == list(range(100 - len(there), 100))
    assert [record.message for record in caplog.records] == ["cache scavenged"]
    (idle,) = await scavenger.once()
    assert not idle.did_something
    assert len(caplog.records) == 1
    assert len(passes) == 3


async def test_a_file_used_after_it_was_chosen_is_not_evicted(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    await cache.put(a_product(1), BODY)
    await cache.put(a_product(2), BODY)
    chosen = await cache.maintenance.candidates(10)
    clock.advance(1)
    await cache.get(a_product(1))
    await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.evict(chosen))[0] == 1
    assert await cache.get(a_product(1)) == BODY


async def test_the_loop_ends_when_cancelled(open_cache: Open) -> None:
    cache = await open_cache(quota=QUOTA)
    task = asyncio.create_task(Scavenger([cache], low_water=0.9, every_s=0.001).run())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
