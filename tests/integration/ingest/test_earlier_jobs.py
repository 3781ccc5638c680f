"""Jobs that an earlier release recorded without a generation, and what was accepted since."""

from __future__ import annotations

import pytest
import pytest_asyncio

from orchestrator.catalog.jobs import INGEST, LANES, Job, JobDraft
from orchestrator.errors import Superseded
from orchestrator.ingest.job_handler import IngestHandler
from orchestrator.ingest.payload.decoding import Payload, encode
from orchestrator.ingest.register import Request
from orchestrator.model import AssetId
from tests.support import pictures
from tests.support.ingesting import IngestSystem
from tests.support.origins import OriginServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")
OLD, NEW = 60, 80
"""Widths of the picture before, and of the one that the job asks for."""


@pytest_asyncio.fixture(loop_scope="session")
async def origins(system: IngestSystem, origin: OriginServer) -> OriginServer:
    await system.catalog.customers.ensure(1, "main")
    for name, width in (("old", OLD), ("new", NEW), ("newer", 100)):
        path = pictures.jpeg(system.pictures / f"{name}.jpg", width, 40)
        origin.files[f"/{name}.jpg"] = path.read_bytes()
    return origin


async def publish(system: IngestSystem, origins: OriginServer, **rights: object) -> None:
    """Publish the picture before, as an earlier release did: without a generation."""
    await system.ingest(Request(ID, origins.url("/old.jpg"), **rights))  # type: ignore[arg-type]
    async with system.catalog.connection() as connection:
        await connection.execute("UPDATE assets SET generation = 0, ingest_generation = 0")


async def record(system: IngestSystem, request: Request) -> int:
    draft = JobDraft(INGEST, encode(Payload(request)), 1, asset=str(request.id))
    return (await system.submitter.submit([draft])).ids[0]


async def run(system: IngestSystem, expected: int) -> None:
    """Claim a job, which must be this one, and run it as a worker does."""
    catalog = system.catalog
    job: Job | None = await catalog.claims.claim(f"worker/{expected}", [INGEST], LANES, 9)
    assert job is not None
    assert (job.id, job.generation) == (expected, 0)
    handler = IngestHandler(
        catalog.assets,
        system.pipeline.runner,
        5,
        lambda origin: None,
        catalog.claims.record_fetched,
    )
    await handler(job)
    await catalog.claims.complete(job)


async def test_rights_that_were_changed_since_stay_and_the_pixels_are_those_of_the_job(
    system: IngestSystem, origins: OriginServer
) -> None:
    await publish(system, origins)
    job = await record(
        system, Request(ID, origins.url("/new.jpg"), roles=(), tags=("old",), rights="old")
    )
    await system.pipeline.editor.set_access(ID, roles=("secret",))
    await system.pipeline.editor.set_fields(ID, tags=("new",))
    await run(system, job)
    asset = await system.asset()
    assert (asset.roles, asset.tags, asset.width) == (("secret",), ("new",), NEW)
    assert not asset.is_pending


async def test_narrower_rights_of_the_job_stay_when_only_the_description_was_changed_since(
    system: IngestSystem, origins: OriginServer
) -> None:
    await publish(system, origins)
    job = await record(system, Request(ID, origins.url("/new.jpg"), roles=("secret",)))
    await system.pipeline.editor.set_fields(ID, tags=("new",))
    await run(system, job)
    asset = await system.asset()
    assert (asset.roles, asset.tags, asset.width) == (("secret",), ("new",), NEW)


async def test_a_later_ingest_replaces_the_job(system: IngestSystem, origins: OriginServer) -> None:
    await publish(system, origins)
    job = await record(system, Request(ID, origins.url("/new.jpg"), roles=()))
    claimed = await system.catalog.claims.claim("worker/1", [INGEST], LANES, 9)
    assert claimed is not None
    await system.ingest(Request(ID, origins.url("/newer.jpg"), roles=("secret",)))
    with pytest.raises(Superseded):
        await system.pipeline.runner.ingest(Request(ID, origins.url("/new.jpg"), roles=()), job)
    asset = await system.asset()
    assert (asset.roles, asset.width) == (("secret",), 100)


async def test_of_two_such_jobs_the_one_recorded_later_wins(
    system: IngestSystem, origins: OriginServer
) -> None:
    await publish(system, origins)
    first = await record(system, Request(ID, origins.url("/new.jpg"), roles=()))
    second = await record(system, Request(ID, origins.url("/newer.jpg"), roles=("secret",)))
    await run(system, first)
    await run(system, second)
    asset = await system.asset()
    assert (asset.roles, asset.width) == (("secret",), 100)
