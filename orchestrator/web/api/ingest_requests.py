"""Ingest requests of the API: checks them, then ingests while the client waits, or queues jobs and
accepts their requests in one transaction.

The public never sees new pixels under old rights: a change that narrows access takes effect at
once, a change that widens access only when the new version is published.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestrator.catalog.accepted_requests import Check
from orchestrator.catalog.asset_edits import AssetChange
from orchestrator.catalog.asset_transaction import lock_asset
from orchestrator.catalog.assets import Assets
from orchestrator.catalog.attempts import Attempts
from orchestrator.catalog.batches import BatchDraft, Lane
from orchestrator.catalog.jobs import INGEST, JobDraft
from orchestrator.errors import (
    OrchestratorError,
    OriginUnavailable,
    Overloaded,
    OversizeImage,
    Superseded,
    TooLarge,
    Unavailable,
)
from orchestrator.ingest.ingest_context import Outcome
from orchestrator.ingest.payload.decoding import Payload, complete_request, encode
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.register import Request, build_draft
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.loop_turns import in_turns
from orchestrator.model import SENT, Asset, AssetId
from orchestrator.origins.origin_fetcher import OriginFetcher
from orchestrator.origins.origin_kinds import kind_of_origin
from orchestrator.web.api.ingest_admission import BUSY_RETRY_S, IngestAdmission

_MAX_SUBMISSIONS = 2
"""Batches that are recorded at the same time. Each takes a connection, and seconds of work."""


@dataclass(frozen=True, slots=True)
class CheckedRequest:
    """A request that may be accepted, as the client sent it. `host` is that of its origin, or that
    of the origin that the asset has now.
    """

    request: Request
    host: str


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
        admission: IngestAdmission,
        notify_batches: bool = False,
    ) -> None:
        """`admission` bounds the ingests that run while their clients wait. `notify_batches`: the
        webhook is called when a batch is finished.
        """
        self._notify_batches = notify_batches
        self._assets = assets
        self._attempts = attempts
        self._pipeline = pipeline
        self._origins = origins
        self._submitter = submitter
        self._admission = admission
        self._submissions = 0

    async def check_request(self, request: Request, asset: Asset | None) -> CheckedRequest:
        """Check a request, whose missing fields are taken from `asset`, the asset as it is now.

        Raises InvalidInput for an origin or a policy that a request must not name, AssetNotFound if
        neither the request nor an asset names an origin.
        """
        if request.origin and not _is_own_upload(request.origin, asset):
            self._check_origin(request.origin)
        complete = complete_request(request, asset and asset.as_requested())
        await self.check_policies(complete)
        return CheckedRequest(request, host_of(complete.origin))

    async def check_policies(self, request: Request) -> None:
        """Raises InvalidInput for a policy that the request must not name."""
        policies, customer = self._pipeline.policies, request.id.customer
        await policies.find("optimisation", customer, request.optimisation_policy)
        await policies.find("thumbnail", customer, request.thumbnail_policy)

    async def ingest(self, checked: CheckedRequest, check: Check | None = None) -> Outcome:
        """Accept a request and ingest the asset while the client waits. A client that disconnects
        does not stop the ingest, because aiohttp does not cancel its handler. Raises what `check`
        raises, and as `IngestRunner.ingest`, and Overloaded.
        """
        request = checked.request
        return await self._run_admitted(
            request.id, checked.host, lambda: self._accept_and_ingest(request, check)
        )

    async def reingest(self, asset: Asset, check: Check) -> Outcome:
        """Ingest an asset again while the client waits, also if its bytes have not changed. Raises
        what `check` raises, and as `Reingester.reingest`, and Overloaded.
        """
        return await self._run_admitted(
            asset.id,
            host_of(asset.origin),
            lambda: self._pipeline.reingester.reingest(asset.id, check),
        )

    async def submit_job(self, checked: CheckedRequest, check: Check | None = None) -> int:
        """Accept a request and queue its job; returns the number of the job. A change that narrows
        access is in force when this returns. Raises what `check` raises, and as
        `AssetEditor.narrow`.
        """
        async with self._submitter.submission() as submission:
            if check is not None:
                check(await lock_asset(submission.connection, checked.request.id))
            recorded = await submission.submit([_draft_job(checked, "normal")])
        await self._narrow([checked])
        return recorded.ids[0]

    async def submit_batch(
        self, members: Sequence[CheckedRequest], *, customer: int, lane: Lane
    ) -> int | None:
        """Accept the requests of a batch and queue their jobs: all or none. Returns the number of
        the batch. Changes that narrow access are in force when this returns.

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
            drafts = [_draft_job(checked, lane) async for checked in in_turns(members)]
            recorded = await self._submitter.submit(
                drafts, BatchDraft(customer, lane, self._notify_batches)
            )
            await self._narrow(members)
        finally:
            self._submissions -= 1
        return recorded.batch

    async def update_fields(
        self, asset_id: AssetId, change_of: Callable[[Asset], AssetChange], check: Check
    ) -> Asset:
        """Change the rights and the descriptive fields of an asset without an ingest. Returns the
        asset as it is now. Raises as `AssetEditor.change`.
        """
        return await self._pipeline.editor.change(asset_id, change_of, check)

    async def _narrow(self, accepted: Sequence[CheckedRequest]) -> None:
        """Put the narrower rights of accepted requests in force."""
        restricting = [
            each.request.id
            for each in accepted
            if each.request.roles is not None or each.request.max_unauthorised is not None
        ]
        if not restricting:
            return
        for asset_id, generation in await self._assets.with_other_access(restricting):
            with suppress(Superseded):
                await self._pipeline.editor.narrow(asset_id, generation)

    async def _run_admitted(
        self, asset_id: AssetId, host: str, ingest: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        with self._admission.admit(asset_id.customer, host):
            try:
                return await ingest()
            except OrchestratorError as error:
                api_error = await self._to_api_error(asset_id, error)
                if api_error is error:
                    raise
                raise api_error from error

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

    async def _accept_and_ingest(self, request: Request, check: Check | None) -> Outcome:
        pipeline = self._pipeline
        asset = await pipeline.runner.accept(request, check=check)
        # Before the ingest waits for its turn to convert.
        await pipeline.editor.narrow(asset.id, asset.ingest_generation)
        return await pipeline.runner.run(asset.id, asset.ingest_generation)

    def _check_origin(self, origin: str) -> None:
        self._origins.check_permitted(origin)
        try:
            kind_of_origin(origin, None)
        except OriginUnavailable:
            return  # a strategy of the customer may say how to read it


def _is_own_upload(origin: str, asset: Asset | None) -> bool:
    """Return whether the origin is the picture that was sent for this asset."""
    if asset is None or not origin.startswith(SENT):
        return False
    return origin in (asset.origin, asset.as_requested().origin)


def _draft_job(checked: CheckedRequest, lane: Lane) -> JobDraft:
    request = checked.request
    # The worker reads the origin of an upload from the asset: no message may name it.
    is_upload = request.origin.startswith(SENT)
    payload = Payload(replace(request, origin="") if is_upload else request)
    return JobDraft(
        INGEST,
        encode(payload),
        request.id.customer,
        lane=lane,
        host=checked.host,
        asset=str(request.id),
        request=build_draft(request),
    )
