"""The disk cache: stored bodies are read back whole; quota, order, leases, drops, damaged files."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import Product
from orchestrator.cache.disk.file_names import place
from orchestrator.cache.disk.index import Boot
from orchestrator.cache.disk.periodic_work import MISSES_KEPT
from orchestrator.errors import NoRoom
from tests.integration.cache.conftest import Open
from tests.support.caches import BODY, ManualClock, a_product, du
from tests.support.patience import patience


async def test_a_stored_body_is_read_by_every_process_and_after_a_restart(open_cache: Open) -> None:
    one, other = await open_cache(), await open_cache()
    assert await one.get(a_product()) is None
    assert await one.put(a_product(), BODY)
    assert await one.get(a_product()) == BODY
    assert await other.get(a_product()) == BODY
    await one.close()
    assert await (await open_cache()).get(a_product()) == BODY


@pytest.mark.parametrize("inline_read", [0, 256 * 1024], ids=["by a thread", "inline"])
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 300_000], ids=str)
async def test_bodies_of_any_size_are_read_back_whole(
    open_cache: Open, size: int, inline_read: int
) -> None:
    cache, body = await open_cache(inline_read=inline_read), os.urandom(size)
    assert await cache.put(a_product(), body)
    assert await cache.get(a_product()) == body


async def test_the_counted_bytes_equal_those_of_du(open_cache: Open, folder: Path) -> None:
    cache = await open_cache()
    for number in range(400):
        product = a_product(number, asset=f"1/1/{number // 100}")
        assert await cache.put(product, bytes(1 + number * 37))
    assert (await cache.maintenance.totals()).bytes == du(folder)
    await cache.put(a_product(0, asset="1/1/0"), bytes(50_000))
    await cache.assets.drop("1/1/1")
    assert (await cache.maintenance.totals()).bytes == du(folder)
    assert (await cache.maintenance.totals()).files == 300


async def test_a_folder_that_grows_is_counted_with_the_file_that_made_it_grow(
    open_cache: Open, folder: Path
) -> None:
    cache = await open_cache()
    for number in range(130):
        assert await cache.put(a_product(number), b"x")
        assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_the_least_recently_used_files_are_evicted_when_room_is_needed(
    open_cache: Open, clock: ManualClock
) -> None:
    cache = await open_cache(quota=1_000_000)
    stored = 0
    for number in range(40):
        clock.advance(1)
        assert await cache.put(a_product(number), BODY)
    clock.advance(1)
    assert await cache.get(a_product(0)) == BODY
    for number in range(40, 80):
        clock.advance(1)
        assert await cache.put(a_product(number), BODY)
    there = [n for n in range(80) if await cache.get(a_product(n))]
    stored = len(there) - 1
    assert there == [0, *range(80 - stored, 80)]
    assert (await cache.stats()).evicted == 80 - len(there)


async def test_a_body_larger_than_the_quota_evicts_nothing(open_cache: Open) -> None:
    cache = await open_cache(quota=400_000)
    assert await cache.put(a_product(1), BODY)
    assert not await cache.put(a_product(2), bytes(400_000))
    assert await cache.get(a_product(1)) == BODY
    assert (await cache.stats()).refused == 1


async def test_a_body_over_the_largest_entry_is_refused(open_cache: Open) -> None:
    cache = await open_cache(max_entry=100)
    assert not await cache.put(a_product(), bytes(101))
    assert not await cache.put(a_product(), b"")


async def test_a_quota_of_zero_means_no_limit(open_cache: Open) -> None:
    cache = await open_cache(quota=0)
    for number in range(100):
        assert await cache.put(a_product(number), BODY)
    assert (await cache.stats()).evicted == 0


async def test_the_free_space_floor_is_respected(open_cache: Open, tmp_path: Path) -> None:
    status = os.statvfs(tmp_path)
    cache = await open_cache(quota=0, floor=status.f_bavail * status.f_frsize + 10**9)
    assert not await cache.put(a_product(), BODY)
    with pytest.raises(NoRoom):
        async with cache.open_writer(a_product(), 1000):
            pass


async def test_a_body_stored_again_replaces_the_first_and_counts_once(
    open_cache: Open, folder: Path
) -> None:
    cache = await open_cache()
    await cache.put(a_product(), BODY)
    await cache.put(a_product(), BODY * 3)
    assert await cache.get(a_product()) == BODY * 3
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.bytes) == (1, du(folder))


async def test_dropping_an_asset_removes_all_its_versions_and_no_other_asset(
    open_cache: Open,
) -> None:
    cache = await open_cache()
    for version in (1, 2, 10):
        await cache.put(a_product(version=version), BODY)
    await cache.put(a_product(asset="1/1/b"), BODY)
    assert await cache.assets.drop_older("1/1/a", 10) == 2
    assert await cache.get(a_product(version=2)) is None
    assert await cache.get(a_product(version=10)) == BODY
    assert await cache.assets.drop("1/1/a") == 1
    assert await cache.get(a_product(asset="1/1/b")) == BODY


async def test_a_streamed_file_is_readable_after_it_is_published_and_not_before(
    open_cache: Open, folder: Path
) -> None:
    cache, product = await open_cache(), Product("1/1/a", 1, "source x", "tif")
    async with cache.open_writer(product, 100_000) as writing:
        assert await cache.path(product) is None
        writing.path.write_bytes(bytes(100_000))
        published = await writing.publish()
        assert published.suffix == ".tif"
        assert await cache.path(product) == published
    assert published.stat().st_size == 100_000
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_a_failed_write_leaves_no_file_and_gives_its_room_back(
    open_cache: Open, folder: Path
) -> None:
    cache = await open_cache()
    before = (await cache.maintenance.totals()).bytes, cache._thread.writer.ledger.free
    with pytest.raises(ConnectionError):
        async with cache.open_writer(a_product(), 1_000_000) as writing:
            writing.path.write_bytes(bytes(10_000))
            raise ConnectionError
    assert list((folder / ".temp").iterdir()) == []
    await cache.maintenance.run_periodic_work()
    totals = await cache.maintenance.totals()
    assert (totals.bytes, totals.reserved) == (before[0], 0)


async def test_a_write_cancelled_while_it_waits_for_room_gives_it_back(open_cache: Open) -> None:
    cache = await open_cache()

    async def write() -> None:
        async with cache.open_writer(a_product(), 1_000_000):
            await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.totals()).reserved == 0


async def test_a_write_of_unknown_size_grows_within_the_quota(open_cache: Open) -> None:
    cache = await open_cache(quota=1_000_000)
    async with cache.open_writer(a_product()) as writing:
        await writing.grow(500_000)
        with pytest.raises(NoRoom):
            await writing.grow(2_000_000)
        writing.path.write_bytes(bytes(500_000))
        await writing.publish()
    assert await cache.get(a_product()) == bytes(500_000)


async def test_a_file_larger_than_its_room_is_not_stored(open_cache: Open, folder: Path) -> None:
    cache = await open_cache(quota=300_000)
    with pytest.raises(NoRoom):
        async with cache.open_writer(a_product(), 1000) as writing:
            writing.path.write_bytes(bytes(500_000))
            await writing.publish()
    assert await cache.get(a_product()) is None
    assert list((folder / ".temp").iterdir()) == []


async def test_a_source_in_use_is_not_evicted_until_its_lease_ends(
    open_cache: Open, clock: ManualClock
) -> None:
    one, other = await open_cache(quota=1_000_000), await open_cache(quota=1_000_000)
    assert await one.put(a_product(0, asset="source"), bytes(200_000))
    held = await one.path(a_product(0, asset="source"))
    for number in range(60):
        clock.advance(0.2)
        assert await other.put(a_product(number), bytes(50_000))
    assert held is not None
    assert held.exists()
    clock.advance(31)
    for number in range(60, 90):
        clock.advance(0.2)
        assert await other.put(a_product(number), bytes(50_000))
    assert not held.exists()
    assert await one.path(a_product(0, asset="source")) is None


async def test_a_file_deleted_externally_is_a_miss_and_the_counts_are_corrected(
    open_cache: Open, folder: Path
) -> None:
    cache = await open_cache()
    for number in range(2):
        await cache.put(a_product(number), BODY)
        (folder / place(a_product(number)).path).unlink()
        assert await cache.get(a_product(number)) is None
    assert await cache.put(a_product(0), BODY)
    assert await cache.get(a_product(0)) == BODY
    await cache.maintenance.run_periodic_work()
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.bytes) == (1, du(folder))


async def test_the_number_of_misses_in_memory_is_bounded(open_cache: Open) -> None:
    cache = await open_cache()
    for number in range(2 * MISSES_KEPT):
        await cache.get(a_product(number))
    assert len(cache._activity.missed) == MISSES_KEPT


async def test_a_temporary_file_that_cannot_be_removed_does_not_fail_jobs_or_use_room(
    open_cache: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = await open_cache()
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == ".temp":
            raise OSError(errno.EIO, "I/O error")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    thread, go = cache._thread, threading.Event()
    thread.call(go.wait)  # so that the put and the next job are in the queue together
    stored = asyncio.ensure_future(cache.put(a_product(), BODY))
    await asyncio.sleep(0)
    following = asyncio.wrap_future(thread.call(lambda: "done"))
    go.set()
    async with asyncio.timeout(5 * patience()):
        assert await stored
        assert await following == "done"
    for _ in range(2):  # room is given back when nothing was stored since the last run
        await cache.maintenance.run_periodic_work()
    assert (await cache.maintenance.totals()).reserved == 0


async def test_an_empty_file_is_a_miss_and_is_removed(open_cache: Open, folder: Path) -> None:
    cache = await open_cache()
    await cache.put(a_product(), BODY)
    path = folder / place(a_product()).path
    os.truncate(path, 0)
    assert await cache.get(a_product()) is None
    assert await cache.path(a_product()) is None
    assert (await cache.maintenance.totals()).files == 0
    assert not path.exists()


async def test_verify_counts_each_kind_of_difference_and_repairs_it(
    open_cache: Open, folder: Path
) -> None:
    cache = await open_cache()
    for number in range(5):
        await cache.put(a_product(number), BODY)
    paths = [folder / place(a_product(number)).path for number in range(6)]
    assert (await cache.maintenance.verify()).sound
    paths[0].unlink()
    paths[1].write_bytes(BODY * 3)
    paths[2].write_bytes(b"")
    paths[5].write_bytes(BODY)
    report = await cache.maintenance.verify()
    assert (report.missing, report.resized, report.empty, report.unknown) == (1, 2, 1, 1)
    await cache.maintenance.verify(repair=True)
    assert (await cache.maintenance.verify()).sound
    assert (await cache.maintenance.totals()).bytes == du(folder)


async def test_clear_removes_every_file(open_cache: Open, folder: Path) -> None:
    cache = await open_cache()
    for number in range(30):
        await cache.put(a_product(number, asset=f"1/1/{number % 7}"), BODY)
    assert await cache.maintenance.clear() == 30
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.bytes) == (0, du(folder))


async def test_after_a_reboot_files_that_may_be_damaged_are_not_trusted(
    open_cache: Open, folder: Path, clock: ManualClock
) -> None:
    """A power cut can truncate files of the last seconds: those are misses."""
    cache = await open_cache(boot=Boot("one", clock() - 1000))
    for number, age in ((1, 5000), (2, 10)):
        await cache.put(a_product(number), BODY)
        os.utime(folder / place(a_product(number)).path, (clock() - age,) * 2)
    await cache.close()
    clock.advance(60)
    cache = await open_cache(boot=Boot("two", clock() - 1), use_flush_s=0.0)
    assert await cache.get(a_product(1)) == BODY
    assert await cache.get(a_product(2)) is None
    clock.advance(10)
    await cache.maintenance.run_periodic_work()
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.walking, totals.bytes) == (1, False, du(folder))
    os.utime(folder / place(a_product(1)).path, (clock(),) * 2)
    assert await cache.put(a_product(2), BODY)
