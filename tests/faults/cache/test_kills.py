"""kill -9 at each stage: nothing partial is trusted, room comes free, another takes over."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from orchestrator.cache.disk.cache import DiskCache, DiskOptions
from tests.faults.cache.conftest import Spawn
from tests.support.caches import BODY, a_product, du, said

QUOTA = 5_000_000


@pytest.mark.parametrize("stage", ["temp", "commit"])
async def test_a_writer_killed_midway_leaves_nothing_that_is_trusted(
    folder: Path, spawn: Spawn, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    writer = spawn("hang", folder, QUOTA, stage)
    assert said(writer) == "hanging"
    options = DiskOptions(quota=QUOTA)
    if stage == "temp":
        cache = await DiskCache.open(folder, options)
        assert not await cache.put(a_product(2), bytes(3_000_000)), "the room is the writer's"
        assert (await cache.maintenance.sweep()).holders == 0, "it lives"
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


async def test_a_lease_outlives_its_length_while_held_and_ends_with_a_killed_process(
    folder: Path, spawn: Spawn
) -> None:
    lease_s, quota = 1.0, 2_000_000
    reader = spawn("hold", folder, quota, lease_s)
    assert said(reader) == "holding"
    cache = await DiskCache.open(folder, DiskOptions(quota=quota, use_flush_s=0.05))
    source = next(folder.glob("??/*/1-*.jpg"))

    async def press(numbers: range) -> None:
        """Write more than the whole quota."""
        for number in numbers:
            assert await cache.put(a_product(number), BODY * 4)

    until = time.monotonic() + 3 * lease_s
    number = 0
    while time.monotonic() < until:
        await press(range(number, number + 50))
        number += 50
        await asyncio.sleep(0.1)
        assert source.exists(), "taken from under its reader"
    reader.kill()
    reader.wait()
    killed = time.monotonic()
    while source.exists():
        assert time.monotonic() - killed < 2 * lease_s + 5
        await press(range(number, number + 50))
        number += 50
    await cache.close()


async def test_a_killed_leader_is_followed_at_once(tmp_path: Path, spawn: Spawn) -> None:
    lines = tmp_path / "produces"
    first = spawn("lead", tmp_path / "flights", 1, lines, "hang")
    assert said(first) == "ready"
    first.stdin.write(b"\n")  # type: ignore[union-attr]
    assert said(first) == "producing"
    second = spawn("lead", tmp_path / "flights", 10, lines, "make")
    assert said(second) == "ready"
    second.stdin.write(b"\n")  # type: ignore[union-attr]
    time.sleep(0.2)
    assert lines.read_text().count("produced") == 1
    killed = time.monotonic()
    first.kill()
    assert said(second) == "producing"
    assert time.monotonic() - killed < 1.0
    assert said(second) == "['str:made']"


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
    assert [said(process) for process in processes] == ["ready"] * 4
    for process in processes:
        process.stdin.write(b"\n")  # type: ignore[union-attr]
    answers = []
    for process in processes:
        line = said(process)
        answers.append(said(process) if line == "producing" else line)
    assert answers == [outcome] * 4
    assert lines.read_text() == "produced\n"
