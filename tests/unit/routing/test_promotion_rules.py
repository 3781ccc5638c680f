"""What promotion decides by: the pixels that images drew lately, and idle processor cores."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from orchestrator.routing.promotion.idle_cores import measure_idle_cores
from orchestrator.routing.promotion.tile_demand import TileDemand

TICKS = os.sysconf("SC_CLK_TCK")
HOUR = 3600.0


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_pixels_of_an_image_are_those_of_all_processes_in_its_window(tmp_path: Path) -> None:
    clock = Clock()
    one = TileDemand(tmp_path / "run" / "demand", HOUR, wall_clock=clock)
    other = TileDemand(tmp_path / "run" / "demand", HOUR, wall_clock=clock)
    assert one.add("a", 10) == 10
    assert other.add("a", 5) == 15
    assert one.add("b", 1) == 1
    clock.now += HOUR - 1
    assert one.add("a", 1) == 16
    clock.now += 1
    assert one.add("a", 1) == 1, "the window began with its first pixels"
    clock.now -= 10
    assert other.add("a", 2) == 2, "the clock was set back"


def test_more_images_than_there_is_room_for_replace_those_counted_longest_ago(
    tmp_path: Path,
) -> None:
    clock = Clock()
    demand = TileDemand(tmp_path / "demand", HOUR, wall_clock=clock)
    size = (tmp_path / "demand").stat().st_size
    for number in range(40_000):
        clock.now += 0.01
        assert demand.add(f"image {number}", 1) == 1
    recent = sum(demand.add(f"image {number}", 1) == 2 for number in range(39_000, 40_000))
    assert recent > 950
    assert (tmp_path / "demand").stat().st_size == size


def test_without_a_file_a_process_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").write_text("a file in place of the folder")
    demand = TileDemand(tmp_path / "run" / "demand", HOUR)
    assert (demand.add("a", 1), demand.add("a", 1)) == (1, 2)
    assert [record.message for record in caplog.records] == ["demand not shared"]


class Kernel:
    """The files in which the kernel counts."""

    def __init__(self, folder: Path) -> None:
        self.stat, self.group = folder / "stat", folder / "group"
        self.group.mkdir()

    def write(self, *, idle_s: float, used_s: float = 0.0, quota: str = "") -> None:
        idle = round(idle_s * TICKS)
        self.stat.write_text(f"cpu  1 2 3 {idle // 2} {idle - idle // 2} 6 7 8\ncpu0 1 2 3 4 5\n")
        if quota:
            (self.group / "cpu.max").write_text(quota + "\n")
            used = round(used_s * 1e6)
            (self.group / "cpu.stat").write_text(f"usage_usec {used}\nuser_usec 1\n")

    async def measure(self, **after: object) -> float:
        """What is measured if the counts change meanwhile; longer than it takes to write them."""
        task = asyncio.create_task(measure_idle_cores(0.5, self.stat, self.group))
        await asyncio.sleep(0)
        self.write(**after)  # type: ignore[arg-type]
        return await task


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


async def test_idle_cores_are_what_the_kernel_counts(kernel: Kernel) -> None:
    kernel.write(idle_s=100)
    assert await kernel.measure(idle_s=100) == 0
    kernel.write(idle_s=100)
    assert 0 < await kernel.measure(idle_s=101.5) <= 3


async def test_a_quota_of_the_container_leaves_fewer_cores(kernel: Kernel) -> None:
    kernel.write(idle_s=100, used_s=5, quota="50000 100000")
    assert await kernel.measure(idle_s=200, used_s=5, quota="50000 100000") == 0.5
    kernel.write(idle_s=100, used_s=5, quota="50000 100000")
    assert await kernel.measure(idle_s=200, used_s=9, quota="50000 100000") < 0.5
    kernel.write(idle_s=100, quota="max 100000")
    assert await kernel.measure(idle_s=150, quota="max 100000") > 0.5


async def test_without_counts_no_core_is_idle(tmp_path: Path) -> None:
    assert await measure_idle_cores(0, tmp_path / "missing", tmp_path) == 0
    real = await measure_idle_cores(0.1)
    assert 0 <= real <= 2 * (os.cpu_count() or 1)
