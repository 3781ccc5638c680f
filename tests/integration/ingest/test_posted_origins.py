"""Ingest jobs from outside: the origins they may name, and whether they are retried."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.catalog.jobs import INGEST, LANES, Job
from orchestrator.errors import InvalidInput, OriginUnavailable, StorageUnavailable
from orchestrator.ingest.job_handler import IngestHandler, draft_from_message
from orchestrator.model import AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem
from tests.support.origins import OriginServer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def a_handler(system: IngestSystem) -> IngestHandler:
    check_origin = system.origins.fetcher.check_permitted
    return IngestHandler(
        system.catalog.assets,
        system.pipeline.runner,
        5,
        check_origin,
        system.catalog.claims.record_fetched,
    )


def a_job(payload: dict[str, Any], attempts: int = 1) -> Job:
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
        attempts=attempts,
        due=datetime.now(UTC),
        worker="",
        fault=None,
        created=datetime.now(UTC),
    )


async def a_posted_job(system: IngestSystem, payload: dict[str, Any], attempts: int = 1) -> Job:
    """A job whose request was accepted, claimed for this attempt."""
    await system.catalog.customers.ensure(1, "main")
    draft = draft_from_message(json.dumps(payload).encode())
    await system.submitter.submit([draft])
    job = await system.catalog.claims.claim("worker/1", [INGEST], LANES, 9)
    assert job is not None
    return replace(job, attempts=attempts)


async def test_a_posted_ingest_cannot_read_local_files_outside_the_file_roots(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 60, 40)
    handler = a_handler(system)
    for origin in (str(path), f"file://{path}"):
        with pytest.raises(InvalidInput, match="file_roots"):
            await handler(a_job({"id": "1/1/posted", "origin": origin}))
    await system.register(path, "known")
    # The operator registered this file.
    await handler(await a_posted_job(system, {"id": "1/1/known", "origin": str(path)}))
    assert (await system.asset("known")).servable


async def test_an_outage_of_the_store_in_the_last_attempt_is_still_retried(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 60, 40)
    await system.register(path, "known")
    handler = a_handler(system)

    async def away(key: str) -> None:
        raise StorageUnavailable("away")

    system.store.before_put = away
    job = await a_posted_job(system, {"id": "1/1/known", "origin": str(path)}, attempts=5)
    with pytest.raises(StorageUnavailable):
        await handler(job)
    assert (await system.asset("known")).state is AssetState.INGESTING


@pytest.mark.parametrize(("attempts", "state"), [(4, AssetState.INGESTING), (5, AssetState.FAILED)])
async def test_an_unavailable_origin_fails_the_asset_with_the_last_attempt(
    system: IngestSystem, origin: OriginServer, attempts: int, state: AssetState
) -> None:
    handler = a_handler(system)
    with pytest.raises(OriginUnavailable):
        await handler(a_job({"id": "1/1/a", "origin": origin.url("/status/503")}, attempts))
    assert (await system.asset("a")).state is state
