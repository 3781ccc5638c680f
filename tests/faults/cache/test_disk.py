"""Requests do not fail when the disk fails: full, read-only, missing."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from orchestrator.cache.locks import try_lock
from orchestrator.errors import NoRoom
from tests.support.caches import BODY, a_product, du
from tests.support.small_disks import mounted

SIZE = 20 * 1024**2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, 20 MiB."""
    with mounted(tmp_path / "disk", f"size={SIZE}") as at:
        yield at


async def test_on_a_full_disk_the_cache_makes_room_or_stores_nothing(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await DiskCache.open(small_disk / "c", DiskOptions(quota=0, use_flush_s=0.05))
    for number in range(900):
        await cache.put(a_product(number), BODY)
    assert (await cache.stats()).evicted > 0, "it evicted before the disk was full"
    status = os.statvfs(small_disk)
    (small_disk / "others").write_bytes(bytes(status.f_bavail * status.f_frsize))
    caplog.set_level(logging.WARNING)
    for number in range(1000, 1100):
        await cache.put(a_product(number), BODY)
        read = await cache.get(a_product(number))
        assert read in (None, BODY)
    with pytest.raises(NoRoom):
        async with cache.open_writer(a_product(1), 30 * 1024**2):
            pass
    assert len(caplog.records) < 10, "equal failures are logged once"
    assert "cache has no room" in [record.message for record in caplog.records]
    (small_disk / "others").unlink()
    assert await cache.put(a_product(1101), BODY)
    assert await cache.get(a_product(1101)) == BODY
    await cache.close()


async def test_an_index_that_is_opened_on_a_full_disk_is_not_taken_for_damaged(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await DiskCache.open(small_disk / "c", DiskOptions(quota=0))
    assert await cache.put(a_product(1), BODY)
    await cache.close()
    with (small_disk / "others").open("wb", buffering=0) as others:
        while others.write(bytes(4096)) == 4096 and os.statvfs(small_disk).f_bavail:
            pass
    caplog.set_level(logging.WARNING)
    cache = await DiskCache.open(small_disk / "c", DiskOptions(quota=0))
    assert await cache.get(a_product(1)) == BODY
    assert await cache.put(a_product(2), BODY) is False
    assert "cache index set aside" not in [record.message for record in caplog.records]
    (small_disk / "others").unlink()
    assert await cache.put(a_product(3), BODY)
    await cache.close()


async def test_a_cache_whose_index_hangs_stores_nothing_and_delays_one_write(
    tmp_path: Path,
) -> None:
    """Another process was stopped, or its disk hangs, while it held the lock of the index."""
    cache = await DiskCache.open(tmp_path / "c", DiskOptions(quota=0))
    assert await cache.put(a_product(1), BODY)
    lock = try_lock(tmp_path / "c.index" / "index.lock")
    assert lock is not None
    try:
        assert not await cache.put(a_product(2), BODY)
        began = time.monotonic()
        for number in range(3, 8):
            assert not await cache.put(a_product(number), BODY)
        assert time.monotonic() - began < 4, "only the first write waits for seconds"
        assert await cache.get(a_product(1)) == BODY
    finally:
        os.close(lock)
    assert await cache.put(a_product(2), BODY)
    assert await cache.get(a_product(2)) == BODY
    await cache.close()


async def test_while_the_index_is_slow_writes_wait_and_reads_do_not(tmp_path: Path) -> None:
    cache = await DiskCache.open(tmp_path / "c", DiskOptions(quota=0))
    assert await cache.put(a_product(1), BODY)
    lock = try_lock(tmp_path / "c.index" / "index.lock")
    assert lock is not None
    waiting = asyncio.create_task(cache.put(a_product(2), BODY))
    for _ in range(20):
        await asyncio.sleep(0)
        assert await cache.get(a_product(1)) == BODY
        assert await cache.get(a_product(2)) is None
    assert not waiting.done()
    os.close(lock)
    assert await waiting
    assert await cache.get(a_product(2)) == BODY
    await cache.close()


async def test_a_write_that_fills_the_disk_leaves_no_file(small_disk: Path) -> None:
    cache = await DiskCache.open(small_disk / "c", DiskOptions(quota=0))
    with pytest.raises(OSError, match="No space"):
        async with cache.open_writer(a_product(), 1000) as writing:
            writing.path.write_bytes(bytes(2 * SIZE))
    assert list((small_disk / "c" / ".temp").iterdir()) == []
    assert await cache.put(a_product(), BODY)
    await cache.close()


async def test_a_read_only_cache_is_read_and_new_files_are_not_stored(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = DiskOptions(quota=3_000_000, use_flush_s=0.05)
    cache = await DiskCache.open(small_disk / "c", options)
    assert await cache.put(a_product(1), BODY)
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    await cache.close()
    subprocess.run(remount, check=True)
    caplog.set_level(logging.WARNING)
    cache = await DiskCache.open(small_disk / "c", options)
    for number in range(2, 30):
        assert not await cache.put(a_product(number), BODY)
        assert await cache.get(a_product(1)) == BODY
    assert await cache.path(a_product(1)) is not None
    assert await cache.assets.drop("1/1/a") == 0
    with pytest.raises(NoRoom):
        async with cache.open_writer(a_product(2), 1000):
            pass
    assert (await cache.stats()).failed == 28
    assert "cache not writable" in [record.message for record in caplog.records]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    caplog.set_level(logging.INFO)
    assert await cache.put(a_product(2), BODY), "each write is tried again"
    assert "cache writable again" in [record.message for record in caplog.records]
    await cache.close()


async def test_files_deleted_externally_are_logged_and_the_counts_are_corrected(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await DiskCache.open(folder, DiskOptions(quota=2_000_000))
    for number in range(10):
        await cache.put(a_product(number), BODY)
    for path in list(folder.glob("??/*/*.jpg")):
        path.unlink()
    for number in range(3):
        assert await cache.get(a_product(number)) is None
    await cache.maintenance.run_periodic_work()
    warnings = [r for r in caplog.records if r.message == "cached files deleted externally"]
    assert [record.files for record in warnings] == [3]  # type: ignore[attr-defined]
    for number in range(10):
        assert await cache.put(a_product(number), BODY)
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.bytes) == (10, du(folder))
    await cache.close()


async def test_a_cache_folder_deleted_externally_is_created_again(folder: Path) -> None:
    cache = await DiskCache.open(folder, DiskOptions(quota=2_000_000))
    for number in range(20):
        await cache.put(a_product(number), BODY)
    shutil.rmtree(folder)
    assert await cache.get(a_product(1)) is None
    assert await cache.put(a_product(1), BODY)
    assert await cache.get(a_product(1)) == BODY
    await cache.maintenance.verify(repair=True)
    totals = await cache.maintenance.totals()
    assert totals.files == 1
    assert totals.bytes + totals.reserved >= du(folder)
    await cache.close()
