"""A pool of one worker a lane, with short limits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging


@pytest.fixture
async def pool() -> AsyncIterator[ImagingPool]:
    """One process and one thread a lane; pictures up to 50 megapixels and 100 frames."""
    pool = ImagingPool(
        Imaging(processes=1, threads=1, max_pixels=50_000_000, max_frames=100, queue=8)
    )
    yield pool
    await pool.close()
