"""Ingests that were posted: what a job of the kind `ingest` does, and what job a stranger's message
is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.jobs import INGEST, Job, JobDraft, Jobs
from orchestrator.errors import Fault, InvalidInput
from orchestrator.ingest.payload.decoding import Payload, completed, decode, encode
from orchestrator.ingest.pipeline import Pipeline
from orchestrator.ingest.register import Request
from orchestrator.jobs.retry_decision import Again, verdict
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset

_UNREADABLE = "unreadable"
_KEPT_CHARS = 100_000


class PostedIngest:
    """The handler of such jobs."""

    def __init__(
        self,
        pipeline: Pipeline,
        assets: Assets,
        max_attempts: int,
        admit: Callable[[str], None],
    ) -> None:
        """`admit` raises InvalidInput for what no stranger may name as an origin."""
        self._pipeline = pipeline
        self._assets = assets
        self._max_attempts = max_attempts
        self._admit = admit

    async def __call__(self, job: Job) -> None:
        """Take the picture in. Raises InvalidInput for a payload that says nothing sensible, and as
        `Pipeline.ingest`.
        """
        payload = decode(job.payload.get(_UNREADABLE, job.payload), job.customer or None)
        known = await self._assets.get(payload.request.id)
        request = completed(payload.request, known)
        if known is None or request.origin != known.origin:
            self._admit(request.origin)
        await self._pipeline.ingest(request, job.id, will_retry=partial(self._will_retry, job))

    def _will_retry(self, job: Job, error: Exception, fault: Fault) -> bool:
        return isinstance(verdict(error, fault, job, self._max_attempts), Again)


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
