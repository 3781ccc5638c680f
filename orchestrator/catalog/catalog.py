"""The catalogue: a pool of connections to one database and the repositories that use it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Self

import asyncpg

from orchestrator.catalog.activities import Activities
from orchestrator.catalog.aliases import Aliases
from orchestrator.catalog.asset_edits import AssetEdits
from orchestrator.catalog.asset_selection import AssetSelections
from orchestrator.catalog.asset_versions import AssetVersions
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.batches import Batches
from orchestrator.catalog.bulk_jobs import BulkJobs
from orchestrator.catalog.cancellations import Cancellations
from orchestrator.catalog.change_jobs import ChangeJobs, ChangeRecorder
from orchestrator.catalog.changes import Changes
from orchestrator.catalog.claims import Claims
from orchestrator.catalog.connected_processes import ConnectedProcesses
from orchestrator.catalog.connection import Pool, Prepare
from orchestrator.catalog.customers import ApiKeys, Customers
from orchestrator.catalog.due_times import DueTimes
from orchestrator.catalog.ico_results import IcoResults
from orchestrator.catalog.ingest_state import IngestStates
from orchestrator.catalog.jobs import Jobs
from orchestrator.catalog.named_queries import NamedQueries
from orchestrator.catalog.objects import Objects
from orchestrator.catalog.pyramid_sources import PyramidSources
from orchestrator.catalog.quotas import Quotas
from orchestrator.catalog.refusals import Refusals
from orchestrator.catalog.retries import Retries
from orchestrator.catalog.spaces import Spaces
from orchestrator.catalog.stored_policies import StoredPolicies
from orchestrator.catalog.stored_strategies import OriginStrategies
from orchestrator.catalog.uploads import Uploads
from orchestrator.errors import CatalogUnavailable
from orchestrator.model import Asset, AssetId
from orchestrator.settings import Database


class Catalog:
    """The repositories of one database."""

    def __init__(self, pool: Pool, change_jobs: ChangeJobs | None = None) -> None:
        """`change_jobs` makes the jobs that follow changes of assets; None: there are none."""
        self._pool = pool
        changes = ChangeRecorder(pool, change_jobs)
        self.assets = Assets(pool)
        self.named_queries = NamedQueries(pool)
        self.selections = AssetSelections(pool)
        self.versions = AssetVersions(pool, changes)
        self.edits = AssetEdits(pool, changes)
        self.refusals = Refusals(pool)
        self.aliases = Aliases(pool)
        self.objects = Objects(pool)
        self.quotas = Quotas(pool)
        self.attempts = Attempts(pool)
        self.ingest_states = IngestStates(pool, changes)
        self.changes = Changes(pool)
        self.activities = Activities(pool)
        self.customers = Customers(pool)
        self.spaces = Spaces(pool)
        self.keys = ApiKeys(pool)
        self.jobs = Jobs(pool)
        self.bulk_jobs = BulkJobs(pool)
        self.cancellations = Cancellations(pool)
        self.retries = Retries(pool)
        self.claims = Claims(pool)
        self.processes = ConnectedProcesses(pool)
        self.due_times = DueTimes(pool)
        self.batches = Batches(pool)
        self.strategies = OriginStrategies(pool)
        self.policies = StoredPolicies(pool)
        self.ico_results = IcoResults(pool)
        self.uploads = Uploads(pool)
        self.pyramids = PyramidSources(pool)

    @classmethod
    async def open(
        cls,
        settings: Database,
        change_jobs: ChangeJobs | None = None,
        prepare: Prepare | None = None,
    ) -> Self:
        """Connect to the database of the settings, or as soon as it can be prepared: see
        `Pool.open`. Raises CatalogUnavailable.
        """
        return cls(await Pool.open(settings, prepare), change_jobs)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    def when_away(self, call: Callable[[], None]) -> None:
        """Call this function, and no other, whenever the database is found not to answer."""
        self._pool.when_away(call)

    def connection(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection of the pool. Raises CatalogUnavailable."""
        return self._pool.connection()

    def transaction(self) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection in a transaction, for changes that several repositories make together. It is
        committed at the end and rolled back on an exception. Raises CatalogUnavailable.
        """
        return self._pool.transaction()

    def exclusive(self, name: str) -> AbstractAsyncContextManager[bool]:
        """Hold the lock of this name, which one process of the installation can have at a time.
        Yields False when another process has it. Raises CatalogUnavailable.
        """
        return self._pool.exclusive(name)

    async def get(self, asset_id: AssetId) -> Asset | None:
        """The asset in its current version, or None."""
        return await self.assets.get(asset_id)

    async def resolve_alias(self, alias: str) -> AssetId | None:
        """The asset that has this alias, or None."""
        return await self.aliases.resolve(alias)

    async def customer_id(self, name: str) -> int | None:
        """The number of the customer with this name, or None."""
        customer = await self.customers.by_name(name)
        return None if customer is None else customer.id

    async def check(self) -> str:
        """A sentence that says what is wrong, or "" when the database answers."""
        try:
            await self._pool.fetchrow("SELECT 1")
        except CatalogUnavailable as error:
            return error.public
        return ""
