"""What one ingest knows, from its request to its outcome; passed to each step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.values import Attempt, AttemptOutcome
from orchestrator.errors import Fault, Superseded
from orchestrator.ingest.register import Request
from orchestrator.ingest.reservation import Reservation
from orchestrator.ingest.stage_timer import StageTimer
from orchestrator.model import Asset, AssetId
from orchestrator.origins.reader_types import FetchedFile

OnFetched = Callable[[], Awaitable[None]]
"""Called when the origin has been read."""
WillRetry = Callable[[Exception, Fault], bool]
"""True if the caller will retry after this failure."""


async def nothing_follows() -> None:
    """Do nothing after the origin has been read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The asset after an ingest. `changed` is False if the origin had nothing new; `bytes` is the
    size of the original if it was read, else 0.
    """

    asset: Asset
    changed: bool
    bytes: int = 0


@dataclass(slots=True)
class IngestContext:
    """One ingest in progress."""

    id: AssetId
    generation: int
    """Of the accepted request that this ingest is for."""
    reservation: Reservation
    job: int | None = None
    on_fetched: OnFetched = nothing_follows
    copy: FetchedFile | None = None
    """The original, if the caller has a copy of it."""
    request: Request = field(init=False)
    """The request, complete."""
    known: Asset = field(init=False)
    """The asset that this ingest replaces."""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    stages: StageTimer = field(default_factory=StageTimer)
    bytes: int = 0
    """Read of the original."""

    async def read_current(self, assets: Assets) -> Asset:
        """Return the asset as it is now. Raises Superseded if a later request was accepted."""
        asset = await assets.get(self.id)
        if asset is None or asset.ingest_generation != self.generation:
            raise Superseded
        return asset

    def attempt(
        self, outcome: AttemptOutcome, version: int | None = None, fault: Fault | None = None
    ) -> Attempt:
        """Return this ingest as an entry of the asset's history."""
        return Attempt(
            asset=self.id,
            started=self.started,
            outcome=outcome,
            job=self.job,
            version=version,
            bytes=self.bytes,
            fault=fault,
        )
