"""Fixtures for ingests with real parts: PostgreSQL, a folder as the object store, imaging workers,
origins over HTTP.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.catalog.embedded.database import embedded
from orchestrator.imaging.pool import ImagingPool
from orchestrator.settings import Imaging
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.origins import OriginServer, origin_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an embedded database server."""
    with embedded(tmp_path_factory.mktemp("postgres")) as server:
        yield server.dsn


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def imaging() -> AsyncIterator[ImagingPool]:
    pool = ImagingPool(Imaging(processes=2, max_pixels=100_000_000))
    yield pool
    await pool.close()


async def _create_database(postgres: str) -> str:
    name = f"ingest_{next(_numbers)}"
    connection = await asyncpg.connect(postgres)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return urlsplit(postgres)._replace(path=f"/{name}").geturl()


@pytest_asyncio.fixture(loop_scope="module")
async def dsn(postgres: str) -> str:
    """An empty database."""
    return await _create_database(postgres)


@pytest.fixture
def dsn_of_machine(postgres: str) -> str:
    """An empty database, for a test that runs its own event loop."""
    return asyncio.run(_create_database(postgres))


@pytest_asyncio.fixture(loop_scope="module")
async def system(dsn: str, tmp_path: Path, imaging: ImagingPool) -> AsyncIterator[IngestSystem]:
    async with open_ingest_system(settings_for(dsn, tmp_path / "data"), imaging) as one:
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def origin() -> AsyncIterator[OriginServer]:
    async with origin_server() as server:
        yield server
