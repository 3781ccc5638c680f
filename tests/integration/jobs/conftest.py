"""Jobs over a real PostgreSQL, announced by both forms of the queue."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from orchestrator.catalog.migrator import migrate
from orchestrator.settings import Database, Jobs
from tests.support.jobs import LEASES, Shop, moto, open_shop, sqs_settings
from tests.support.server_fixtures import database, postgres

__all__ = ["database", "postgres"]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def sqs_server() -> Iterator[str]:
    with moto() as address:
        yield address


@pytest.fixture
async def shop(database: Database) -> AsyncIterator[Shop]:
    """PgQueuer."""
    await migrate(database)
    async with open_shop(database, Jobs(**LEASES)) as opened:
        yield opened


@pytest.fixture
async def sqs_shop(database: Database, sqs_server: str) -> AsyncIterator[Shop]:
    """SQS."""
    await migrate(database)
    settings = sqs_settings(sqs_server, f"w{next(_numbers)}", **LEASES)
    async with open_shop(database, settings) as opened:
        yield opened


@pytest.fixture(params=["pgqueuer", "sqs"])
def either(request: pytest.FixtureRequest) -> Shop:
    """Each of them."""
    shop: Shop = request.getfixturevalue("sqs_shop" if request.param == "sqs" else "shop")
    return shop
