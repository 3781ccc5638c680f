"""Jobs that follow a change of an asset, recorded in the transaction that makes the change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import asyncpg

from orchestrator.catalog.connection import Pool
from orchestrator.catalog.jobs import JobDraft, Jobs
from orchestrator.model import Asset

Change = Literal["ingested", "changed", "deleted", "failed"]


class ChangeJobs(Protocol):
    """Makes the jobs of a change; implemented by ingest."""

    def jobs_of(self, change: Change, asset: Asset, error: str = "") -> Sequence[JobDraft]:
        """Return the jobs; `error` of an ingest that failed."""
        ...


class ChangeRecorder:
    """Records the jobs that follow changes."""

    def __init__(self, pool: Pool, source: ChangeJobs | None) -> None:
        """Without `source` nothing follows a change."""
        self._jobs = Jobs(pool)
        self._source = source

    async def record(
        self, connection: asyncpg.Connection, change: Change, asset: Asset, error: str = ""
    ) -> None:
        """Record the jobs of a change in its transaction. Raises CatalogUnavailable."""
        if self._source is None:
            return
        drafts = self._source.jobs_of(change, asset, error)
        if drafts:
            await self._jobs.record(connection, drafts)
