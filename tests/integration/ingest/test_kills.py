"""kill -9 of a process that ingests, at any moment: the sweeper removes exactly what it left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from orchestrator.imaging.pool import ImagingPool
from orchestrator.model import AssetState
from tests.support import pictures
from tests.support.ingesting import IngestSystem, keys_named_by, open_ingest_system, settings_for
from tests.support.patience import patience

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.soak)])
async def test_kills_at_any_moment_leave_no_orphaned_object_and_no_unfinished_asset(
    dsn: str, tmp_path: Path, imaging: ImagingPool, kills: int
) -> None:
    folder, dice = tmp_path / "originals", random.Random(7)
    folder.mkdir()
    for n in range(3):
        pictures.jpeg(folder / f"{n}.jpg", 400 + 300 * n, 300, seed=n)
    settings = settings_for(dsn, tmp_path / "data")
    finished = 0
    for seed in range(kills):
        finished += await _killed(dsn, tmp_path / "data", folder, seed, dice.uniform(0.1, 0.6))
        async with open_ingest_system(settings, imaging) as system:
            await _swept(system)
            assert system.scratch() == []
            await system.store.sweep_temporary()
            await system.assert_exact()
            for asset in await system.catalog.assets.page():
                assert asset.state in {AssetState.READY, AssetState.FAILED}
                assert keys_named_by(asset) <= await system.store.keys()
    assert finished >= kills


async def _killed(dsn: str, data: Path, folder: Path, seed: int, after_s: float) -> int:
    """Start the restless process, kill it a while after its first deed; how many it did."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.endless_ingest",
        dsn,
        str(data),
        str(folder),
        str(seed),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(120 * patience()):
        assert await process.stdout.readline() == b"done\n"
    await asyncio.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    rest = await process.stdout.read()
    await process.wait()
    return 1 + rest.count(b"done\n")


async def _swept(system: IngestSystem) -> None:
    """The database may need a moment to see that the connections, and their locks, are gone."""
    async with asyncio.timeout(30 * patience()):
        while True:
            await system.sweep()
            counts = await system.catalog.objects.count()
            states = await system.catalog.assets.count()
            if set(counts) <= {"live"} and "ingesting" not in states:
                return
            await asyncio.sleep(0.1)
