"""Handlers of a customer's batches: shown, listed, retried and cancelled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiohttp import web

from orchestrator.catalog.batches import Batch, Batches
from orchestrator.catalog.jobs import Job, Jobs
from orchestrator.errors import NotFound
from orchestrator.jobs.submitter import Submitter
from orchestrator.loop_turns import in_turns
from orchestrator.web.api import work_models
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import BatchesQuery, BeforeQuery, Paged, RecentQuery
from orchestrator.web.api.work_models import BatchAgain, BatchImages, BatchOut, BatchShown, JobOut

_MAX_FAILURES = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BatchResource:
    """Handlers of `/customers/{c}/queue/batches/...`."""

    def __init__(self, *, jobs: Jobs, batches: Batches, submitter: Submitter) -> None:
        self._jobs = jobs
        self._batches = batches
        self._submitter = submitter

    async def list_batches(self, call: ApiCall) -> web.Response:
        """Answer 200 with the customer's batches, newest first."""
        query = call.query_as(BatchesQuery)
        batches = await self._batches.page(
            query.limit + 1,
            before=query.before,
            customer=call.customer,
            finished=None if query.state is None else query.state == "finished",
        )
        page = batches[: query.limit]
        next_page = None
        if len(batches) > query.limit:
            state = f"&state={query.state}" if query.state else ""
            next_page = (
                f"/customers/{call.customer}/queue/batches"
                f"?before={page[-1].id}&limit={query.limit}{state}"
            )
        return json_response(
            work_models.Batches(
                batches=[BatchOut.model_validate(batch) for batch in page], next=next_page
            )
        )

    async def list_active(self, call: ApiCall) -> web.Response:
        """Answer 200 with the customer's unfinished batches, newest first."""
        query = call.query_as(BeforeQuery)
        batches = await self._batches.page(
            query.limit + 1, before=query.before, customer=call.customer, finished=False
        )
        cursor = str(batches[query.limit - 1].id) if len(batches) > query.limit else None
        return _queue_page(call, "active", batches[: query.limit], cursor)

    async def list_recent(self, call: ApiCall) -> web.Response:
        """Answer 200 with the customer's finished batches, that which finished last first."""
        query = call.query_as(RecentQuery)
        before = None
        if query.before is not None:
            microseconds, _, number = query.before.partition("-")
            before = (_EPOCH + timedelta(microseconds=int(microseconds)), int(number))
        batches = await self._batches.recent(call.customer, query.limit + 1, before=before)
        page = batches[: query.limit]
        cursor = None
        if len(batches) > query.limit and page[-1].finished is not None:
            cursor = f"{(page[-1].finished - _EPOCH) // timedelta(microseconds=1)}-{page[-1].id}"
        return _queue_page(call, "recent", page, cursor)

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the batch: its counts, its expected end, and its failures."""
        batch = await self._get_batch(call)
        failed: list[Job] = []
        if batch.errors or batch.remaining:
            failed = await self._jobs.failures(batch.id, _MAX_FAILURES)
        failures = [work_models.Failure.model_validate(job) for job in failed]
        return json_response(BatchShown.extend(BatchOut.model_validate(batch), failures=failures))

    async def list_images(self, call: ApiCall) -> web.Response:
        """Answer 200 with the jobs of the batch, one for each asset."""
        query = call.query_as(BeforeQuery)
        batch = await self._get_batch(call)
        jobs = await self._jobs.page(query.limit + 1, before=query.before, batch=batch.id)
        page = jobs[: query.limit]
        next_page = None
        if len(jobs) > query.limit:
            next_page = (
                f"/customers/{call.customer}/queue/batches/{batch.id}/images"
                f"?before={page[-1].id}&limit={query.limit}"
            )
        images = [JobOut.model_validate(job) async for job in in_turns(page)]
        return json_response(BatchImages(images=images, next=next_page))

    async def retry(self, call: ApiCall) -> web.Response:
        """Answer 200 with the number of failed jobs that are queued again."""
        batch = await self._get_batch(call)
        jobs = await self._submitter.retry_batch(batch.id)
        return json_response(BatchAgain(batch=batch.id, jobs=len(jobs)))

    async def cancel(self, call: ApiCall) -> web.Response:
        """Answer 200 with the number of waiting and running jobs that are cancelled."""
        batch = await self._get_batch(call)
        number = await self._submitter.cancel_batch(batch.id)
        return json_response(BatchAgain(batch=batch.id, jobs=number))

    async def _get_batch(self, call: ApiCall) -> Batch:
        number = call.path_number("batch")
        batch = await self._batches.get(number, customer=call.customer)
        if batch is None:
            raise NotFound(
                f"Customer {call.customer} has no batch {number}."
                f" GET /customers/{call.customer}/queue/batches lists the batches."
            )
        return batch


def _queue_page(call: ApiCall, name: str, batches: list[Batch], cursor: str | None) -> web.Response:
    """Return a page of `/queue/active` or `/queue/recent`; `cursor`: where the next one begins."""
    next_page = None
    if cursor is not None:
        limit = call.query_as(Paged).limit
        next_page = f"/customers/{call.customer}/queue/{name}?before={cursor}&limit={limit}"
    return json_response(
        work_models.Batches(
            batches=[BatchOut.model_validate(batch) for batch in batches], next=next_page
        )
    )
