"""A batch of 10,000 members is posted and cancelled while other work goes on."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.model import AssetId
from orchestrator.web.api.batch_validation import BatchValidator
from orchestrator.web.api.ingest_admission import IngestAdmission
from orchestrator.web.api.ingest_requests import IngestRequestProcessor
from tests.integration.api.conftest import House

pytestmark = pytest.mark.asyncio(loop_scope="module")
MEMBERS = 10_000


async def test_ten_thousand_members_are_posted_and_cancelled_while_others_work(
    house: House,
) -> None:
    services = house.services
    customer, other = await house.customer(), await house.customer()
    ingest_requests = IngestRequestProcessor(
        services.catalog.assets,
        services.catalog.attempts,
        pipeline=services.pipeline,
        origins=services.origins.fetcher,
        submitter=services.submitter,
        admission=IngestAdmission(in_all=1, per_customer=1, per_host=1),
    )
    validator = BatchValidator(services.catalog.assets, ingest_requests, MEMBERS)
    origin = house.picture()
    body = {
        "member": [
            {"id": f"{customer}/1/m{n}", "origin": origin, "roles": ["staff"]}
            for n in range(MEMBERS)
        ]
    }
    ended, replies, longest_s = asyncio.Event(), list[int](), [0.0]

    async def other_customer() -> None:
        while not ended.is_set():
            path = f"/customers/{other}/spaces/1/images/{len(replies)}"
            put = await house.ask(
                "PUT", path, {"origin": origin}, key=other, Prefer="respond-async"
            )
            replies.append(put.status)

    async def measure_loop() -> None:
        """Processor time, which other programs of the machine do not change."""
        while not ended.is_set():
            before = time.thread_time()
            await asyncio.sleep(0)
            longest_s[0] = max(longest_s[0], time.thread_time() - before)

    async def observe(batch: int) -> set[int]:
        """The numbers of cancelled members that another client sees until all are."""
        seen = {0}
        while MEMBERS not in seen:
            found = await services.catalog.batches.get(batch)
            assert found is not None
            seen.add(found.cancelled)
        return seen

    async def post_and_cancel() -> int:
        started = time.monotonic()
        members = await validator.validate(body, customer)
        batch = await ingest_requests.submit_batch(members, customer=customer, lane="normal")
        posted = len(replies)
        assert time.monotonic() - started < 60
        assert posted > 10  # other clients did not wait for the end
        observer = asyncio.create_task(observe(batch or 0))
        assert await services.submitter.cancel_batch(batch or 0) == MEMBERS
        assert await observer == {0, MEMBERS}  # one transaction
        assert len(replies) > posted
        ended.set()
        return batch or 0

    number, _, _ = await asyncio.gather(post_and_cancel(), other_customer(), measure_loop())
    batch = await services.catalog.batches.get(number)
    assert batch is not None
    assert (batch.cancelled, batch.remaining) == (MEMBERS, 0)
    assert set(replies) == {202}
    assert longest_s[0] < 2  # seconds of processor time in which this process answered nothing
    asset = await services.catalog.assets.get(AssetId(customer, 1, "m9999"))
    assert asset is not None
    assert (asset.ingesting, asset.roles) == (False, ("staff",))
    assert "cancelled" in asset.error
