"""Fixtures for ingests with real parts: PostgreSQL, a folder as the object store, imaging workers,
origins over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.origins import OriginServer, origin_server
from tests.support.server_fixtures import new_database


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def imaging() -> AsyncIterator[ImagingPool]:
    """Workers for all tests here, which share an event loop because of it: a start takes 0.5 s."""
    pool = ImagingPool(Imaging(processes=2, max_pixels=100_000_000))
    yield pool
    await pool.close()


@pytest_asyncio.fixture(loop_scope="session")
async def dsn(postgres: str) -> str:
    """A database with the present schema."""
    return await new_database(postgres)


@pytest.fixture
def dsn_of_machine(postgres: str) -> str:
    """A database with the present schema, for a test that runs its own event loop."""
    return asyncio.run(new_database(postgres))


@pytest_asyncio.fixture(loop_scope="session")
async def system(dsn: str, tmp_path: Path, imaging: ImagingPool) -> AsyncIterator[IngestSystem]:
    async with open_ingest_system(settings_for(dsn, tmp_path / "data"), imaging) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="session")
async def origin() -> AsyncIterator[OriginServer]:
    async with origin_server() as server:
        yield server
