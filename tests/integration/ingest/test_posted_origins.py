"""What a message from outside may name as an origin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.catalog.jobs import INGEST, Job
from orchestrator.errors import InvalidInput
from orchestrator.ingest.posted import PostedIngest
from tests.support import pictures
from tests.support.ingesting import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


def a_job(payload: dict[str, Any]) -> Job:
    return Job(
        id=1,
        kind=INGEST,
        lane="normal",
        customer=1,
        host="",
        asset="",
        batch=None,
        payload=payload,
        state="running",
        attempts=1,
        due=datetime.now(UTC),
        worker="",
        fault=None,
        created=datetime.now(UTC),
    )


async def test_a_posted_ingest_reads_no_file_that_only_this_machine_may(house: House) -> None:
    path = pictures.jpeg(house.pictures / "a.jpg", 60, 40)
    handler = PostedIngest(house.pipeline, house.catalog.assets, 5, house.origins.origins.admit)
    for origin in (str(path), f"file://{path}"):
        with pytest.raises(InvalidInput, match="file_roots"):
            await handler(a_job({"id": "1/1/posted", "origin": origin}))
    await house.register(path, "known")
    await handler(a_job({"id": "1/1/known", "origin": str(path)}))  # the operator's own
    assert (await house.asset("known")).servable
