"""The handlers of the two kinds of job, `ingest` and `convert`, and the jobs that are made of queue
messages and of lost ingests.

Both handlers may run twice for one job and come to the same result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.jobs import INGEST, Job, JobDraft, Jobs
from orchestrator.errors import Conflict, Fault, InvalidInput, SourceChanged, fault_of
from orchestrator.ingest.convert import Converter
from orchestrator.ingest.ingest_run import IngestRunner
from orchestrator.ingest.payload.decoding import Payload, decode, encode
from orchestrator.ingest.register import Request, build_draft
from orchestrator.ingest.reingest import Reingester
from orchestrator.jobs.retry_decision import Retry, decide_retry
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset, AssetId, AssetState

_UNREADABLE = "unreadable"
_MAX_UNREADABLE_CHARS = 100_000
_MAX_TRIES = 5
"""Conversions in one job that changes of rights may make obsolete."""


class IngestHandler:
    """Handles jobs of the kind `ingest`."""

    def __init__(
        self,
        assets: Assets,
        runner: IngestRunner,
        max_attempts: int,
        check_permitted: Callable[[str], None],
        record_fetched: Callable[[Job], Awaitable[None]],
    ) -> None:
        """`check_permitted` raises InvalidInput for an origin that a job may not name.
        `record_fetched` is awaited when the origin of a job has been read.
        """
        self._record_fetched = record_fetched
        self._assets = assets
        self._runner = runner
        self._max_attempts = max_attempts
        self._check_permitted = check_permitted

    async def __call__(self, job: Job) -> None:
        """Ingest the asset. Raises InvalidInput for a payload that cannot be read, and as
        `IngestRunner.run`.
        """
        request = decode(job.payload.get(_UNREADABLE, job.payload), job.customer or None).request
        known = await self._assets.get(request.id)
        will_retry = partial(_will_retry, job, self._max_attempts)
        on_fetched = partial(self._record_fetched, job)
        if request.origin and (
            known is None or known.source is None or request.origin != known.origin
        ):
            self._check_permitted(request.origin)
        if job.generation:
            await self._runner.run(
                request.id, job.generation, job.id, will_retry=will_retry, on_fetched=on_fetched
            )
        else:  # recorded by an earlier release: accepted now
            await self._runner.ingest(request, job.id, will_retry=will_retry, on_fetched=on_fetched)


class ConvertHandler:
    """Handles jobs of the kind `convert`."""

    def __init__(
        self,
        assets: Assets,
        converter: Converter,
        reingester: Reingester,
        max_attempts: int,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_end` is called after each conversion that succeeded or failed for good."""
        self._assets = assets
        self._converter = converter
        self._reingester = reingester
        self._max_attempts = max_attempts
        self._on_end = on_end

    async def __call__(self, job: Job) -> None:
        """Convert the asset. A failure after which the job is not retried is recorded with the
        asset. Raises as `Converter.convert`, and OriginUnavailable.
        """
        asset = await self._assets.get(AssetId.parse(job.asset))
        if asset is None:
            return
        try:
            await self._convert(asset)
        except Exception as error:  # raised again: the worker loop logs it and settles the job
            fault = fault_of(error, job.kind)
            if not _will_retry(job, self._max_attempts, error, fault):
                await self._converter.record_failure(asset, fault.detail, fault.code)
                self._on_end()
            raise
        self._on_end()

    async def _convert(self, asset: Asset) -> None:
        if asset.state is AssetState.FAILED:
            # A person retries the job. The version that this registers has a job of its own.
            await self._reingester.refresh_source(asset)
            return
        for _ in range(_MAX_TRIES):
            try:
                if await self._converter.convert(asset.id) is not None:
                    return
            except SourceChanged:
                now = await self._reingester.refresh_source(asset)
                if now.version == asset.version:
                    raise  # the original is being written; a later attempt registers the new file
                return
            # There is nothing to convert, or a change of rights replaced the version.
            latest = await self._assets.get(asset.id)
            if latest is None or latest.state is not AssetState.REGISTERED:
                return
            asset = latest
        raise Conflict("The asset is being changed by other requests. Try again.")


class LostIngests:
    """Submits a job for an ingest that ended without an outcome; see `Requeue`."""

    def __init__(self, jobs: Jobs, submitter: Submitter) -> None:
        self._jobs = jobs
        self._submitter = submitter

    async def __call__(self, asset: Asset) -> bool:
        """Return whether the ingest is queued now: False if its job, or the job that this submitted
        before, failed or was cancelled. So it is not retried for ever.
        """
        newest = await self._jobs.page(1, asset=str(asset.id))
        if newest and _has_failed(newest[0], asset):
            return False
        recorded = await self._submitter.submit([_lost_ingest_job(asset)])
        job = await self._jobs.get(recorded.ids[0])
        return job is not None and job.state in ("queued", "running")


def draft_from_message(body: bytes) -> JobDraft:
    """Return the job for a queue message that another system sent. A message that cannot be read
    becomes a job that fails and says why.
    """
    try:
        payload = decode(body)
    except InvalidInput:
        text = body.decode(errors="replace").replace("\0", "\ufffd")[:_MAX_UNREADABLE_CHARS]
        return JobDraft(INGEST, {_UNREADABLE: text}, customer=0)
    request = payload.request
    return JobDraft(
        INGEST,
        encode(payload),
        request.id.customer,
        host=host_of(request.origin),
        asset=str(request.id),
        request=build_draft(request, batch=payload.batch),
    )


def _will_retry(job: Job, max_attempts: int, error: Exception, fault: Fault) -> bool:
    """Return whether the worker loop will run the job again after this failure."""
    return isinstance(decide_retry(error, fault, job, max_attempts), Retry)


def _has_failed(job: Job, asset: Asset) -> bool:
    return job.state in ("failed", "cancelled") and job.generation == asset.ingest_generation


def _lost_ingest_job(asset: Asset) -> JobDraft:
    """Return the job of an ingest without outcome: one for each accepted request."""
    request = Request.accepted_of(asset)
    return JobDraft(
        INGEST,
        # Without the origin, which was permitted when the request was accepted.
        encode(Payload(replace(request, origin=""))),
        asset.id.customer,
        host=host_of(request.origin),
        asset=str(asset.id),
        dedupe=f"stuck {asset.id} {asset.ingest_generation}",
        # An earlier release did not record the request.
        request=None if asset.is_pending else build_draft(request),
        generation=asset.ingest_generation,
    )
