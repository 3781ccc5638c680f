"""The clock of the host is set back or forward by an hour: eviction and leases go on as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from orchestrator.cache.disk.file_names import place
from tests.integration.cache.conftest import Open
from tests.support.caches import BODY, ManualClock, a_product

LEASE_S = 30.0


async def first_to_go(cache: DiskCache) -> list[str]:
    """The names of the files that may be evicted, first the one that goes first."""
    return [each.place.name for each in await cache.maintenance.candidates(100)]


@pytest.mark.parametrize("is_restarted", [False, True], ids=["while it runs", "while it is down"])
async def test_after_the_clock_was_set_back_new_files_stay_and_leases_end(
    folder: Path, clock: ManualClock, is_restarted: bool
) -> None:
    options = DiskOptions(quota=50_000_000, use_flush_s=3600, lease_s=LEASE_S)
    cache = await DiskCache.open(folder, options, now=clock)
    for number in range(3):
        assert await cache.put(a_product(number), BODY)
        clock.advance(1)
    assert await cache.path(a_product(0)) is not None, "leased now"
    await cache.maintenance.run_periodic_work()
    assert len(await first_to_go(cache)) == 2
    if is_restarted:
        await cache.close()
    clock.advance(-3600)
    if is_restarted:
        cache = await DiskCache.open(folder, options, now=clock)
    await cache.maintenance.run_periodic_work()
    clock.advance(1)
    assert await cache.put(a_product(9), BODY)
    clock.advance(2 * 60 + LEASE_S)
    order = await first_to_go(cache)
    assert len(order) == 4, "the lease has ended"
    assert order[-1] == place(a_product(9)).name
    await cache.close()


@pytest.mark.parametrize("seconds", [-3600, 3600], ids=["back", "forward"])
async def test_a_file_in_use_is_leased_again_after_the_clock_was_set(
    open_cache: Open, clock: ManualClock, seconds: int
) -> None:
    cache = await open_cache(lease_s=LEASE_S)
    assert await cache.put(a_product(), BODY)
    async with cache.hold(a_product()) as path:
        assert path is not None
        await cache.maintenance.run_periodic_work()
        clock.advance(seconds)
        for _ in range(20):
            await cache.maintenance.run_periodic_work()
            assert await first_to_go(cache) == [], "protected while it is read"
            clock.advance(LEASE_S / 4)
