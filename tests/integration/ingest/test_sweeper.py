"""The sweeper handles what killed processes left and does not touch work in progress."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.catalog.jobs import JobDraft
from orchestrator.catalog.values import Attempt, StoredObject
from orchestrator.errors import StorageUnavailable
from orchestrator.imaging.pool import ImagingPool
from orchestrator.ingest.convert import lock_name
from orchestrator.ingest.register import Request
from orchestrator.ingest.sweeper import Sweeper
from orchestrator.model import Asset, AssetId, AssetState
from tests.support import pictures
from tests.support.ingesting import House, open_house
from tests.support.simulated_kill import ProcessKilled

pytestmark = pytest.mark.asyncio(loop_scope="module")
ID = AssetId(1, 1, "picture")
ROOT = Path(__file__).resolve().parents[3]


async def test_an_ingest_without_a_worker_is_recorded_as_failed(house: House) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    swept = await house.sweep()
    assert swept["stuck_ingests"] == 1
    asset = await house.asset()
    assert asset.state is AssetState.FAILED
    assert "died" in asset.error
    [attempt] = await house.catalog.attempts.of(ID)
    assert attempt.fault is not None
    assert (attempt.fault.code, attempt.fault.retryable) == ("ingest_died", True)
    assert (await house.sweep())["stuck_ingests"] == 0


async def test_the_served_version_stays_when_its_stuck_reingest_is_recorded_as_failed(
    house: House,
) -> None:
    path = pictures.jpeg(house.pictures / "a.jpg", 90, 60)
    before = (await house.ingest(Request(ID, str(path)))).asset
    await house.pipeline.runner.declare(Request(ID, str(path)))
    await house.sweep()
    after = await house.asset()
    assert (after.state, after.version) == (AssetState.READY, before.version)
    assert after.error


async def test_a_stuck_ingest_is_requeued_where_that_is_possible(house: House) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    requeued: list[Asset] = []

    async def requeue(asset: Asset) -> bool:
        requeued.append(asset)
        return True

    assert (await house.sweep(requeue))["stuck_ingests"] == 1
    assert [asset.origin for asset in requeued] == ["http://example.org/a.jpg"]
    assert (await house.asset()).state is AssetState.INGESTING


async def test_a_stuck_ingest_that_is_served_from_its_original_is_requeued(house: House) -> None:
    path = pictures.jpeg(house.pictures / "a.jpg", 90, 60)
    requeued: list[Asset] = []

    async def die(key: str) -> None:
        if "source" in key:
            raise ProcessKilled

    async def requeue(asset: Asset) -> bool:
        requeued.append(asset)
        return True

    house.store.before_put = die
    with pytest.raises(ProcessKilled):
        await house.ingest(Request(ID, str(path)))
    assert (await house.asset()).servable
    assert (await house.sweep(requeue))["stuck_ingests"] == 1
    assert [asset.origin for asset in requeued] == [str(path)]
    house.store.before_put = None
    await house.ingest(Request(ID, str(path)))
    assert (await house.asset()).state is AssetState.READY
    await house.assert_exact()


async def test_an_ingest_whose_job_is_queued_or_running_is_not_swept(house: House) -> None:
    name = AssetId(1, 1, "a/b%c")
    await house.pipeline.runner.declare(Request(name, "http://example.org/a.jpg"))
    async with house.catalog.transaction() as connection:
        draft = JobDraft(kind="ingest", payload={}, customer=1, asset=str(name))
        await house.catalog.jobs.record(connection, [draft])
    assert (await house.sweep())["stuck_ingests"] == 0
    async with house.catalog.transaction() as connection:
        await connection.execute("UPDATE jobs SET state = 'failed'")
    assert (await house.sweep())["stuck_ingests"] == 1


async def test_an_ingest_in_progress_is_not_swept(house: House) -> None:
    """Neither the ingest nor the objects it writes, although both are older than the limit."""
    swept: list[int] = []

    async def sweep(key: str) -> None:
        swept.append(sum((await house.sweep()).values()))

    house.store.before_put = sweep
    await house.ingest(Request(ID, str(pictures.jpeg(house.pictures / "a.jpg", 90, 60))))
    assert swept
    assert not any(swept)
    assert (await house.asset()).state is AssetState.READY


async def test_a_change_of_rights_in_progress_is_not_swept(house: House) -> None:
    await house.ingest(Request(ID, str(pictures.jpeg(house.pictures / "a.jpg", 90, 60))))

    async def sweep(key: str) -> None:
        assert sum((await house.sweep()).values()) == 0

    house.store.before_put = sweep
    await house.pipeline.editor.set_access(ID, roles=("reader",))
    await house.assert_exact()


async def test_recent_work_is_not_swept(house: House) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    await house.catalog.objects.enter(ID, 1, [StoredObject("1/1/picture/1/s.json", "sizes", 1)])
    sweeper = Sweeper(
        house.catalog,
        house.pipeline.remover,
        house.settings.data_dir / "scratch",
        house.settings.ingest,
        conversions=house.pipeline.conversion_jobs,
    )
    assert sum((await sweeper.sweep()).values()) == 0


async def test_objects_that_a_killed_process_entered_are_removed_written_or_not(
    house: House,
) -> None:
    objects = [StoredObject(f"1/1/picture/9/open/{n}.jpg", "thumbnail", 3) for n in (1, 2)]
    await house.catalog.objects.enter(ID, 9, objects)
    await house.store.put(objects[0].key, b"abc")
    swept = await house.sweep()
    assert (swept["unfinished_objects"], swept["unwanted_objects"]) == (2, 2)
    await house.assert_exact()


async def test_one_host_sweeps_at_a_time(house: House, imaging: ImagingPool) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    async with open_house(house.settings, imaging) as other:
        async with other.catalog.exclusive("sweeping"):
            assert (await house.sweep())["stuck_ingests"] == 0
        counts = await asyncio.gather(house.sweep(), other.sweep())
        assert sum(swept["stuck_ingests"] for swept in counts) == 1


async def test_a_step_that_fails_does_not_stop_the_others(house: House) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    await house.catalog.objects.discard(ID, 9, [StoredObject("1/1/x/9/s.json", "sizes", 1)])
    old = datetime.now(UTC) - timedelta(days=200)
    await house.catalog.attempts.record(Attempt(ID, old, "unchanged"))
    async with house.catalog.transaction() as connection:
        await connection.execute("UPDATE ingest_attempts SET finished = $1", old)

    async def fail(keys: object) -> None:
        raise StorageUnavailable("away")

    delete = house.store.delete
    house.store.delete = fail  # type: ignore[method-assign]
    swept = await house.sweep()
    house.store.delete = delete  # type: ignore[method-assign]
    assert (swept["stuck_ingests"], swept["attempts"]) == (1, 1)
    assert (await house.sweep())["unwanted_objects"] == 1


async def test_scratch_of_a_killed_worker_is_removed_and_that_of_a_running_one_stays(
    house: House,
) -> None:
    scratch = house.settings.data_dir / "scratch"
    script = (
        "import asyncio, os, signal, sys; from pathlib import Path;"
        "from orchestrator.ingest.scratch import Scratch\n"
        "async def main():\n"
        "    scratch = await Scratch.open(Path(sys.argv[1]))\n"
        "    async with scratch.folder() as folder:\n"
        "        (folder / 'original').write_bytes(b'x' * 1000)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(scratch)],
        cwd=ROOT,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == -9
    assert any(path.name == "original" for path in scratch.rglob("*"))
    assert (await house.sweep())["scratch"] == 1
    assert not any(path.name == "original" for path in scratch.rglob("*"))
    await house.ingest(Request(ID, str(pictures.jpeg(house.pictures / "a.jpg", 90, 60))))


async def test_an_asset_whose_lock_is_held_is_not_swept(house: House) -> None:
    await house.pipeline.runner.declare(Request(ID, "http://example.org/a.jpg"))
    async with house.catalog.exclusive(lock_name(ID)):
        assert (await house.sweep())["stuck_ingests"] == 0
    assert (await house.sweep())["stuck_ingests"] == 1
