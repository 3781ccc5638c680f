"""The queue of a customer: batches posted whole to the normal or the priority lane, watched, tried
again, given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from orchestrator.catalog.assets import Assets
from orchestrator.catalog.batches import Batch, Lane
from orchestrator.catalog.batches import Batches as StoredBatches
from orchestrator.catalog.jobs import Job, Jobs
from orchestrator.errors import AssetNotFound, InvalidInput, NotFound
from orchestrator.ingest.payload.decoding import Payload, decode
from orchestrator.jobs.submitter import Submitter
from orchestrator.web.api.ingest_requests import IngestRequestProcessor
from orchestrator.web.api.json_responses import answer
from orchestrator.web.api.operations import ApiCall
from orchestrator.web.api.request_models import BatchesQuery, BeforeQuery
from orchestrator.web.api.work_models import (
    BatchAgain,
    Batches,
    BatchImages,
    BatchOut,
    BatchShown,
    Failure,
    JobOut,
    QueueOut,
)

_SHOWN_FAILURES = 100


class QueueResource:
    """Handlers of `/customers/{c}/queue/...`."""

    def __init__(
        self,
        *,
        assets: Assets,
        jobs: Jobs,
        batches: StoredBatches,
        submitter: Submitter,
        intake: IngestRequestProcessor,
        max_batch: int,
    ) -> None:
        self._assets = assets
        self._jobs = jobs
        self._batches = batches
        self._submitter = submitter
        self._intake = intake
        self._max_batch = max_batch

    async def show(self, call: ApiCall) -> web.Response:
        """200 with what of the normal lane has not ended."""
        return await self._waiting(call, "normal")

    async def show_priority(self, call: ApiCall) -> web.Response:
        """200 with what of the priority lane has not ended."""
        return await self._waiting(call, "priority")

    async def post(self, call: ApiCall) -> web.Response:
        """201 with the batch, recorded and in the queue."""
        return await self._posted(call, "normal")

    async def post_priority(self, call: ApiCall) -> web.Response:
        """201 with the batch, recorded and in the priority queue."""
        return await self._posted(call, "priority")

    async def page(self, call: ApiCall) -> web.Response:
        """200 with the customer's batches, newest first."""
        query = call.asked(BatchesQuery)
        found = await self._batches.page(
            query.limit + 1,
            before=query.before,
            customer=call.customer,
            finished=None if query.state is None else query.state == "finished",
        )
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            state = f"&state={query.state}" if query.state else ""
            following = (
                f"/customers/{call.customer}/queue/batches"
                f"?before={page[-1].id}&limit={query.limit}{state}"
            )
        return answer(
            Batches(batches=[BatchOut.model_validate(each) for each in page], next=following)
        )

    async def batch(self, call: ApiCall) -> web.Response:
        """200 with the batch: its counts, when it will be finished, and why its failures failed."""
        return await self._shown(await self._known(call))

    async def images(self, call: ApiCall) -> web.Response:
        """200 with what became of each image of the batch."""
        query = call.asked(BeforeQuery)
        batch = await self._known(call)
        found = await self._jobs.page(query.limit + 1, before=query.before, batch=batch.id)
        page = found[: query.limit]
        following = None
        if len(found) > query.limit:
            following = (
                f"/customers/{call.customer}/queue/batches/{batch.id}/images"
                f"?before={page[-1].id}&limit={query.limit}"
            )
        return answer(
            BatchImages(images=[JobOut.model_validate(each) for each in page], next=following)
        )

    async def retry(self, call: ApiCall) -> web.Response:
        """200 with how many failures are tried again."""
        batch = await self._known(call)
        jobs = await self._submitter.retry_batch(batch.id)
        return answer(BatchAgain(batch=batch.id, jobs=len(jobs)))

    async def cancel(self, call: ApiCall) -> web.Response:
        """200 with how many images that waited are given up."""
        batch = await self._known(call)
        return answer(BatchAgain(batch=batch.id, jobs=await self._submitter.cancel_batch(batch.id)))

    async def _waiting(self, call: ApiCall, lane: Lane) -> web.Response:
        return answer(QueueOut.model_validate(await self._batches.waiting(call.customer, lane)))

    async def _posted(self, call: ApiCall, lane: Lane) -> web.Response:
        payloads = await self._checked(call)
        recorded = await self._intake.later(
            payloads, customer=call.customer, lane=lane, as_batch=True
        )
        batch = None
        if recorded.batch is not None:
            batch = await self._batches.get(recorded.batch, customer=call.customer)
        if batch is None:
            raise NotFound("The batch is gone already.")
        location = f"/customers/{call.customer}/queue/batches/{batch.id}"
        return answer(BatchOut.model_validate(batch), 201, headers={"Location": location})

    async def _checked(self, call: ApiCall) -> list[Payload]:
        """Every member, if none has a fault. Raises InvalidInput with the faults of all."""
        members = members_of(call.body, self._max_batch)
        faults: dict[int, str] = {}
        payloads: dict[int, Payload] = {}
        for at, member in enumerate(members):
            try:
                payloads[at] = await self._member(member, call.customer)
            except (InvalidInput, AssetNotFound) as error:
                faults[at] = "; ".join(error.public.splitlines())
        counts = Counter(payload.request.id for payload in payloads.values())
        for at, payload in payloads.items():
            if counts[payload.request.id] > 1:
                faults[at] = f"id: {payload.request.id} is there more than once"
        if faults:
            told = [f"member {at}: {faults[at]}" for at in sorted(faults)]
            raise InvalidInput(
                f"{len(told)} of {len(members)} members cannot be taken in; nothing was recorded."
                f" {told[0]}",
                faults=told,
            )
        return [payloads[at] for at in sorted(payloads)]

    async def _member(self, member: Any, customer: int) -> Payload:
        if not isinstance(member, Mapping):
            raise InvalidInput("should be an object that describes one image")
        payload = decode(member, customer)
        request = payload.request
        if request.id.customer != customer:
            raise InvalidInput(f"id: {request.id} is of another customer than the batch")
        asset = None if request.origin else await self._assets.get(request.id)
        return Payload(await self._intake.admit(request, asset))

    async def _shown(self, batch: Batch) -> web.Response:
        failed: list[Job] = []
        if batch.errors:
            failed = await self._jobs.page(_SHOWN_FAILURES, batch=batch.id, states=("failed",))
        failures = [Failure.model_validate(job) for job in failed]
        return answer(BatchShown.extend(BatchOut.model_validate(batch), failures=failures))

    async def _known(self, call: ApiCall) -> Batch:
        batch = await self._batches.get(call.number("batch"), customer=call.customer)
        if batch is None:
            raise NotFound(f"Customer {call.customer} has no batch {call.number('batch')}.")
        return batch


def members_of(body: Any, most: int) -> list[Any]:
    """The members of a batch: a list, or an object with one (`member`, `members` or `images`).

    Raises InvalidInput.
    """
    if isinstance(body, Mapping):
        named = {str(name).lower(): value for name, value in body.items()}
        found = next((named[name] for name in ("member", "members", "images") if name in named), 0)
    else:
        found = body
    if not isinstance(found, list):
        raise InvalidInput('A batch is {"member": [...]}, a list of images.')
    if not found:
        raise InvalidInput("member: a batch has at least one image.")
    if len(found) > most:
        raise InvalidInput(f"member: a batch has at most {most} images; post several.")
    return found
