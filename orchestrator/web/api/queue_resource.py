"""Handlers of a customer's queue: the normal and the priority lane, and the posting of batches."""

from __future__ import annotations

from aiohttp import web

from orchestrator.catalog.batches import Batches, Lane
from orchestrator.errors import NotFound
from orchestrator.web.api.batch_validation import BatchValidator
from orchestrator.web.api.ingest_requests import IngestRequestProcessor
from orchestrator.web.api.json_responses import json_response
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.work_models import BatchOut, QueueOut


class QueueResource:
    """Handlers of `/customers/{c}/queue` and `/customers/{c}/queue/priority`."""

    def __init__(
        self,
        *,
        batches: Batches,
        validator: BatchValidator,
        ingest_requests: IngestRequestProcessor,
    ) -> None:
        self._batches = batches
        self._validator = validator
        self._ingest_requests = ingest_requests

    async def show(self, call: ApiCall) -> web.Response:
        """Answer 200 with the unfinished work in the normal lane."""
        return await self._show(call, "normal")

    async def show_priority(self, call: ApiCall) -> web.Response:
        """Answer 200 with the unfinished work in the priority lane."""
        return await self._show(call, "priority")

    async def post(self, call: ApiCall) -> web.Response:
        """Answer 201 with the batch when its jobs are queued in the normal lane."""
        return await self._post(call, "normal")

    async def post_priority(self, call: ApiCall) -> web.Response:
        """Answer 201 with the batch when its jobs are queued in the priority lane."""
        return await self._post(call, "priority")

    async def _show(self, call: ApiCall, lane: Lane) -> web.Response:
        waiting = await self._batches.backlog(call.customer, lane)
        return json_response(QueueOut.model_validate(waiting))

    async def _post(self, call: ApiCall, lane: Lane) -> web.Response:
        customer = call.customer
        members = await self._validator.validate(call.body, customer)
        number = await self._ingest_requests.submit_batch(members, customer=customer, lane=lane)
        batch = None
        if number is not None:
            batch = await self._batches.get(number, customer=customer)
        if batch is None:
            raise NotFound("The batch was deleted after it was recorded. Post it again.")
        location = f"/customers/{customer}/queue/batches/{batch.id}"
        return json_response(BatchOut.model_validate(batch), 201, headers={"Location": location})
