"""The index may be lost at any time: serving continues, the quota holds, and the cached files are
found again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from tests.support.caches import BODY, ManualClock, a_product, du

QUOTA = 2_000_000


def _delete(index: Path) -> None:
    index.unlink()


def _delete_all(index: Path) -> None:
    shutil.rmtree(index.parent)


def _overwrite(index: Path) -> None:
    index.write_bytes(b"not a database" * 1000)


def _overwrite_pages(index: Path) -> None:
    size = index.stat().st_size
    with index.open("r+b") as file:
        file.seek(4096)
        file.write(bytes(max(size - 4096, 8192)))


def _truncate(index: Path) -> None:
    with index.open("r+b") as file:
        file.truncate(5000)


def _empty(index: Path) -> None:
    index.write_bytes(b"")


DAMAGE = pytest.mark.parametrize(
    "damage",
    [_delete, _delete_all, _overwrite, _overwrite_pages, _truncate, _empty],
    ids=lambda f: f.__name__,
)


async def _opened(folder: Path, clock: ManualClock) -> DiskCache:
    options = DiskOptions(quota=QUOTA, use_flush_s=1.0)
    return await DiskCache.open(folder, options, now=clock)


@DAMAGE
async def test_an_index_damaged_while_running_is_rebuilt_and_the_quota_holds(
    folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = ManualClock()
    one, other = await _opened(folder, clock), await _opened(folder, clock)
    for number in range(100):
        assert await one.put(a_product(number, asset=f"1/1/{number // 30}"), BODY)
        assert await other.get(a_product(number, asset=f"1/1/{number // 30}")) == BODY
    await one.maintenance.finish_rebuild()
    index = folder.with_name("derivatives.index") / "index.sqlite3"
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink(missing_ok=True)
    damage(index)
    readable = [n for n in range(100) if await one.get(a_product(n, asset=f"1/1/{n // 30}"))]
    assert len(readable) == 100, "reads need no index"
    for number in range(100, 300):
        await other.put(a_product(number), bytes(40_000))
        await one.put(a_product(number + 1000), bytes(40_000))
        assert du(folder) <= QUOTA
    for cache in (one, other):
        await cache.maintenance.finish_rebuild()
    clock.advance(5)
    for cache in (one, other):
        await cache.maintenance.finish_rebuild()
    totals = await one.maintenance.totals()
    assert (totals.walking, totals.bytes) == (False, du(folder))
    for number in range(300, 500):
        assert await one.put(a_product(number), bytes(40_000))
        assert du(folder) <= QUOTA
    await one.close()
    await other.close()
    assert "cache index rebuilt" in [record.message for record in caplog.records]


@DAMAGE
async def test_an_index_damaged_between_runs_is_rebuilt(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    clock = ManualClock()
    cache = await _opened(folder, clock)
    for number in range(50):
        await cache.put(a_product(number), BODY)
    await cache.close()
    damage(folder.with_name("derivatives.index") / "index.sqlite3")
    cache = await _opened(folder, clock)
    assert await cache.get(a_product(3)) == BODY
    assert not await cache.put(a_product(99), BODY), "the bytes in use are not known yet"
    clock.advance(5)
    await cache.maintenance.finish_rebuild()
    totals = await cache.maintenance.totals()
    assert (totals.files, totals.bytes) == (50, du(folder))
    assert await cache.put(a_product(99), BODY)
    await cache.close()


async def test_files_that_the_cache_did_not_write_survive_a_rebuild(folder: Path) -> None:
    clock = ManualClock()
    (folder / "ab").mkdir(parents=True)
    (folder / "README").write_text("hands off")
    (folder / "ab" / "notes").write_text("hands off")
    cache = await _opened(folder, clock)
    await cache.maintenance.finish_rebuild()
    assert await cache.maintenance.clear() == 0
    await cache.close()
    assert (folder / "README").exists()
    assert (folder / "ab" / "notes").exists()
