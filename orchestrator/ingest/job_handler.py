"""The handlers of the two kinds of job, `ingest` and `convert`, and the job made of a queue message
that another system sent.

Both handlers may run twice for one job and come to the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.jobs import INGEST, Job, JobDraft, Jobs
from orchestrator.errors import Conflict, Fault, InvalidInput, SourceChanged, fault_of
from orchestrator.ingest.payload.decoding import Payload, completed, decode, encode
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.register import Request
from orchestrator.jobs.retry_decision import Retry, decide_retry
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset, AssetId, AssetState

_UNREADABLE = "unreadable"
_KEPT_CHARS = 100_000
_RACES = 5
"""Conversions of one job that may be overtaken by changes of rights."""


class IngestHandler:
    """Handles jobs of the kind `ingest`."""

    def __init__(
        self,
        pipeline: Pipeline,
        assets: Assets,
        max_attempts: int,
        admit: Callable[[str], None],
    ) -> None:
        """`admit` raises InvalidInput for an origin that a job may not name."""
        self._pipeline = pipeline
        self._assets = assets
        self._max_attempts = max_attempts
        self._admit = admit

    async def __call__(self, job: Job) -> None:
        """Ingest the asset. Raises InvalidInput for a payload that cannot be read, and as
        `Pipeline.ingest`.
        """
        payload = decode(job.payload.get(_UNREADABLE, job.payload), job.customer or None)
        known = await self._assets.get(payload.request.id)
        request = completed(payload.request, known)
        if known is None or request.origin != known.origin:
            self._admit(request.origin)
        will_retry = partial(_will_retry, job, self._max_attempts)
        await self._pipeline.ingest(request, job.id, will_retry=will_retry)


class ConvertHandler:
    """Handles jobs of the kind `convert`."""

    def __init__(
        self,
        pipeline: Pipeline,
        assets: Assets,
        max_attempts: int,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_end` is called after each conversion that succeeded or failed for good."""
        self._pipeline = pipeline
        self._assets = assets
        self._max_attempts = max_attempts
        self._on_end = on_end

    async def __call__(self, job: Job) -> None:
        """Convert the asset. A failure after which the job is not retried is recorded with the
        asset. Raises as `Conversions.convert`, and OriginUnavailable.
        """
        asset = await self._assets.get(AssetId.parse(job.asset))
        if asset is None:
            return
        try:
            await self._convert(asset)
        except Exception as error:  # raised again: the worker loop logs it and settles the job
            fault = fault_of(error, job.kind)
            if not _will_retry(job, self._max_attempts, error, fault):
                await self._pipeline.record_failure(asset, fault.detail)
                self._on_end()
            raise
        self._on_end()

    async def _convert(self, asset: Asset) -> None:
        if asset.state is AssetState.FAILED:
            # A person retries the job. The new version that this registers has a job of its own.
            await self._pipeline.refresh_source(asset)
            return
        for _ in range(_RACES):
            try:
                if await self._pipeline.convert(asset.id) is not None:
                    return
            except SourceChanged:
                if (await self._pipeline.refresh_source(asset)).version == asset.version:
                    raise  # the original is being written: a later attempt registers the new one
                return
            # Nothing to convert, or a change of rights replaced the version that was converted.
            now = await self._assets.get(asset.id)
            if now is None or now.state is not AssetState.REGISTERED:
                return
            asset = now
        raise Conflict("The image keeps changing. Try again.")


def _will_retry(job: Job, max_attempts: int, error: Exception, fault: Fault) -> bool:
    """True if the worker loop will run the job again after this failure."""
    return isinstance(decide_retry(error, fault, job, max_attempts), Retry)


class PostingAgain:
    """Hands in again what no job is at any more, as a job; see `Requeue`."""

    def __init__(self, jobs: Jobs, submitter: Submitter) -> None:
        self._jobs = jobs
        self._submitter = submitter

    async def __call__(self, asset: Asset) -> bool:
        """False where its job was given up on, or this one was: it is not tried for ever."""
        newest = await self._jobs.page(1, asset=str(asset.id))
        if newest and _is_given_up(newest[0], asset):
            return False
        recorded = await self._submitter.submit([_posted_again(asset)])
        job = await self._jobs.get(recorded.ids[0])
        return job is not None and job.state in ("queued", "running")


def _is_given_up(job: Job, asset: Asset) -> bool:
    if job.state not in ("failed", "cancelled"):
        return False
    # Its attempts declared the asset; so does an ingest without a job, of which it says nothing.
    return asset.declared is None or job.finished is None or job.finished >= asset.declared


def _posted_again(asset: Asset) -> JobDraft:
    """The job of an asset whose first ingest nobody ended; there is one for each time it was
    declared.
    """
    request = Request(asset.id, asset.origin, asset.optimisation_policy, asset.thumbnail_policy)
    return JobDraft(
        INGEST,
        encode(Payload(request)),
        asset.id.customer,
        host=host_of(asset.origin),
        asset=str(asset.id),
        dedupe=f"stuck {asset.id} {asset.declared}",
    )


def intake(body: bytes) -> JobDraft:
    """The job of a stranger's message; one that cannot be understood becomes a job, too, which
    fails and says why.
    """
    try:
        payload = decode(body)
    except InvalidInput:
        text = body.decode(errors="replace").replace("\0", "\ufffd")[:_KEPT_CHARS]
        return JobDraft(INGEST, {_UNREADABLE: text}, customer=0)
    request = payload.request
    return JobDraft(
        INGEST,
        encode(payload),
        request.id.customer,
        host=host_of(request.origin),
        asset=str(request.id),
    )
