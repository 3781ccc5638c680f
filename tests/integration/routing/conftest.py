"""A pool of decode workers for all tests here: a start takes 0.5 s."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging


@pytest.fixture(scope="session")
def imaging() -> Iterator[ImagingPool]:
    """One worker in each lane."""
    pool = ImagingPool(Imaging(processes=1, threads=2))
    yield pool
    asyncio.run(pool.close())
