"""A pool of one worker a lane, with small limits, for all tests here that do it no harm."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging

SMALL = Imaging(processes=1, threads=1, max_pixels=50_000_000, max_frames=100, queue=8)


@pytest.fixture(scope="session")
def pool() -> Iterator[ImagingPool]:
    """One process and one thread a lane; pictures up to 50 megapixels and 100 frames."""
    pool = ImagingPool(SMALL)
    yield pool
    asyncio.run(pool.close())
