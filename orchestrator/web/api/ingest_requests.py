"""Images that come in through the API: checked, then taken in while the client waits, or handed to
the queue with the asset declared in the same transaction.

Rights never open before their pixels: what narrows them is in force at once, what widens them only
once the new version is published.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.batches import BatchDraft, Lane
from orchestrator.catalog.jobs import INGEST, JobDraft, Recorded
from orchestrator.errors import (
    OrchestratorError,
    OriginUnavailable,
    Overloaded,
    TooLarge,
    Unavailable,
    Unprocessable,
)
from orchestrator.ingest.payload.decoding import Payload, completed, encode
from orchestrator.ingest.pipeline import Outcome, Pipeline
from orchestrator.ingest.register import Request
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset, AssetId
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import kind_of_origin

BUSY_RETRY_S = 5.0
_BATCHES_AT_ONCE = 2
"""Each holds a lock an image until it is recorded; the server has room for some thousands."""


@dataclass(frozen=True, slots=True)
class Known:
    """The parts of the catalogue that intake reads."""

    assets: Assets
    attempts: Attempts


class IngestRequestProcessor:
    """What PUT, PATCH, reingest, /asset-ingest and batches have in common."""

    def __init__(
        self,
        known: Known,
        pipeline: Pipeline,
        origins: OriginFetcher,
        submitter: Submitter,
        *,
        at_once: int,
    ) -> None:
        """`at_once`: how many may be taken in while their clients wait."""
        self._known = known
        self._pipeline = pipeline
        self._origins = origins
        self._submitter = submitter
        self._at_once = at_once
        self._waiting = 0
        self._posting = 0

    async def admit(self, request: Request, asset: Asset | None) -> Request:
        """The request with what the known asset adds to it, once its origin and policies are found
        to be ones that may be named. Raises InvalidInput, AssetNotFound.
        """
        if request.origin:
            self._check_origin(request.origin)
        whole = completed(request, asset)
        customer = request.id.customer
        policies = self._pipeline.policies
        await policies.find("optimisation", customer, whole.optimisation_policy)
        await policies.find("thumbnail", customer, whole.thumbnail_policy)
        return whole

    async def now(self, request: Request, asset: Asset | None) -> Outcome:
        """Take an admitted request in; a client that leaves does not end it (aiohttp lets a handler
        run on). Raises as `Pipeline.ingest`, and Overloaded.
        """
        return await self._bounded(request.id, lambda: self._taken(request, asset))

    async def again(self, asset_id: AssetId) -> Outcome:
        """Take a known asset in anew, changed or not. Raises as `Pipeline.reingest`, and
        Overloaded.
        """
        return await self._bounded(asset_id, lambda: self._pipeline.reingest(asset_id))

    async def later(
        self, payloads: Sequence[Payload], *, customer: int, lane: Lane, as_batch: bool
    ) -> Recorded:
        """Declare the assets of admitted payloads and hand in their jobs: all or none. Rights that
        narrow are in force before.

        Raises Overloaded, and as `Pipeline.narrow`.
        """
        if self._posting >= _BATCHES_AT_ONCE:
            raise Overloaded("Other batches are being recorded; try again.", BUSY_RETRY_S)
        self._posting += 1
        try:
            for payload in payloads:
                await self._narrow(payload.request)
            async with self._submitter.submission() as submission:
                recorded = await submission.submit(
                    [_job(payload, lane) for payload in payloads],
                    BatchDraft(customer, lane) if as_batch else None,
                )
                # In one order everywhere, so that two batches cannot wait for each other.
                for payload in sorted(payloads, key=lambda each: each.request.id):
                    await self._pipeline.declare(
                        payload.request, batch=recorded.batch, connection=submission.connection
                    )
        finally:
            self._posting -= 1
        return recorded

    async def describe(self, request: Request, asset: Asset) -> Asset:
        """The asset with the rights and fields of the request, without an ingest. Raises as
        `Pipeline.set_access`.
        """
        rights = _different(request, asset, ("roles", "max_unauthorised"))
        if rights:
            asset = await self._pipeline.set_access(asset.id, **rights)
        fields = _different(request, asset, ("strings", "numbers", "tags", "rights"))
        return await self._pipeline.set_fields(asset.id, **fields) if fields else asset

    async def _narrow(self, request: Request) -> None:
        if request.roles is None and request.max_unauthorised is None:
            return
        asset = await self._known.assets.get(request.id)
        if asset is not None:
            await self._pipeline.narrow(request, asset)

    async def _bounded(self, asset_id: AssetId, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        if self._waiting >= self._at_once:
            raise Overloaded(
                f"{self._at_once} images are being taken in while their senders wait; try again,"
                " or post a batch.",
                BUSY_RETRY_S,
            )
        self._waiting += 1
        try:
            return await work()
        except OrchestratorError as error:
            told = await self._told(asset_id, error)
            if told is error:
                raise
            raise told from error
        finally:
            self._waiting -= 1

    async def _told(self, asset_id: AssetId, error: OrchestratorError) -> OrchestratorError:
        """The error with the stage it was recorded with; a picture over our bounds is one that
        cannot be processed (422), not a body that is too large.
        """
        if isinstance(error, TooLarge):
            told: OrchestratorError = Unprocessable(error.public)
            told.code = error.code
        else:
            told = error
        if isinstance(error, Unavailable) and not isinstance(error, OriginUnavailable):
            return told  # the catalogue itself may be away
        attempts = await self._known.attempts.of(asset_id, 1)
        if attempts and attempts[0].fault is not None and attempts[0].fault.code == error.code:
            told.stage = attempts[0].fault.stage
        return told

    async def _taken(self, request: Request, asset: Asset | None) -> Outcome:
        if asset is not None:  # before its turn among the conversions
            await self._pipeline.narrow(request, asset)
        return await self._pipeline.ingest(request)

    def _check_origin(self, origin: str) -> None:
        self._origins.check_permitted(origin)
        try:
            kind_of_origin(origin, None)
        except OriginUnavailable:
            return  # a strategy of the customer may say how


def _different(request: Request, asset: Asset, names: Sequence[str]) -> dict[str, Any]:
    asked = {name: getattr(request, name) for name in names}
    return {
        name: value
        for name, value in asked.items()
        if value is not None and value != getattr(asset, name)
    }


def _job(payload: Payload, lane: Lane) -> JobDraft:
    request = payload.request
    return JobDraft(
        INGEST,
        encode(payload),
        request.id.customer,
        lane=lane,
        host=host_of(request.origin),
        asset=str(request.id),
    )
