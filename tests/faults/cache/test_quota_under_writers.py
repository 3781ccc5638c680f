"""Four processes write as fast as they can, and `du` never finds more than the quota."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from tests.faults.cache.conftest import Spawn
from tests.support.caches import a_product, du, read_line

QUOTA = 200_000_000


async def fill(folder: Path) -> None:
    """Fill the cache, so that writers have to make room from the start."""
    cache = await DiskCache.open(folder, DiskOptions(quota=QUOTA))
    for number in range(200):
        assert await cache.put(a_product(number, asset=f"1/1/{number // 9}"), bytes(1_000_000))
    await cache.close()


@pytest.mark.parametrize(
    ("seconds", "killed"),
    [
        pytest.param(5.0, 2, id="5 s, two killed"),
        pytest.param(10.0, 0, id="10 s, all live", marks=pytest.mark.soak),
        pytest.param(60.0, 2, id="60 s, two killed", marks=pytest.mark.soak),
    ],
)
async def test_du_never_finds_more_than_the_quota_while_four_processes_write(
    folder: Path, spawn: Spawn, seconds: float, killed: int
) -> None:
    await fill(folder)
    writers = [spawn("write", folder, QUOTA, seconds, seed) for seed in range(4)]
    samples = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if folder.exists():
            samples.append(du(folder))
        if killed and time.monotonic() > until - seconds / 2:
            for writer in writers[:killed]:
                writer.kill()
            killed = -killed  # once
        time.sleep(0.01)
    outcomes = [
        [int(n) for n in line.split()] for w in writers[abs(killed) :] if (line := read_line(w))
    ]
    assert len(outcomes) == 4 - abs(killed), "no writer failed"
    assert len(samples) > 20
    assert max(samples) <= QUOTA
    assert max(samples) > QUOTA * 0.95, "the cache was full"
    assert [wrong for _, _, wrong in outcomes] == [0] * len(outcomes)
    kept, refused = sum(o[0] for o in outcomes), sum(o[1] for o in outcomes)
    assert refused <= kept * 0.02
    cache = await DiskCache.open(folder, DiskOptions(quota=QUOTA))
    await cache.maintenance.sweep()
    report = await cache.maintenance.verify(repair=True)
    assert report.unknown == report.resized == report.empty == 0
    totals = await cache.maintenance.totals()
    await cache.close()
    assert (totals.bytes, totals.reserved) == (du(folder), 0)
