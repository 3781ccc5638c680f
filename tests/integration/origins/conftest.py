"""The origins of one customer, with strategies in a real catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.values import OriginStrategy
from orchestrator.errors import OrchestratorError
from orchestrator.origins.credential_store import make_key
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_services import OriginServices, open_origins
from orchestrator.origins.own_data import OwnData
from orchestrator.origins.reader_types import FetchedFile
from orchestrator.origins.strategy_editor import StrategyEditor
from orchestrator.origins.strategy_input import StrategyInput
from orchestrator.origins.strategy_matcher import StrategyMatcher
from orchestrator.settings import Database, Ingest
from tests.support.patience import patience

CUSTOMER = 7
PICTURE = b"\xff\xd8\xff" + bytes(range(256)) * 4000
HTML = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
MAX_BYTES = 2_000_000


@dataclass
class CustomerOrigins:
    """Adds strategies to CUSTOMER and fetches origins into `folder`."""

    catalog: Catalog
    services: OriginServices
    folder: Path

    @property
    def strategies(self) -> StrategyEditor:
        return self.services.strategies

    @property
    def matcher(self) -> StrategyMatcher:
        return self.services.matcher

    @property
    def fetcher(self) -> OriginFetcher:
        return self.services.fetcher

    async def add(
        self, regex: str, strategy: str, credentials: Any = None, **more: Any
    ) -> OriginStrategy:
        return await self.strategies.create(
            CUSTOMER, StrategyInput(regex, strategy, credentials, **more)
        )

    async def fetch(self, origin: str) -> FetchedFile:
        return await self.fetcher.fetch(CUSTOMER, origin, self.folder / "fetched")

    async def fault_code(self, origin: str) -> str:
        """Return the code of the error that a fetch raises."""
        with pytest.raises(OrchestratorError) as caught:
            await self.fetch(origin)
        return caught.value.code


@asynccontextmanager
async def customer_origins(
    database: Database,
    folder: Path,
    keys: list[str] | None = None,
    own: OwnData | None = None,
    **settings: Any,
) -> AsyncIterator[CustomerOrigins]:
    """Open origin services with short timeouts that may connect to loopback addresses."""
    catalog = await Catalog.open(database)
    await catalog.customers.ensure(CUSTOMER, "seven")
    values = {
        "allow_private_addresses": True,
        "max_bytes": MAX_BYTES,
        "connect_timeout_s": 2 * patience(),
        "read_timeout_s": 0.6 * patience(),
        "total_timeout_s": 60,
        "max_redirects": 3,
        "s3_ambient_buckets": ["*"],
        "credentials_links": ["s3://*"],
        **settings,
    }
    ingest = Ingest.model_validate(values)
    try:
        async with open_origins(
            ingest, catalog.strategies, keys or [make_key()], own or OwnData()
        ) as services:
            yield CustomerOrigins(catalog, services, folder)
    finally:
        await catalog.close()


@pytest.fixture
async def origins(database: Database, tmp_path: Path) -> AsyncIterator[CustomerOrigins]:
    async with customer_origins(database, tmp_path) as opened:
        yield opened
