"""Disk caches over one folder: each is what another process of the host would have open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from tests.support.caches import ManualClock

Open = Callable[..., Awaitable[DiskCache]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "derivatives"


@pytest.fixture
async def open_cache(folder: Path, clock: ManualClock) -> AsyncIterator[Open]:
    opened: list[DiskCache] = []

    async def one(quota: int = 50_000_000, **more: Any) -> DiskCache:
        boot = more.pop("boot", None)
        options = DiskOptions(quota=quota, **{"use_flush_s": 3600, **more})
        opened.append(await DiskCache.open(folder, options, now=clock, boot=boot))
        return opened[-1]

    yield one
    for cache in opened:
        await cache.close()
