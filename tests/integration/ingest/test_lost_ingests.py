"""The sweeper submits lost ingests again, but no ingest whose job failed or was cancelled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import StorageUnavailable
from orchestrator.ingest.job_handler import LostIngests
from orchestrator.ingest.register import Request, build_draft
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")
LOST = Request(ID, "http://example.org/a.jpg")


@dataclass
class JobDesk:
    """Submits, claims and sweeps ingests."""

    system: IngestSystem
    submitter: Submitter

    async def submit(self) -> int:
        draft = JobDraft(INGEST, {}, 1, asset=str(ID), request=build_draft(LOST))
        return (await self.submitter.submit([draft])).ids[0]

    async def claim(self) -> Job:
        claims = self.system.catalog.claims
        job = await claims.claim("w", [INGEST], ["normal", "priority"], 9)
        assert job is not None
        return job

    async def sweep(self) -> int:
        requeue = LostIngests(self.system.catalog.jobs, self.submitter)
        return (await self.system.sweep(requeue))["stuck_ingests"]

    async def states(self) -> list[str]:
        return [job.state for job in await self.system.catalog.jobs.page()]


@pytest_asyncio.fixture(loop_scope="session")
async def desk(system: IngestSystem) -> JobDesk:
    return JobDesk(system, Submitter(system.catalog))


async def test_a_picture_that_kills_its_workers_is_not_submitted_again(desk: JobDesk) -> None:
    await desk.submit()
    given_up: list[Job] = []
    while not given_up:
        await desk.claim()
        given_up += (await desk.system.catalog.claims.recover(0, 3)).given_up
    assert given_up[0].attempts == 3
    assert await desk.sweep() == 1
    assert await desk.states() == ["failed"]
    assert (await desk.system.asset()).state is AssetState.FAILED
    assert await desk.sweep() == 0


async def test_a_lost_ingest_without_a_job_is_submitted_although_an_older_job_was_cancelled(
    desk: JobDesk,
) -> None:
    number = await desk.submit()
    await desk.submitter.cancel(number)
    await desk.system.pipeline.runner.accept(LOST)
    assert await desk.sweep() == 1
    assert await desk.states() == ["queued", "cancelled"]
    assert (await desk.system.asset()).state is AssetState.INGESTING


async def ingest_until_the_source_is_stored(system: IngestSystem, path: Path, job: int) -> None:
    """Ingest until storing the source fails. It will be retried; the original is served."""

    async def fail(key: str) -> None:
        if "source" in key:
            raise StorageUnavailable("away")

    system.store.before_put = fail
    with pytest.raises(StorageUnavailable):
        await system.ingest(Request(ID, str(path)), job, will_retry=lambda *_: True)


async def test_a_cancelled_ingest_is_no_longer_served_from_its_original(
    desk: JobDesk,
) -> None:
    system = desk.system
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    number = await desk.submit()
    job = await desk.claim()

    await ingest_until_the_source_is_stored(system, path, number)
    assert (await system.asset()).servable
    await system.catalog.claims.postpone(job, 60)
    await desk.submitter.cancel(number)
    asset = await system.asset()
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert "cancelled" in asset.error
    assert await desk.sweep() == 0
    assert await desk.states() == ["cancelled"]
    await system.assert_exact()
