"""What is pinned stays, what has a share keeps to it, what is being read is not taken away; and all
that leaves is counted by its reason.
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

QUOTA = 1_000_000


def pinned(number: int, asset: str = "1/1/treasure") -> Product:
    return replace(a_product(number, asset=asset), pinned=True)


def of_ico(number: int, asset: str = "1/1/a") -> Product:
    return replace(a_product(number, asset=asset), share="ico")


async def fill(cache: DiskCache, clock: ManualClock, numbers: range, asset: str = "1/1/a") -> None:
    for number in numbers:
        clock.advance(1)
        assert await cache.put(a_product(number, asset=asset), BODY)


async def there(cache: DiskCache, products: list[Product]) -> list[bool]:
    return [await cache.get(product) is not None for product in products]


def left(reason: str) -> float:
    return metrics.CACHE_EVICTIONS.labels(cache="derivatives", reason=reason)._value.get()


def aged() -> float:
    found = metrics.CACHE_EVICTION_AGE.labels(cache="derivatives")
    return sum(bucket.get() for bucket in found._buckets)


async def test_pinned_files_survive_pressure_and_count_in_the_quota(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache, other = await open_cache(quota=QUOTA), await open_cache(quota=QUOTA)
    for number in range(10):
        assert await cache.put(pinned(number), BODY)
    await fill(other, clock, range(200))
    assert await there(cache, [pinned(n) for n in range(10)]) == [True] * 10
    totals = await cache.maintenance.totals()
    assert totals.pinned == 10 * 12288
    assert du(folder) <= totals.bytes + totals.reserved <= QUOTA


async def test_a_quota_full_of_pins_refuses_and_evicts_nothing(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    kept = 0
    while await cache.put(pinned(kept), BODY):
        kept += 1
    assert kept > 50
    assert not await cache.put(a_product(1), BODY)
    assert not await cache.put(a_product(2), BODY)
    assert await there(cache, [pinned(n) for n in range(kept)]) == [True] * kept
    assert (await cache.stats()).refused == 3
    (done,) = await Scavenger([cache], low_water=0.5).once()
    assert done.files == 0, "nothing that it may evict"


async def test_an_asset_pinned_afterwards_stays_with_all_that_comes_and_is_let_go_again(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    await fill(cache, clock, range(5), asset="1/1/treasure")
    await cache.assets.pin("1/1/treasure")
    await fill(cache, clock, range(5, 8), asset="1/1/treasure")  # written by who does not know yet
    await fill(cache, clock, range(200))
    mine = [a_product(n, asset="1/1/treasure") for n in range(8)]
    assert await there(cache, mine) == [True] * 8
    await cache.assets.unpin("1/1/treasure")
    assert (await cache.maintenance.totals()).pinned == 0
    await cache.maintenance.run_periodic_work()
    await fill(cache, clock, range(200, 400))
    assert await there(cache, mine) == [False] * 8


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
    assert (await cache.maintenance.totals()).pinned == 0, "nobody has told it yet"
    assert await cache.get(pinned(1)) == BODY
    await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.totals()).pinned == 12288


async def test_pins_are_settled_with_the_catalogue_but_those_of_a_rule_stay(
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


async def test_a_pinned_asset_that_changed_is_dropped_all_the_same(open_cache: Open) -> None:
    cache = await open_cache()
    assert await cache.put(pinned(1), BODY)
    assert await cache.assets.drop_older("1/1/treasure", 2) == 1
    assert (await cache.maintenance.totals()).pinned == 0


async def test_a_share_is_kept_by_its_own_and_nobody_else_makes_room_for_it(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(quota=QUOTA, shares=(("ico", 200_000),))
    await fill(cache, clock, range(20))
    before = left("share")
    for number in range(60):
        clock.advance(1)
        assert await cache.put(of_ico(number), BODY)
        held = sum(p.stat().st_blocks * 512 for p in folder.glob("??/*/*-ico-*"))
        assert held <= 200_000
    kept = await there(cache, [of_ico(n) for n in range(60)])
    assert kept == [False] * 44 + [True] * 16, "least recently used first"
    assert await there(cache, [a_product(n) for n in range(20)]) == [True] * 20
    assert left("share") - before == 44
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_many_of_a_share_at_once_keep_to_it(open_cache: Open, folder: Path) -> None:
    cache = await open_cache(quota=QUOTA, shares=(("ico", 100_000),))
    await asyncio.gather(*(cache.put(of_ico(n), BODY) for n in range(100)))
    assert sum(p.stat().st_blocks * 512 for p in folder.glob("??/*/*-ico-*")) <= 100_000
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_what_is_larger_than_its_share_is_not_kept(open_cache: Open) -> None:
    cache = await open_cache(shares=(("ico", 100_000),))
    assert await cache.put(of_ico(1), BODY)
    assert not await cache.put(of_ico(2), bytes(110_000))
    assert await cache.get(of_ico(1)) == BODY


async def test_a_share_made_smaller_is_trimmed_first_also_after_a_rebuild(
    open_cache: Open, clock: ManualClock, folder: Path
) -> None:
    cache = await open_cache(quota=QUOTA, use_flush_s=0.0)
    for number in range(30):
        clock.advance(1)
        assert await cache.put(of_ico(number), BODY)
    await fill(cache, clock, range(5))
    await cache.close()
    for path in folder.with_name("derivatives.index").glob("index.sqlite3*"):
        path.unlink()
    cache = await open_cache(quota=QUOTA, shares=(("ico", 100_000),), use_flush_s=0.0)
    clock.advance(10)
    await cache.maintenance.run_periodic_work()
    before = left("share")
    (would,) = await Scavenger([cache], low_water=1.0).once(dry_run=True)
    (done,) = await Scavenger([cache], low_water=1.0).once()
    assert (would.files, done.files) == (22, 22)
    assert left("share") - before == 22
    assert await there(cache, [a_product(n) for n in range(5)]) == [True] * 5


def test_the_share_is_part_of_the_name() -> None:
    found = place(of_ico(1))
    assert share_of(found.name) == "ico"
    assert share_of(place(a_product(1)).name) == ""
    assert parse(found.asset, found.name) == found
    assert place(pinned(1)) == place(a_product(1, asset="1/1/treasure")), "a pin is not"
    with pytest.raises(ValueError, match="share"):
        place(replace(a_product(), share="../x"))


async def test_a_prefix_is_dropped_and_nothing_else(open_cache: Open) -> None:
    cache = await open_cache()
    for asset in ("1/1/a", "1/1/maps%2Fb", "1/1/maps%2Fc", "1/10/a", "2/1/a"):
        assert await cache.put(a_product(asset=asset), BODY)
        assert await cache.put(a_product(asset=asset, version=2), BODY)
    before = left("prefix")
    assert await cache.assets.drop_prefix("1/1/maps") == 4
    assert await cache.assets.drop_prefix("1/1/") == 2
    assert await cache.assets.drop_prefix("1/2/") == 0
    assert left("prefix") - before == 6
    assert await there(cache, [a_product(asset=a) for a in ("1/10/a", "2/1/a")]) == [True, True]
    assert not await cache.assets.has_unnamed()


async def test_after_a_rebuild_ids_are_unknown_until_they_are_told(
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


async def test_a_file_is_not_evicted_for_as_long_as_it_is_held(
    open_cache: Open, clock: ManualClock
) -> None:
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


async def test_what_leaves_for_room_is_counted_with_its_age(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=QUOTA)
    before, ages = left("quota"), aged()
    await fill(cache, clock, range(100))
    evicted = (await cache.stats()).evicted
    assert evicted > 0
    assert left("quota") - before == evicted
    assert aged() - ages == evicted
    dropped = left("asset")
    await cache.assets.drop("1/1/a")
    assert left("asset") - dropped == 100 - evicted


async def test_lookups_and_puts_are_counted_by_outcome(open_cache: Open) -> None:
    def counted(outcome: str) -> float:
        found = metrics.CACHE_LOOKUPS.labels(cache="derivatives", outcome=outcome)
        return float(found._value.get())

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


async def test_a_cache_that_nobody_uses_costs_nothing(open_cache: Open) -> None:
    """Its thread sleeps, and a pass of the scavenger does not wake it."""
    cache = await open_cache(use_flush_s=0.05)
    assert await cache.put(a_product(1), BODY)
    assert await cache.get(a_product(1)) == BODY
    runs: list[float] = []
    periodic = cache._thread.periodic
    run = periodic.run
    periodic.run = lambda: (runs.append(time.monotonic()), run())[1]  # type: ignore
    scavenger = Scavenger([cache], low_water=0.9, every_s=0.05)
    task = asyncio.create_task(scavenger.run())
    deadline = time.monotonic() + 10
    while not cache._thread.is_idle and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    before, waits = len(runs), 8
    for _ in range(waits):
        await asyncio.sleep(0.05)
    task.cancel()
    assert len(runs) - before <= 2, "only the pass that looks for the dead"
    await cache.get(a_product(1))
    assert not cache._thread.is_idle
    deadline = time.monotonic() + 10
    while cache._activity.uses and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert not cache._activity.uses, "woken, it records what was used"
