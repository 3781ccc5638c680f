"""kill -9 at each stage: no partial file is trusted, room comes free, another process continues."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from tests.faults.cache.conftest import Spawn
from tests.support.caches import BODY, a_product, du, read_line
from tests.support.patience import patience

QUOTA = 5_000_000


@pytest.mark.parametrize("stage", ["temp", "commit"])
async def test_a_writer_killed_midway_leaves_no_file_that_is_trusted(
    folder: Path, spawn: Spawn, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    writer = spawn("hang", folder, QUOTA, stage)
    assert read_line(writer) == "hanging"
    options = DiskOptions(quota=QUOTA)
    if stage == "temp":
        cache = await DiskCache.open(folder, options)
        assert not await cache.put(a_product(2), bytes(3_000_000)), (
            "the room is reserved by the writer"
        )
        assert (await cache.maintenance.sweep()).holders == 0, "the writer is alive"
        await cache.close()
    writer.kill()
    writer.wait()
    cache = await DiskCache.open(folder, options)
    assert await cache.get(a_product(1)) is None
    assert await cache.put(a_product(2), bytes(4_000_000)), "without housekeeping"
    await cache.maintenance.sweep()
    assert list((folder / ".temp").iterdir()) == []
    swept = [record for record in caplog.records if record.message == "cache swept"]
    assert [record.dead for record in swept] == [1]  # type: ignore[attr-defined]
    await cache.maintenance.run_periodic_work()
    totals = await cache.maintenance.totals()
    await cache.close()
    assert totals.bytes == du(folder)


async def test_a_lease_is_renewed_while_the_file_is_read_and_ends_after_the_reader_is_killed(
    folder: Path, spawn: Spawn
) -> None:
    lease_s, quota = 1.0, 2_000_000
    reader = spawn("hold", folder, quota, lease_s)
    assert read_line(reader) == "holding"
    cache = await DiskCache.open(folder, DiskOptions(quota=quota, use_flush_s=0.05))
    source = next(folder.glob("??/*/1-*.jpg"))

    async def write_more_than_the_quota(numbers: range) -> None:
        for number in numbers:
            assert await cache.put(a_product(number), BODY * 4)

    until = time.monotonic() + 3 * lease_s
    number = 0
    while time.monotonic() < until:
        await write_more_than_the_quota(range(number, number + 50))
        number += 50
        await asyncio.sleep(0.1)
        assert source.exists(), "evicted while it was read"
    reader.kill()
    reader.wait()
    killed = time.monotonic()
    while source.exists():
        assert time.monotonic() - killed < 2 * lease_s + 5
        await write_more_than_the_quota(range(number, number + 50))
        number += 50
    await cache.close()


async def test_when_a_leader_is_killed_another_process_continues_at_once(
    tmp_path: Path, spawn: Spawn
) -> None:
    lines = tmp_path / "produces"
    first = spawn("lead", tmp_path / "flights", 1, lines, "hang")
    assert read_line(first) == "ready"
    first.stdin.write(b"\n")  # type: ignore[union-attr]
    assert read_line(first) == "producing"
    second = spawn("lead", tmp_path / "flights", 10, lines, "make")
    assert read_line(second) == "ready"
    second.stdin.write(b"\n")  # type: ignore[union-attr]
    time.sleep(0.2)
    assert lines.read_text().count("produced") == 1
    killed = time.monotonic()
    first.kill()
    assert read_line(second) == "producing"
    assert time.monotonic() - killed < 1.0 * patience()
    assert read_line(second) == "['str:made']"


@pytest.mark.parametrize(
    ("mode", "outcome"),
    [
        ("make", "['str:made']"),
        ("fail", "['StorageUnavailable:The store is away.']"),
    ],
)
async def test_a_thousand_callers_in_each_of_four_processes_cause_one_production(
    tmp_path: Path, spawn: Spawn, mode: str, outcome: str
) -> None:
    lines = tmp_path / "produces"
    processes = [spawn("lead", tmp_path / "flights", 1000, lines, mode) for _ in range(4)]
    assert [read_line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        process.stdin.write(b"\n")  # type: ignore[union-attr]
    answers = []
    for process in processes:
        line = read_line(process)
        answers.append(read_line(process) if line == "producing" else line)
    assert answers == [outcome] * 4
    assert lines.read_text() == "produced\n"
