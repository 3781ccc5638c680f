"""A real PostgreSQL server, an empty database for each test, the catalogue over it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.migrating import migrate
from orchestrator.settings import Database
from tests.support.servers import database, postgres

__all__ = ["catalog", "database", "postgres"]


@pytest.fixture
async def catalog(database: Database) -> AsyncIterator[Catalog]:
    await migrate(database)
    opened = await Catalog.open(database)
    yield opened
    await opened.close()
