"""The simulator agrees with the disk cache: the same trace runs through both."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.disk.files import BLOCK
from orchestrator.scavenger.simulated_cache import SimulatedCache
from orchestrator.scavenger.traces import LongTail, Request
from tests.integration.cache.conftest import Open
from tests.support.caches import ManualClock, du

QUOTA = 4_000_000
TRACE = list(LongTail(6000, 3000, mean_bytes=3000, per_s=5).read())
EACH = pytest.mark.parametrize("policy", ["lru", "s3-fifo"])


def product(key: int) -> Product:
    """Few assets, so that folders are a small part of what is counted."""
    return Product(f"1/1/{key % 8}", 1, f"{key}", "jpg")


async def replay(cache: DiskCache, clock: ManualClock, trace: list[Request]) -> float:
    """The hit ratio of the cache; uses are recorded every two seconds."""
    start, hits, recorded = clock(), 0, 0.0
    for at, key, size in trace:
        clock.at = start + at
        if at - recorded >= 2:
            recorded = at
            await cache.maintenance.run_periodic_work()
        if await cache.get(product(key)) is None:
            assert await cache.put(product(key), bytes(size))
        else:
            hits += 1
    return hits / len(trace)


def simulate(policy: str, quota: int) -> float:
    cache = SimulatedCache(policy, quota)
    return sum(cache.request(*each) for each in TRACE) / len(TRACE)


@EACH
async def test_the_disk_cache_has_the_hit_ratio_that_the_simulator_predicts(
    open_cache: Open, folder: Path, clock: ManualClock, policy: str
) -> None:
    cache = await open_cache(quota=QUOTA, eviction=policy)
    ratio = await replay(cache, clock, TRACE)
    usable = QUOTA - 10 * BLOCK  # folders take the rest
    assert ratio == pytest.approx(simulate(policy, usable), abs=0.015)
    assert du(folder) <= QUOTA
    assert (await cache.maintenance.verify()).sound


def test_the_two_policies_differ_by_more_than_the_tolerance_on_this_trace() -> None:
    assert simulate("s3-fifo", QUOTA) > simulate("lru", QUOTA) + 0.03


async def test_a_scan_does_not_evict_files_that_were_used_again(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=2_000_000, eviction="s3-fifo")
    for _ in range(2):
        for key in range(20):
            if await cache.get(product(key)) is None:
                await cache.put(product(key), bytes(12_000))
        clock.advance(40)
        await cache.maintenance.run_periodic_work()
    for key in range(100, 600):
        clock.advance(1)
        await cache.put(product(key), bytes(12_000))
    hits = [await cache.get(product(key)) is not None for key in range(20)]
    assert sum(hits) == 20


async def test_a_file_written_again_after_its_eviction_survives_a_scan(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=2_000_000, eviction="s3-fifo")

    async def scan(keys: range) -> None:
        for key in keys:
            clock.advance(1)
            await cache.put(product(key), bytes(12_000))

    await scan(range(160))
    assert await cache.get(product(0)) is None, "evicted by the scan"
    await cache.put(product(0), bytes(12_000))
    await scan(range(200, 500))
    assert await cache.get(product(0)) is not None


async def test_pinned_and_leased_files_are_not_evicted(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=2_000_000, eviction="s3-fifo", lease_s=10_000)
    pinned = Product("1/1/pinned", 1, "x", "jpg", pinned=True)
    leased = Product("1/1/leased", 1, "x", "jpg")
    await cache.put(pinned, bytes(12_000))
    await cache.put(leased, bytes(12_000))
    assert await cache.path(leased)
    for key in range(400):
        clock.advance(1)
        await cache.put(product(key), bytes(12_000))
    assert await cache.get(pinned)
    assert await cache.get(leased)


@pytest.mark.parametrize(("before", "after"), [("lru", "s3-fifo"), ("s3-fifo", "lru")])
async def test_the_policy_can_be_changed_without_losing_files(
    open_cache: Open, folder: Path, clock: ManualClock, before: str, after: str
) -> None:
    cache = await open_cache(quota=QUOTA, eviction=before)
    await replay(cache, clock, TRACE[:1500])
    totals = await cache.maintenance.totals()
    await cache.close()
    cache = await open_cache(quota=QUOTA, eviction=after)
    assert (await cache.maintenance.totals()).files == totals.files
    await replay(cache, clock, TRACE[1500:3000])
    assert (await cache.maintenance.verify()).sound
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_the_number_of_remembered_names_is_bounded(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=1_000_000, eviction="s3-fifo")
    for key in range(600):
        clock.advance(1)
        await cache.put(product(key), bytes(12_000))
    row = await cache._thread.run(
        lambda: cache._index.run(
            lambda db: db.execute(
                "SELECT ghosts, (SELECT sum(bytes) FROM ghosts), small, "
                "(SELECT total(bytes) FROM entries WHERE queue = 0) FROM totals"
            ).fetchone()
        )
    )
    assert row[0] == row[1] <= 900_000
    assert row[2] == row[3]
