"""Conversion jobs: each registered picture is converted or its failure is recorded, through outages
and kill -9.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pyvips

from orchestrator.catalog.jobs import CONVERT
from orchestrator.errors import StorageUnavailable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.conversion_progress import ConversionProgress
from orchestrator.jobs.worker_options import WorkerOptions
from orchestrator.model import AssetId, AssetState
from orchestrator.storage import object_keys as keys
from tests.support import pictures
from tests.support.ingesting import IngestSystem, open_ingest_system, settings_for
from tests.support.jobs import running
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def converting(system: IngestSystem, slots: int = 2) -> AsyncIterator[list[tuple[int, int]]]:
    """A worker that converts the registered assets; yields the reports of its progress."""
    reports: list[tuple[int, int]] = []
    progress = ConversionProgress(
        system.catalog.assets, lambda done, total: reports.append((done, total)), every_s=0.02
    )
    await system.pipeline.conversion_jobs.submit_missing()
    worker = system.conversion_worker(slots, progress.add)
    async with running(worker.run()), running(progress.run()):
        yield reports


async def settled(system: IngestSystem, state: AssetState, *names: str) -> None:
    async with asyncio.timeout(30 * patience()):
        for name in names:
            while (await system.asset(name)).state is not state:
                await asyncio.sleep(0.05)


async def test_all_registered_pictures_are_converted_and_counted(system: IngestSystem) -> None:
    names = [str(n) for n in range(6)]
    for n, name in enumerate(names):
        await system.register(pictures.jpeg(system.pictures / f"{n}.jpg", 60, 40, seed=n), name)
    async with converting(system) as reports:
        await settled(system, AssetState.READY, *names)
        while reports[-1:] != [(6, 6)]:
            await asyncio.sleep(0.05)


async def test_a_picture_that_cannot_be_converted_is_recorded_and_does_not_delay_others(
    system: IngestSystem,
) -> None:
    whole = pictures.png(system.pictures / "whole.png", 600, 500)
    await system.register(pictures.truncated(system.pictures / "torn.png", whole, 0.4), "torn")
    await system.register(whole, "whole")
    async with converting(system, slots=1):
        await settled(system, AssetState.READY, "whole")
        await settled(system, AssetState.FAILED, "torn")
    torn = await system.asset("torn")
    assert torn.error_code == "damaged"
    assert torn.error
    assert torn.refused  # no request can be answered from it
    assert not torn.servable
    assert not any("torn" in key for key in await system.store.keys())


async def test_a_conversion_waits_until_the_object_store_answers(system: IngestSystem) -> None:
    tries: list[str] = []

    async def fail(key: str) -> None:
        tries.append(key)
        raise StorageUnavailable("away")

    system.store.before_put = fail
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")
    async with converting(system):
        async with asyncio.timeout(30 * patience()):
            while len(tries) < 2:
                await asyncio.sleep(0.05)
        assert (await system.asset("a")).state is AssetState.REGISTERED
        system.store.before_put = None
        await settled(system, AssetState.READY, "a")


async def test_a_replaced_file_is_registered_again_and_converted(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 60, 40)
    await system.register(path, "a")
    pictures.jpeg(path, 90, 50)
    async with converting(system):
        await settled(system, AssetState.READY, "a")
    assert (await system.asset("a")).dimensions == (90, 50)


async def test_decode_workers_that_were_killed_while_idle_are_no_fault_of_the_next_picture(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 60, 40)
    await system.register(path, "a")  # its header is read by a worker, which is idle afterwards
    idle = system.imaging.pids
    assert idle
    for pid in idle:
        os.kill(pid, signal.SIGKILL)
    async with converting(system):
        await settled(system, AssetState.READY, "a")


async def test_a_deleted_file_fails_with_the_reason(system: IngestSystem) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 60, 40)
    await system.register(path, "a")
    path.unlink()
    async with converting(system):
        await settled(system, AssetState.FAILED, "a")
    assert "no such file" in (await system.asset("a")).error


async def test_an_unexpected_error_is_retried_and_then_recorded(system: IngestSystem) -> None:
    tries: list[str] = []

    async def broken(key: str) -> None:
        if "broken" in key:
            tries.append(key)
            raise ZeroDivisionError

    system.store.before_put = broken
    await system.register(pictures.jpeg(system.pictures / "broken.jpg", 60, 40), "broken")
    await system.register(pictures.jpeg(system.pictures / "good.jpg", 60, 40), "good")
    async with converting(system):
        await settled(system, AssetState.READY, "good")
        await settled(system, AssetState.FAILED, "broken")
    assert len(tries) == WorkerOptions().max_attempts


async def test_what_a_killed_worker_left_of_a_conversion_is_not_used_and_another_worker_converts(
    dsn: str, tmp_path: Path, imaging: ImagingPool
) -> None:
    data = tmp_path / "data"
    noise = pyvips.Image.gaussnoise(500, 500, mean=128, sigma=30, seed=1).cast("uchar")
    large = noise.bandjoin([noise, noise]).replicate(8, 6).copy(interpretation="srgb")
    path = tmp_path / "large.png"  # made fast, converted slowly
    large.pngsave(str(path), compression=1)
    async with open_ingest_system(settings_for(dsn, data), imaging) as system:
        registered = await system.register(path, "large")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.ingesting", dsn, str(data), cwd=ROOT
    )
    async with asyncio.timeout(120 * patience()):
        while not any(file.stat().st_size for file in data.glob("scratch/*/*/source.tif*")):
            await asyncio.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert list(data.glob("scratch/*/*/source.tif*"))

    async with open_ingest_system(settings_for(dsn, data), imaging) as system:
        assert system.scratch() == []
        assert await system.asset("large") == registered
        assert await system.store.keys() == set()
        await system.catalog.claims.recover(
            0, WorkerOptions().max_attempts
        )  # as after `jobs.lease_s`
        async with converting(system):
            await settled(system, AssetState.READY, "large")
        asset = await system.asset("large")
        assert asset.version == registered.version
        prefix = keys.prefix(AssetId(1, 1, "large"), asset.thumbnails_version)
        assert await system.store.keys() == {
            prefix + name
            for name in ("source.tif", "s.json", "open/200.jpg", "open/100.jpg", "open/50.jpg")
        }


async def test_a_picture_registered_without_a_job_gets_one_job(system: IngestSystem) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")
    assert await system.pipeline.conversion_jobs.submit_missing() == 1
    assert await system.pipeline.conversion_jobs.submit_missing() == 0
    [job] = await system.catalog.jobs.page()
    assert (job.kind, job.asset, job.customer) == (CONVERT, "1/1/a", 0)


async def test_the_sweeper_submits_a_conversion_that_waits_without_a_job(
    system: IngestSystem,
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")
    assert (await system.sweep())["stuck_conversions"] == 1
    assert (await system.sweep())["stuck_conversions"] == 0


async def test_a_conversion_whose_workers_died_is_recorded_as_failed_once(
    system: IngestSystem,
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")
    await system.pipeline.conversion_jobs.submit_missing()
    await system.catalog.claims.claim("worker", [CONVERT], ["normal"], 1)
    assert (await system.catalog.claims.recover(0, 1)).given_up
    assert (await system.sweep())["stuck_conversions"] == 1
    asset = await system.asset("a")
    assert (asset.state, asset.servable) == (AssetState.FAILED, True)
    assert "died" in asset.error
    assert (await system.sweep())["stuck_conversions"] == 0


async def test_a_failed_conversion_that_a_person_retries_is_converted(system: IngestSystem) -> None:
    async def broken(key: str) -> None:
        raise ZeroDivisionError

    system.store.before_put = broken
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")
    async with converting(system):
        await settled(system, AssetState.FAILED, "a")
        [job] = await system.catalog.jobs.page()
        async with asyncio.timeout(10 * patience()):
            while (await system.catalog.jobs.page())[0].state != "failed":
                await asyncio.sleep(0.05)
        system.store.before_put = None
        await system.submitter.retry(job.id)
        await settled(system, AssetState.READY, "a")


async def test_rights_changed_during_a_conversion_do_not_leave_the_picture_unconverted(
    system: IngestSystem,
) -> None:
    await system.register(pictures.jpeg(system.pictures / "a.jpg", 60, 40), "a")

    async def restrict(key: str) -> None:
        system.store.before_put = None
        await system.pipeline.editor.set_access(AssetId(1, 1, "a"), roles=("reader",))

    system.store.before_put = restrict
    async with converting(system):
        await settled(system, AssetState.READY, "a")
    assert (await system.asset("a")).roles == ("reader",)
    assert [job.state for job in await system.catalog.jobs.page()] == ["done"]
