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
from tests.support.ingesting import IngestSystem, open_ingest_system
from tests.support.simulated_kill import ProcessKilled

pytestmark = pytest.mark.asyncio(loop_scope="session")
ID = AssetId(1, 1, "picture")
ROOT = Path(__file__).resolve().parents[3]


async def test_an_ingest_without_a_worker_is_recorded_as_failed(system: IngestSystem) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    swept = await system.sweep()
    assert swept["stuck_ingests"] == 1
    asset = await system.asset()
    assert asset.state is AssetState.FAILED
    assert "died" in asset.error
    [attempt] = await system.catalog.attempts.of(ID)
    assert attempt.fault is not None
    assert (attempt.fault.code, attempt.fault.retryable) == ("ingest_died", True)
    assert (await system.sweep())["stuck_ingests"] == 0


async def test_the_served_version_stays_when_its_stuck_reingest_is_recorded_as_failed(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    before = (await system.ingest(Request(ID, str(path)))).asset
    await system.pipeline.runner.accept(Request(ID, str(path)))
    await system.sweep()
    after = await system.asset()
    assert (after.state, after.version) == (AssetState.READY, before.version)
    assert after.error


async def test_a_stuck_ingest_is_requeued_where_that_is_possible(system: IngestSystem) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    requeued: list[Asset] = []

    async def requeue(asset: Asset) -> bool:
        requeued.append(asset)
        return True

    assert (await system.sweep(requeue))["stuck_ingests"] == 1
    assert [asset.origin for asset in requeued] == ["http://example.org/a.jpg"]
    assert (await system.asset()).state is AssetState.INGESTING


async def test_a_stuck_ingest_that_is_served_from_its_original_is_requeued(
    system: IngestSystem,
) -> None:
    path = pictures.jpeg(system.pictures / "a.jpg", 90, 60)
    requeued: list[Asset] = []

    async def die(key: str) -> None:
        if "source" in key:
            raise ProcessKilled

    async def requeue(asset: Asset) -> bool:
        requeued.append(asset)
        return True

    system.store.before_put = die
    with pytest.raises(ProcessKilled):
        await system.ingest(Request(ID, str(path)))
    assert (await system.asset()).servable
    assert (await system.sweep(requeue))["stuck_ingests"] == 1
    assert [asset.origin for asset in requeued] == [str(path)]
    system.store.before_put = None
    await system.ingest(Request(ID, str(path)))
    assert (await system.asset()).state is AssetState.READY
    await system.assert_exact()


async def test_an_ingest_whose_job_is_queued_or_running_is_not_swept(system: IngestSystem) -> None:
    name = AssetId(1, 1, "a/b%c")
    await system.pipeline.runner.accept(Request(name, "http://example.org/a.jpg"))
    async with system.catalog.transaction() as connection:
        draft = JobDraft(kind="ingest", payload={}, customer=1, asset=str(name))
        await system.catalog.jobs.record(connection, [draft])
    assert (await system.sweep())["stuck_ingests"] == 0
    async with system.catalog.transaction() as connection:
        await connection.execute("UPDATE jobs SET state = 'failed'")
    assert (await system.sweep())["stuck_ingests"] == 1


async def test_an_ingest_in_progress_is_not_swept(system: IngestSystem) -> None:
    """Neither the ingest nor the objects it writes, although both are older than the limit."""
    swept: list[int] = []

    async def sweep(key: str) -> None:
        swept.append(sum((await system.sweep()).values()))

    system.store.before_put = sweep
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 90, 60))))
    assert swept
    assert not any(swept)
    assert (await system.asset()).state is AssetState.READY


async def test_a_change_of_rights_in_progress_is_not_swept(system: IngestSystem) -> None:
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 90, 60))))

    async def sweep(key: str) -> None:
        assert sum((await system.sweep()).values()) == 0

    system.store.before_put = sweep
    await system.pipeline.editor.set_access(ID, roles=("reader",))
    await system.assert_exact()


async def test_recent_work_is_not_swept(system: IngestSystem) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    await system.catalog.objects.enter(ID, 1, [StoredObject("1/1/picture/1/s.json", "sizes", 1)])
    sweeper = Sweeper(
        system.catalog,
        system.pipeline.remover,
        system.settings.data_dir / "scratch",
        system.settings.ingest,
        conversions=system.pipeline.conversion_jobs,
    )
    assert sum((await sweeper.sweep()).values()) == 0


async def test_objects_that_a_killed_process_entered_are_removed_written_or_not(
    system: IngestSystem,
) -> None:
    objects = [StoredObject(f"1/1/picture/9/open/{n}.jpg", "thumbnail", 3) for n in (1, 2)]
    await system.catalog.objects.enter(ID, 9, objects)
    await system.store.put(objects[0].key, b"abc")
    swept = await system.sweep()
    assert (swept["unfinished_objects"], swept["unwanted_objects"]) == (2, 2)
    await system.assert_exact()


async def test_one_host_sweeps_at_a_time(system: IngestSystem, imaging: ImagingPool) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    async with open_ingest_system(system.settings, imaging) as other:
        async with other.catalog.exclusive("sweeping"):
            assert (await system.sweep())["stuck_ingests"] == 0
        counts = await asyncio.gather(system.sweep(), other.sweep())
        assert sum(swept["stuck_ingests"] for swept in counts) == 1


async def test_a_step_that_fails_does_not_stop_the_others(system: IngestSystem) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    await system.catalog.objects.discard(ID, 9, [StoredObject("1/1/x/9/s.json", "sizes", 1)])
    old = datetime.now(UTC) - timedelta(days=200)
    await system.catalog.attempts.record(Attempt(ID, old, "unchanged"))
    async with system.catalog.transaction() as connection:
        await connection.execute("UPDATE ingest_attempts SET finished = $1", old)

    async def fail(keys: object) -> None:
        raise StorageUnavailable("away")

    delete = system.store.delete
    system.store.delete = fail  # type: ignore[method-assign]
    swept = await system.sweep()
    system.store.delete = delete  # type: ignore[method-assign]
    assert (swept["stuck_ingests"], swept["attempts"]) == (1, 1)
    assert (await system.sweep())["unwanted_objects"] == 1


async def test_scratch_of_a_killed_worker_is_removed_and_that_of_a_running_one_stays(
    system: IngestSystem,
) -> None:
    scratch = system.settings.data_dir / "scratch"
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
    assert (await system.sweep())["scratch"] == 1
    assert not any(path.name == "original" for path in scratch.rglob("*"))
    await system.ingest(Request(ID, str(pictures.jpeg(system.pictures / "a.jpg", 90, 60))))


async def test_an_asset_whose_lock_is_held_is_not_swept(system: IngestSystem) -> None:
    await system.pipeline.runner.accept(Request(ID, "http://example.org/a.jpg"))
    async with system.catalog.exclusive(lock_name(ID)):
        assert (await system.sweep())["stuck_ingests"] == 0
    assert (await system.sweep())["stuck_ingests"] == 1
