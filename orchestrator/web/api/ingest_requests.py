"""Ingest requests of the API: checks them, then ingests while the client waits, or queues jobs and
declares their assets in one transaction.

The public never sees new pixels under old rights: a change that narrows access takes effect at
once, a change that widens access only when the new version is published.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.batches import BatchDraft, Lane
from orchestrator.catalog.jobs import INGEST, JobDraft, RecordedJobs
from orchestrator.errors import (
    OrchestratorError,
    OriginUnavailable,
    Overloaded,
    OversizeImage,
    TooLarge,
    Unavailable,
)
from orchestrator.ingest.ingest_context import Outcome
from orchestrator.ingest.payload.decoding import Payload, complete_request, encode
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.register import Request
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset, AssetId
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import kind_of_origin

BUSY_RETRY_S = 5.0
_MAX_SUBMISSIONS = 2
"""Submissions at the same time. Each holds one lock per asset until its transaction ends, and
PostgreSQL has room for some thousands of locks.
"""


class IngestRequestProcessor:
    """Processes the ingest requests of PUT, PATCH, reingest, /asset-ingest and batches."""

    def __init__(
        self,
        assets: Assets,
        attempts: Attempts,
        *,
        pipeline: Pipeline,
        origins: OriginFetcher,
        submitter: Submitter,
        max_waiting: int,
    ) -> None:
        """`max_waiting`: how many ingests may run while their clients wait."""
        self._assets = assets
        self._attempts = attempts
        self._pipeline = pipeline
        self._origins = origins
        self._submitter = submitter
        self._max_waiting = max_waiting
        self._waiting = 0
        self._submissions = 0

    async def complete_request(self, request: Request, asset: Asset | None) -> Request:
        """Return the request with its missing fields taken from `asset`, the asset as it is now.

        Raises InvalidInput for an origin or a policy that a request must not name, AssetNotFound if
        neither the request nor an asset names an origin.
        """
        if request.origin:
            self._check_origin(request.origin)
        complete = complete_request(request, asset)
        customer = request.id.customer
        policies = self._pipeline.policies
        await policies.find("optimisation", customer, complete.optimisation_policy)
        await policies.find("thumbnail", customer, complete.thumbnail_policy)
        return complete

    async def ingest(self, request: Request, asset: Asset | None) -> Outcome:
        """Ingest a complete request while the client waits. A client that disconnects does not stop
        the ingest, because aiohttp does not cancel its handler. Raises as `IngestRunner.ingest`,
        and Overloaded.
        """
        return await self._run_bounded(request.id, lambda: self._narrow_and_ingest(request, asset))

    async def reingest(self, asset_id: AssetId) -> Outcome:
        """Ingest an asset again while the client waits, also if its bytes have not changed. Raises
        as `Reingester.reingest`, and Overloaded.
        """
        return await self._run_bounded(
            asset_id, lambda: self._pipeline.reingester.reingest(asset_id)
        )

    async def submit_jobs(
        self, payloads: Sequence[Payload], *, customer: int, lane: Lane, as_batch: bool
    ) -> RecordedJobs:
        """Declare the assets of complete requests and queue their jobs: all or none. Changes that
        narrow access take effect before.

        Raises Overloaded, and as `AssetEditor.narrow`.
        """
        if self._submissions >= _MAX_SUBMISSIONS:
            raise Overloaded(
                f"{_MAX_SUBMISSIONS} other batches are being recorded. Repeat the request after"
                " the seconds of Retry-After.",
                BUSY_RETRY_S,
            )
        self._submissions += 1
        try:
            for payload in payloads:
                await self._narrow_stored_asset(payload.request)
            async with self._submitter.submission() as submission:
                recorded = await submission.submit(
                    [_draft_job(payload, lane) for payload in payloads],
                    BatchDraft(customer, lane) if as_batch else None,
                )
                # Every transaction locks assets in this order, so that two batches cannot wait for
                # each other.
                for payload in sorted(payloads, key=lambda each: each.request.id):
                    await self._pipeline.runner.declare(
                        payload.request, batch=recorded.batch, connection=submission.connection
                    )
        finally:
            self._submissions -= 1
        return recorded

    async def update_fields(self, request: Request, asset: Asset) -> Asset:
        """Change the rights and the descriptive fields of an asset without an ingest. Returns the
        asset as it is now. Raises as `AssetEditor.set_access`.
        """
        rights = _changed_fields(request, asset, ("roles", "max_unauthorised"))
        if rights:
            asset = await self._pipeline.editor.set_access(asset.id, **rights)
        fields = _changed_fields(request, asset, ("strings", "numbers", "tags", "rights"))
        return await self._pipeline.editor.set_fields(asset.id, **fields) if fields else asset

    async def _narrow_stored_asset(self, request: Request) -> None:
        if request.roles is None and request.max_unauthorised is None:
            return
        asset = await self._assets.get(request.id)
        if asset is not None:
            await self._pipeline.editor.narrow(request, asset)

    async def _run_bounded(
        self, asset_id: AssetId, ingest: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        if self._waiting >= self._max_waiting:
            raise Overloaded(
                f"{self._max_waiting} ingests run while their clients wait. Repeat the request"
                " after the seconds of Retry-After, or post a batch.",
                BUSY_RETRY_S,
            )
        self._waiting += 1
        try:
            return await ingest()
        except OrchestratorError as error:
            api_error = await self._to_api_error(asset_id, error)
            if api_error is error:
                raise
            raise api_error from error
        finally:
            self._waiting -= 1

    async def _to_api_error(self, asset_id: AssetId, error: OrchestratorError) -> OrchestratorError:
        """Return the error with the stage that the attempt recorded. An image over the limits
        cannot be processed (422); it is not a request body that is too large (413).
        """
        if isinstance(error, TooLarge):
            api_error: OrchestratorError = OversizeImage(error.public)
        else:
            api_error = error
        if isinstance(error, Unavailable) and not isinstance(error, OriginUnavailable):
            return api_error  # the catalogue itself may be the part that does not answer
        attempts = await self._attempts.of(asset_id, 1)
        if attempts and attempts[0].fault is not None and attempts[0].fault.code == error.code:
            api_error.stage = attempts[0].fault.stage
        return api_error

    async def _narrow_and_ingest(self, request: Request, asset: Asset | None) -> Outcome:
        if asset is not None:  # before the ingest waits for its turn to convert
            await self._pipeline.editor.narrow(request, asset)
        return await self._pipeline.runner.ingest(request)

    def _check_origin(self, origin: str) -> None:
        self._origins.check_permitted(origin)
        try:
            kind_of_origin(origin, None)
        except OriginUnavailable:
            return  # a strategy of the customer may say how to read it


def _changed_fields(request: Request, asset: Asset, names: Sequence[str]) -> dict[str, Any]:
    requested = {name: getattr(request, name) for name in names}
    return {
        name: value
        for name, value in requested.items()
        if value is not None and value != getattr(asset, name)
    }


def _draft_job(payload: Payload, lane: Lane) -> JobDraft:
    request = payload.request
    return JobDraft(
        INGEST,
        encode(payload),
        request.id.customer,
        lane=lane,
        host=host_of(request.origin),
        asset=str(request.id),
    )
