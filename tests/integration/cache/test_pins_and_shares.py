"""Pinned files and files that are read are not evicted; a share is never exceeded; each removal is
counted by its reason.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import metrics
from orchestrator.cache.disk.cache import DiskCache, Product
from orchestrator.cache.disk.file_names import parse, place, share_of
from orchestrator.scavenger.scavenger import Scavenger
from tests.integration.cache.conftest import Open
from tests.support.caches import BODY, ManualClock, a_product, du
from tests.support.patience import patience

QUOTA = 1_000_000


def pinned(number: int, asset: str = "1/1/treasure") -> Product:
    return replace(a_product(number, asset=asset), pinned=True)


def ico_product(number: int, asset: str = "1/1/a") -> Product:
    return replace(a_product(number, asset=asset), share="ico")


async def fill(cache: DiskCache, clock: ManualClock, numbers: range, asset: str = "1/1/a") -> None:
    for number in numbers:
        clock.advance(1)
        assert await cache.put(a_product(number, asset=asset), BODY)


async def are_cached(cache: DiskCache, products: list[Product]) -> list[bool]:
    return [await cache.get(product) is not None for product in products]


def count_removed(reason: str) -> float:
    return metrics.CACHE_EVICTIONS.labels(cache="derivatives", reason=reason)._value.get()


def count_ages() -> float:
    metric = metrics.CACHE_EVICTION_AGE.labels(cache="derivatives")
    return sum(bucket.get() for bucket in metric._buckets)


async def test_pinned_files_are_not_evicted_and_count_in_the_quota(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache, other = await open_cache(quota=QUOTA), await open_cache(quota=QUOTA)
    for number in range(10):
        assert await cache.put(pinned(number), BODY)
    await fill(other, clock, range(200))
    assert await are_cached(cache, [pinned(n) for n in range(10)]) == [True] * 10
    totals = await cache.maintenance.totals()
    assert totals.pinned == 10 * 12288
    assert du(folder) <= totals.bytes + totals.reserved <= QUOTA


async def test_a_quota_full_of_pins_refuses_new_files_and_evicts_nothing(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    stored = 0
    while await cache.put(pinned(stored), BODY):
        stored += 1
    assert stored > 50
    assert not await cache.put(a_product(1), BODY)
    assert not await cache.put(a_product(2), BODY)
    assert await are_cached(cache, [pinned(n) for n in range(stored)]) == [True] * stored
    assert (await cache.stats()).refused == 3
    (done,) = await Scavenger([cache], low_water=0.5).once()
    assert done.files == 0, "there is nothing to evict"


async def test_pinning_an_asset_protects_its_present_and_future_files_until_it_is_unpinned(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    await fill(cache, clock, range(5), asset="1/1/treasure")
    await cache.assets.pin("1/1/treasure")
    await fill(cache, clock, range(5, 8), asset="1/1/treasure")
    await fill(cache, clock, range(200))
    files = [a_product(n, asset="1/1/treasure") for n in range(8)]
    assert await are_cached(cache, files) == [True] * 8
    await cache.assets.unpin("1/1/treasure")
    assert (await cache.maintenance.totals()).pinned == 0
    await cache.maintenance.run_periodic_work()
    await fill(cache, clock, range(200, 400))
    assert await are_cached(cache, files) == [False] * 8


async def test_pins_survive_a_restart_and_a_lost_index(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(quota=QUOTA, use_flush_s=0.0)
    assert await cache.put(pinned(1), BODY)
    await cache.close()
    cache = await open_cache(quota=QUOTA, use_flush_s=0.0)
    assert (await cache.maintenance.totals()).pinned == 12288
    await cache.close()
    for path in folder.with_name("derivatives.index").glob("index.sqlite3*"):
        path.unlink()
    cache = await open_cache(quota=QUOTA, use_flush_s=0.0)
    clock.advance(10)
    await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.totals()).pinned == 0, "the new index does not know the pin"
    assert await cache.get(pinned(1)) == BODY
    await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.totals()).pinned == 12288


async def test_pins_are_set_to_those_of_the_catalogue_except_pins_of_a_rule(
    open_cache: Open,
) -> None:
    cache = await open_cache()
    for asset in ("1/1/a", "1/1/b", "1/1/rule"):
        assert await cache.put(pinned(1, asset), BODY)
    changed = await cache.assets.set_pins(["1/1/b", "1/1/c"], lambda text: text == "1/1/rule")
    assert changed == 2
    assert (await cache.maintenance.totals()).pinned == 2 * 12288
    assert await cache.assets.set_pins(["1/1/b", "1/1/c"], lambda text: text == "1/1/rule") == 0
    assert await cache.put(a_product(1, asset="1/1/c"), BODY)
    assert (await cache.maintenance.totals()).pinned == 3 * 12288


async def test_outdated_files_of_a_pinned_asset_are_dropped(open_cache: Open) -> None:
    cache = await open_cache()
    assert await cache.put(pinned(1), BODY)
    assert await cache.assets.drop_older("1/1/treasure", 2) == 1
    assert (await cache.maintenance.totals()).pinned == 0


async def test_files_of_a_share_are_evicted_only_for_files_of_the_same_share(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(quota=QUOTA, shares=(("ico", 200_000),))
    await fill(cache, clock, range(20))
    before = count_removed("share")
    for number in range(60):
        clock.advance(1)
        assert await cache.put(ico_product(number), BODY)
        held = sum(p.stat().st_blocks * 512 for p in folder.glob("??/*/*-ico-*"))
        assert held <= 200_000
    cached = await are_cached(cache, [ico_product(n) for n in range(60)])
    assert cached == [False] * 44 + [True] * 16, "least recently used first"
    assert await are_cached(cache, [a_product(n) for n in range(20)]) == [True] * 20
    assert count_removed("share") - before == 44
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_concurrent_writes_do_not_exceed_a_share(open_cache: Open, folder: Path) -> None:
    cache = await open_cache(quota=QUOTA, shares=(("ico", 100_000),))
    await asyncio.gather(*(cache.put(ico_product(n), BODY) for n in range(100)))
    assert sum(p.stat().st_blocks * 512 for p in folder.glob("??/*/*-ico-*")) <= 100_000
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_a_file_larger_than_its_share_is_not_stored(open_cache: Open) -> None:
    cache = await open_cache(shares=(("ico", 100_000),))
    assert await cache.put(ico_product(1), BODY)
    assert not await cache.put(ico_product(2), bytes(110_000))
    assert await cache.get(ico_product(1)) == BODY


async def test_a_share_made_smaller_is_evicted_first_even_after_a_rebuild(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(quota=QUOTA, use_flush_s=0.0)
    for number in range(30):
        clock.advance(1)
        assert await cache.put(ico_product(number), BODY)
    await fill(cache, clock, range(5))
    await cache.close()
    for path in folder.with_name("derivatives.index").glob("index.sqlite3*"):
        path.unlink()
    cache = await open_cache(quota=QUOTA, shares=(("ico", 100_000),), use_flush_s=0.0)
    clock.advance(10)
    await cache.maintenance.run_periodic_work()
    before = count_removed("share")
    (planned,) = await Scavenger([cache], low_water=1.0).once(dry_run=True)
    (done,) = await Scavenger([cache], low_water=1.0).once()
    assert (planned.files, done.files) == (22, 22)
    assert count_removed("share") - before == 22
    assert await are_cached(cache, [a_product(n) for n in range(5)]) == [True] * 5


def test_the_share_is_part_of_the_file_name_and_a_pin_is_not() -> None:
    location = place(ico_product(1))
    assert share_of(location.name) == "ico"
    assert share_of(place(a_product(1)).name) == ""
    assert parse(location.asset, location.name) == location
    assert place(pinned(1)) == place(a_product(1, asset="1/1/treasure")), "a pin is not"
    with pytest.raises(ValueError, match="share"):
        place(replace(a_product(), share="../x"))


async def test_dropping_a_prefix_removes_only_assets_with_that_prefix(open_cache: Open) -> None:
    cache = await open_cache()
    for asset in ("1/1/a", "1/1/maps%2Fb", "1/1/maps%2Fc", "1/10/a", "2/1/a"):
        assert await cache.put(a_product(asset=asset), BODY)
        assert await cache.put(a_product(asset=asset, version=2), BODY)
    before = count_removed("prefix")
    assert await cache.assets.drop_prefix("1/1/maps") == 4
    assert await cache.assets.drop_prefix("1/1/") == 2
    assert await cache.assets.drop_prefix("1/2/") == 0
    assert count_removed("prefix") - before == 6
    others = [a_product(asset=asset) for asset in ("1/10/a", "2/1/a")]
    assert await are_cached(cache, others) == [True, True]
    assert not await cache.assets.has_unnamed()


async def test_after_a_rebuild_ids_are_unknown_until_their_assets_are_used(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(use_flush_s=0.0)
    assert await cache.put(a_product(asset="1/1/a"), BODY)
    await cache.close()
    for path in folder.with_name("derivatives.index").glob("index.sqlite3*"):
        path.unlink()
    cache = await open_cache(use_flush_s=0.0)
    clock.advance(10)
    await cache.maintenance.run_periodic_work()
    assert await cache.assets.has_unnamed()
    assert await cache.assets.drop_prefix("1/1/") == 0
    assert await cache.put(a_product(2, asset="1/1/a"), BODY)
    assert not await cache.assets.has_unnamed()
    assert await cache.assets.drop_prefix("1/1/") == 2


async def test_a_file_is_not_evicted_while_it_is_held(open_cache: Open, clock: ManualClock) -> None:
    one, other = await open_cache(quota=QUOTA), await open_cache(quota=QUOTA)
    assert await one.put(a_product(0, asset="1/1/source"), BODY)
    async with one.hold(a_product(0, asset="1/1/source")) as path:
        assert path is not None
        for minute in range(5):  # far longer than a lease
            clock.advance(20)
            await one.maintenance.run_periodic_work()
            await fill(other, clock, range(minute * 100, minute * 100 + 30))
            assert path.exists()
    clock.advance(31)
    await fill(other, clock, range(600, 700))
    assert not path.exists()


async def test_evicted_files_are_counted_with_their_age(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    before, ages = count_removed("quota"), count_ages()
    await fill(cache, clock, range(100))
    evicted = (await cache.stats()).evicted
    assert evicted > 0
    assert count_removed("quota") - before == evicted
    assert count_ages() - ages == evicted
    dropped = count_removed("asset")
    await cache.assets.drop("1/1/a")
    assert count_removed("asset") - dropped == 100 - evicted


async def test_lookups_and_writes_are_counted_by_outcome(open_cache: Open) -> None:
    def counted(outcome: str) -> float:
        metric = metrics.CACHE_LOOKUPS.labels(cache="derivatives", outcome=outcome)
        return float(metric._value.get())

    cache = await open_cache(max_entry=100_000)
    hits, misses = counted("hit"), counted("miss")
    refused = metrics.CACHE_REFUSED.labels(cache="derivatives", why="size")._value
    before = refused.get()
    await cache.get(a_product(1))
    await cache.put(a_product(1), BODY)
    await cache.put(a_product(2), bytes(100_001))
    await cache.get(a_product(1))
    await cache.get(a_product(1))
    await cache.maintenance.run_periodic_work()
    assert (counted("hit") - hits, counted("miss") - misses) == (2, 1)
    assert refused.get() - before == 1


async def test_an_unused_cache_does_no_periodic_work(open_cache: Open) -> None:
    """Its thread sleeps, and passes of the scavenger do not wake it."""
    cache = await open_cache(use_flush_s=0.05 * patience())
    assert await cache.put(a_product(1), BODY)
    assert await cache.get(a_product(1)) == BODY
    runs: list[float] = []
    periodic = cache._thread.periodic
    run = periodic.run
    periodic.run = lambda: (runs.append(time.monotonic()), run())[1]  # type: ignore
    scavenger = Scavenger([cache], low_water=0.9, every_s=0.05)
    task = asyncio.create_task(scavenger.run())
    deadline = time.monotonic() + 10 * patience()
    while not cache._thread.is_idle and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    before, waits = len(runs), 8
    for _ in range(waits):
        await asyncio.sleep(0.05)
    task.cancel()
    assert len(runs) - before <= 2, "only the pass that looks for dead processes"
    await cache.get(a_product(1))
    assert not cache._thread.is_idle
    deadline = time.monotonic() + 10 * patience()
    while cache._activity.uses and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not cache._activity.uses, "woken, it records what was used"
