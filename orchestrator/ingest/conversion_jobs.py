"""Jobs of the kind `convert`: they convert registered assets, which are answered from their
originals until then.

The catalogue shows which assets wait: each registered asset must have a queued or running job. An
asset without one gets a job. That happens if the process was killed between registration and
submission, or if an earlier version of the program registered the asset.
"""

from __future__ import annotations

from orchestrator.catalog.catalog import Catalog
from orchestrator.catalog.jobs import CONVERT, JobDraft
from orchestrator.ingest.convert import Converter
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import Asset

_PAGE = 1000
_NO_CUSTOMER = 0
"""Conversion jobs belong to the installation, not to the customer of the asset: workers divide
their slots among customers, so a large folder does not delay the posted jobs of its customer.
"""
_WORKER_DIED = (
    "The worker that converted this asset died, or the job was cancelled. Ingest it again."
)


class ConversionJobs:
    """Submits conversion jobs. Every method raises CatalogUnavailable."""

    def __init__(self, catalog: Catalog, submitter: Submitter, converter: Converter) -> None:
        self._catalog = catalog
        self._submitter = submitter
        self._converter = converter

    async def submit(self, asset: Asset) -> None:
        """Record a job that converts this registered asset."""
        await self._submitter.submit([_job_of(asset)])

    async def submit_missing(self, older_s: float = 0.0) -> int:
        """Record a job for each registered asset that changed longer ago than `older_s` seconds and
        has none that is queued or running. Returns the number of assets.

        An asset is recorded as failed instead if its job failed without recording that itself: its
        workers died, or a person cancelled it.
        """
        number = 0
        while True:
            waiting = await self._catalog.ingest_states.find_unconverted(older_s, _PAGE)
            drafts = []
            for asset, has_failed in waiting:
                if has_failed:
                    await self._converter.record_failure(asset, _WORKER_DIED)
                else:
                    drafts.append(_job_of(asset))
            if drafts:
                await self._submitter.submit(drafts)
            number += len(waiting)
            if len(waiting) < _PAGE:
                return number


def _job_of(asset: Asset) -> JobDraft:
    name = str(asset.id)
    return JobDraft(CONVERT, {"asset": name}, _NO_CUSTOMER, asset=name)
