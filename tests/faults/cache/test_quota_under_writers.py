"""A quota is a promise: four processes write as fast as they can, and `du` never finds more."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from orchestrator.cache.disk import DiskCache, DiskOptions
from tests.faults.cache.conftest import Spawn
from tests.support.caches import du, said

QUOTA = 30_000_000
SECONDS = float(os.environ.get("ORCHESTRATOR_TEST_SECONDS", "5"))


@pytest.mark.parametrize("killed", [0, 2], ids=["all live", "two killed"])
async def test_du_never_finds_more_than_the_quota_while_four_processes_write(
    folder: Path, spawn: Spawn, killed: int
) -> None:
    writers = [spawn("write", folder, QUOTA, SECONDS, seed) for seed in range(4)]
    samples = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if folder.exists():
            samples.append(du(folder))
        if killed and time.monotonic() > until - SECONDS / 2:
            for writer in writers[:killed]:
                writer.kill()
            killed = -killed  # once
        time.sleep(0.01)
    outcomes = [[int(n) for n in line.split()] for w in writers[abs(killed) :] if (line := said(w))]
    assert len(outcomes) == 4 - abs(killed), "no writer failed"
    assert len(samples) > 20
    assert max(samples) <= QUOTA
    assert max(samples) > QUOTA * 0.8, "the cache was full"
    assert [wrong for _, _, wrong in outcomes] == [0] * len(outcomes)
    kept, refused = sum(o[0] for o in outcomes), sum(o[1] for o in outcomes)
    assert refused <= kept * 0.02
    cache = await DiskCache.open(folder, DiskOptions(quota=QUOTA))
    await cache.sweep()
    found = await cache.verify(repair=True)
    assert found.unknown == found.resized == found.empty == 0
    totals = await cache.totals()
    await cache.close()
    assert (totals.bytes, totals.reserved) == (du(folder), 0)
