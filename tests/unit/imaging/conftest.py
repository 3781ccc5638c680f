"""A pool with one worker in each lane and small limits, shared by tests that do not break it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging

SMALL = Imaging(processes=1, threads=1, max_pixels=50_000_000, max_frames=100, queue=8)


@pytest.fixture(scope="session")
def pool() -> Iterator[ImagingPool]:
    """One process in each lane and one thread; pictures up to 50 megapixels and 100 frames."""
    pool = ImagingPool(SMALL)
    yield pool
    asyncio.run(pool.close())
