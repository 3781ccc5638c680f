"""Handlers of bulk changes: counted, accepted as jobs, shown and listed."""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.asset_selection import AssetSelections
from orchestrator.catalog.asset_transaction import next_generation
from orchestrator.catalog.bulk_jobs import BULK, BulkJobs
from orchestrator.catalog.jobs import JobDraft
from orchestrator.errors import InvalidInput, StateConflict
from orchestrator.ingest.bulk_changes import BulkWork
from orchestrator.jobs.submitter import Submitter
from orchestrator.web.api.bulk_models import BulkCount, BulkIn, BulkList, BulkOut
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import BeforeQuery

MAX_UNFINISHED = 2
"""Bulk changes of a customer at a time: each occupies a slot of a worker."""


class BulkResource:
    """Handlers of `/customers/{c}/bulk/...`."""

    def __init__(
        self, selections: AssetSelections, bulk_jobs: BulkJobs, submitter: Submitter
    ) -> None:
        self._selections = selections
        self._bulk_jobs = bulk_jobs
        self._submitter = submitter

    async def post(self, call: ApiCall) -> web.Response:
        """Answer 202 with the job, or 200 with the number of assets for a dry run."""
        body = call.body_as(BulkIn)
        customer = call.customer
        work = _work_of(body, customer)
        if body.dry_run or body.expected is not None:
            number = await self._selections.count(work.selection)
            if body.expected not in (None, number):
                raise StateConflict(
                    f"The selection has {number} assets, not {body.expected}. Nothing was changed."
                    " Check the selection, and send the request with the new number."
                )
            if body.dry_run:
                return json_response(BulkCount(action=body.action, images=number))
        job = await self._submit(customer, work)
        shown = BulkOut.of(await self._bulk_jobs.get(customer, job))
        location = f"/customers/{customer}/bulk/{job}"
        return json_response(shown, 202, headers={"Location": location})

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the bulk change and its progress."""
        job = await self._bulk_jobs.get(call.customer, call.path_number("job"))
        return json_response(BulkOut.of(job))

    async def list_bulk(self, call: ApiCall) -> web.Response:
        """Answer 200 with the bulk changes of a customer, newest first."""
        query = call.query_as(BeforeQuery)
        jobs = await self._bulk_jobs.page(call.customer, query.limit + 1, before=query.before)
        page = jobs[: query.limit]
        next_page = None
        if len(jobs) > query.limit:
            next_page = f"/customers/{call.customer}/bulk?before={page[-1].id}&limit={query.limit}"
        return json_response(BulkList(bulk=[BulkOut.of(job) for job in page], next=next_page))

    async def _submit(self, customer: int, work: BulkWork) -> int:
        """Accept the change: assets with a later request than this are not changed by it."""
        async with self._submitter.submission() as submission:
            if await self._bulk_jobs.unfinished(submission.connection, customer) >= MAX_UNFINISHED:
                raise StateConflict(
                    f"{MAX_UNFINISHED} bulk changes of this customer are not finished."
                    " Wait for one or cancel it."
                )
            generation = await next_generation(submission.connection)
            draft = JobDraft(BULK, work.encode(), customer, generation=generation)
            return (await submission.submit([draft])).ids[0]


def _work_of(body: BulkIn, customer: int) -> BulkWork:
    """Return what a request asks for. Raises InvalidInput."""
    has_change = body.change is not None and bool(body.change.model_dump(exclude_none=True))
    if has_change != (body.action == "patch"):
        raise InvalidInput("change: give the properties to set, for patch and only for it.")
    deletes_all = body.action == "delete" and body.select.is_empty and not body.dry_run
    if deletes_all and body.expected is None:
        raise InvalidInput(
            "expected: give the number of assets, to delete all assets of the customer."
            " A dry run counts them."
        )
    selection = body.select.to_selection(
        customer, body.select.spaces or (), body.select.names or ()
    )
    return BulkWork(body.action, selection, body.change if has_change else None)
