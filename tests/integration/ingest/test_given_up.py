"""An ingest whose job was given up on stays given up: the sweeper hands in what got lost, nothing
else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.catalog.jobs import INGEST, Job, JobDraft
from orchestrator.errors import StorageUnavailable
from orchestrator.ingest.job_handler import LostIngests
from orchestrator.ingest.register import Request
from orchestrator.jobs.submitter import Submitter
from orchestrator.model import AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import House

pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = AssetId(1, 1, "picture")
LOST = Request(ID, "http://example.org/a.jpg")


@dataclass
class Desk:
    """Where ingests are posted, claimed and swept."""

    house: House
    submitter: Submitter

    async def post(self) -> int:
        draft = JobDraft(INGEST, {}, 1, asset=str(ID))
        return (await self.submitter.submit([draft])).ids[0]

    async def claim(self) -> Job:
        claims = self.house.catalog.claims
        job = await claims.claim("w", [INGEST], ["normal", "priority"], 9)
        assert job is not None
        return job

    async def sweep(self) -> int:
        again = LostIngests(self.house.catalog.jobs, self.submitter)
        return (await self.house.sweep(again))["stuck_ingests"]

    async def states(self) -> list[str]:
        return [job.state for job in await self.house.catalog.jobs.page()]


@pytest_asyncio.fixture(loop_scope="module")
async def desk(house: House) -> Desk:
    return Desk(house, Submitter(house.catalog))


async def test_a_picture_that_kills_its_workers_is_not_handed_in_again(desk: Desk) -> None:
    await desk.house.pipeline.runner.declare(LOST)
    await desk.post()
    dead: list[Job] = []
    while not dead:
        await desk.claim()
        await desk.house.pipeline.runner.declare(LOST)  # as each attempt does
        dead += (await desk.house.catalog.claims.recover(0, 3)).given_up
    assert dead[0].attempts == 3
    assert await desk.sweep() == 1
    assert await desk.states() == ["failed"]
    assert (await desk.house.asset()).state is AssetState.FAILED
    assert await desk.sweep() == 0


async def test_one_that_was_asked_for_again_without_a_job_and_got_lost_is(desk: Desk) -> None:
    number = await desk.post()
    await desk.submitter.cancel(number)
    await desk.house.pipeline.runner.declare(LOST)
    assert await desk.sweep() == 1
    assert await desk.states() == ["queued", "cancelled"]
    assert (await desk.house.asset()).state is AssetState.INGESTING


async def answered_from_its_original(house: House, path: Path, job: int) -> None:
    """An ingest that is interrupted when its source is to be stored, to be tried again."""

    async def away(key: str) -> None:
        if "source" in key:
            raise StorageUnavailable("away")

    house.store.before_put = away
    with pytest.raises(StorageUnavailable):
        await house.ingest(Request(ID, str(path)), job, will_retry=lambda *_: True)


async def test_a_cancelled_ingest_is_over_though_its_original_was_answered_from(
    desk: Desk,
) -> None:
    house = desk.house
    path = pictures.jpeg(house.pictures / "a.jpg", 90, 60)
    number = await desk.post()
    job = await desk.claim()

    await answered_from_its_original(house, path, number)
    assert (await house.asset()).servable
    await house.catalog.claims.postpone(job, 60)
    await desk.submitter.cancel(number)
    asset = await house.asset()
    assert (asset.state, asset.servable) == (AssetState.FAILED, False)
    assert "cancelled" in asset.error
    assert await desk.sweep() == 0
    assert await desk.states() == ["cancelled"]
    await house.assert_exact()


async def test_what_another_job_will_do_is_answered_from_its_original_on(desk: Desk) -> None:
    house = desk.house
    path = pictures.jpeg(house.pictures / "a.jpg", 90, 60)
    first, _second = await desk.post(), await desk.post()

    await answered_from_its_original(house, path, first)
    await desk.submitter.cancel(first)
    asset = await house.asset()
    assert (asset.state, asset.servable) == (AssetState.INGESTING, True)
