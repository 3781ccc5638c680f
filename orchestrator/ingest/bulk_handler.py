"""Handles bulk jobs: one change of all assets of a selection, in the order of their keys.

Each asset is changed by a request of its own, as a client would send it, in a transaction that also
records how far the job has come. An asset with an accepted request after that of the job is left
as it is: nothing old undoes something new.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from orchestrator.catalog.accepted_requests import Check, Record
from orchestrator.catalog.asset_selection import AssetSelections, cursor_behind
from orchestrator.catalog.batches import BatchDraft
from orchestrator.catalog.bulk_jobs import BulkJobs, lock_older, record_progress
from orchestrator.catalog.connection import Connection
from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import (
    AssetNotFound,
    InvalidInput,
    OrchestratorError,
    Superseded,
    fault_of,
    is_retryable,
)
from orchestrator.ingest.bulk_changes import BulkProgress, BulkWork
from orchestrator.ingest.payload.decoding import Payload, change_of, encode
from orchestrator.ingest.register import Request, build_draft
from orchestrator.ingest.rights import AssetEditor
from orchestrator.jobs.submitter import Submitter, host_of
from orchestrator.model import Asset

log = logging.getLogger(__name__)
_PAGE = 100
"""Assets that are read at a time."""
_INGESTS_AT_ONCE = 500
"""Ingests that are submitted in one transaction, as one batch."""


class _OvertakenError(Exception):
    """A later request than that of the job was accepted for the asset."""


class BulkHandler:
    """Handles jobs of the kind `bulk`. A job that runs again goes on where it was."""

    def __init__(
        self,
        *,
        selections: AssetSelections,
        bulk_jobs: BulkJobs,
        editor: AssetEditor,
        submitter: Submitter,
        notify_batches: bool,
    ) -> None:
        """`notify_batches`: the webhook is called for the batches of reingest."""
        self._selections = selections
        self._bulk_jobs = bulk_jobs
        self._editor = editor
        self._submitter = submitter
        self._notify_batches = notify_batches

    async def __call__(self, job: Job) -> None:
        """Change the assets that are left. Raises Superseded when the claim of the job is lost,
        Unavailable, Conflict, CatalogUnavailable.
        """
        work = BulkWork.decode(job.payload)
        if job.progress is None:
            total = await self._selections.count(work.selection)
            progress = BulkProgress(total)
            await self._bulk_jobs.record_progress(job, progress.encode())
        else:
            progress = BulkProgress.decode(job.progress)
        size = _INGESTS_AT_ONCE if work.action == "reingest" else _PAGE
        while True:
            page = await self._selections.page(work.selection, after=progress.cursor, limit=size)
            if work.action == "reingest":
                progress = await self._reingest(job, progress, page.assets)
            else:
                for asset in page.assets:
                    progress = await self._apply(job, work, progress, asset)
            progress = replace(progress, cursor=page.next or progress.cursor)
            await self._bulk_jobs.record_progress(job, progress.encode())
            if page.next is None:
                break
        _report(job, work, progress)

    async def _apply(
        self, job: Job, work: BulkWork, progress: BulkProgress, asset: Asset
    ) -> BulkProgress:
        """Change or delete one asset. Returns the progress behind it."""
        progress = replace(progress, cursor=cursor_behind(asset))
        changed, is_recorded = progress.counted("changed"), False

        async def record(connection: Connection) -> None:
            nonlocal is_recorded
            await record_progress(connection, job, changed.encode())
            is_recorded = True

        try:
            await self._act(work, asset, _check_older(job.generation), record)
        except (_OvertakenError, AssetNotFound):
            return progress.counted("superseded")
        except OrchestratorError as error:
            if isinstance(error, Superseded) or is_retryable(error):
                raise
            return progress.with_failure(asset.id, fault_of(error, work.action))
        return changed if is_recorded else progress.counted("unchanged")

    async def _act(self, work: BulkWork, asset: Asset, check: Check, record: Record) -> None:
        if work.action == "delete":
            await self._editor.delete(asset.id, check, record)
            return
        if work.change is None:
            raise InvalidInput("change: say what to change.")
        await self._editor.change(asset.id, partial(change_of, work.change), check, record)

    async def _reingest(
        self, job: Job, progress: BulkProgress, assets: Sequence[Asset]
    ) -> BulkProgress:
        """Accept and submit an ingest of each asset, as one batch. Returns the progress behind
        them.
        """
        if not assets:
            return progress
        progress = replace(progress, cursor=cursor_behind(assets[-1]))
        async with self._submitter.submission() as submission:
            older = await lock_older(
                submission.connection, [asset.id for asset in assets], job.generation
            )
            drafts = [_draft_ingest(asset) for asset in assets if asset.id in older]
            progress = progress.counted("superseded", len(assets) - len(drafts))
            if drafts:
                batch = BatchDraft(job.customer, is_notified=self._notify_batches)
                recorded = await submission.submit(drafts, batch)
                number = () if recorded.batch is None else (recorded.batch,)
                progress = replace(
                    progress.counted("changed", len(drafts)),
                    batches=(*progress.batches, *number),
                )
            await record_progress(submission.connection, job, progress.encode())
        return progress


def _check_older(generation: int) -> Check:
    """Return the check that no request after this generation was accepted for the asset."""

    def check(asset: Asset | None) -> None:
        if asset is not None and asset.generation > generation:
            raise _OvertakenError

    return check


def _draft_ingest(asset: Asset) -> JobDraft:
    request = Request(asset.id, "", force=True)
    return JobDraft(
        INGEST,
        encode(Payload(request)),
        asset.id.customer,
        host=host_of(asset.as_requested().origin),
        asset=str(asset.id),
        request=build_draft(request),
    )


def _report(job: Job, work: BulkWork, progress: BulkProgress) -> None:
    log.info(
        "bulk change finished",
        extra={
            "job": job.id,
            "customer": job.customer,
            "action": work.action,
            "changed": progress.changed,
            "unchanged": progress.unchanged,
            "superseded": progress.superseded,
            "failed": progress.failed,
        },
    )
