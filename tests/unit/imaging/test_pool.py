"""Decode workers: bounded queues, time limits, retries after a crash, no remaining process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
import pyvips  # type: ignore[import-untyped]
from pyvips.voperation import concurrency_get  # type: ignore[import-untyped]

from orchestrator.errors import (
    DecodeTimeout,
    Overloaded,
    SourceChanged,
    Unavailable,
    Unprocessable,
)
from orchestrator.imaging import FASTEST, Encoder, Recipe
from orchestrator.imaging.pool import ImagingPool
from orchestrator.imaging.workers.decode_queue import JobGroup
from orchestrator.imaging.workers.lanes import Lane
from orchestrator.imaging.workers.large_results import LARGE_BYTES, LargeResult
from orchestrator.model import SourceKind
from orchestrator.settings import Imaging
from tests.golden.comparison import a_recipe
from tests.support import pictures
from tests.support.descriptors import open_sockets
from tests.support.patience import patience
from tests.support.process_table import is_alive
from tests.unit.imaging.conftest import SMALL


@pytest.fixture
async def pool() -> AsyncIterator[ImagingPool]:
    """A pool for one test."""
    pool = ImagingPool(SMALL)
    yield pool
    await pool.close()


@pytest.fixture
def lane(pool: ImagingPool) -> Lane:
    """The tile lane of the pool, which has one worker. Tests run any call in it."""
    return pool._tiles


async def test_a_call_over_its_time_limit_is_killed_and_the_next_one_succeeds(
    pool: ImagingPool, lane: Lane, tmp_path: Path
) -> None:
    await lane.run(_return, "started", timeout_s=30)
    # A worker that a busy machine gives too little of a processor would be "interrupted".
    os.setpriority(os.PRIO_PROCESS, lane.pids[0], -10 if os.geteuid() == 0 else 0)
    started_at = time.monotonic()
    with pytest.raises(DecodeTimeout):
        await lane.run(_compute_for, 60, timeout_s=0.5)
    assert time.monotonic() - started_at < 10 * patience()
    path = pictures.jp2_untiled(tmp_path / "a", 300, 200)
    assert await pool.render(a_recipe(path, await pool.probe(path)))


async def test_time_that_a_worker_does_not_get_does_not_count(lane: Lane) -> None:
    pid = await lane.run(_use_processor_for, 0.0, timeout_s=60)  # imports this module there
    os.setpriority(os.PRIO_PROCESS, pid, -10 if os.geteuid() == 0 else 0)
    worker = psutil.Process(pid)
    before_s, began = sum(worker.cpu_times()[:2]), time.monotonic()
    running = asyncio.ensure_future(lane.run(_use_processor_for, 3.5, timeout_s=4))
    await _wait_until(lambda: sum(worker.cpu_times()[:2]) - before_s > 3)
    worker.suspend()
    # Its limit passes, as on a machine that is busy with other work; after 30 s it is stalled.
    await asyncio.sleep(began + 4.5 - time.monotonic())
    worker.resume()
    assert await running == pid


async def test_a_call_whose_worker_is_killed_is_retried(lane: Lane, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    running = asyncio.ensure_future(lane.run(_sleep_on_first_run, str(mark), timeout_s=30))
    await _wait_until(mark.exists)
    os.kill(lane.pids[0], signal.SIGKILL)
    assert await running == "second run"


async def test_a_call_that_ends_two_new_workers_is_refused(lane: Lane, tmp_path: Path) -> None:
    mark = tmp_path / "calls"
    with pytest.raises(Unprocessable):
        await lane.run(_kill_worker, str(mark), timeout_s=30)
    assert mark.stat().st_size == 3  # in the worker that was there, then in two new ones
    assert await lane.run(_return, "after", timeout_s=30) == "after"


async def test_workers_killed_while_idle_are_no_fault_of_the_next_picture(tmp_path: Path) -> None:
    pool = ImagingPool(SMALL.model_copy(update={"processes": 2}))
    try:
        path = pictures.jp2_untiled(tmp_path / "a", 300, 200)
        recipe = a_recipe(path, await pool.probe(path))
        pool.start_tile_workers()
        await _wait_until(lambda: len(pool._tiles.pids) == 2)
        for pid in pool._tiles.pids:
            os.kill(pid, signal.SIGKILL)
        await _wait_until(lambda: not any(map(is_alive, pool._tiles.pids)))
        assert all(await asyncio.gather(*(pool.render(recipe) for _ in range(4))))
    finally:
        await pool.close()


async def test_a_stopped_worker_is_replaced_and_no_fault_of_the_picture(
    lane: Lane, tmp_path: Path
) -> None:
    pid = await lane.run(os.getpid, timeout_s=30)
    os.kill(pid, signal.SIGSTOP)
    assert await lane.run(os.getpid, timeout_s=patience()) != pid
    assert not psutil.pid_exists(pid)


async def test_calls_that_stall_in_every_worker_are_unavailable(lane: Lane) -> None:
    with pytest.raises(Unavailable):
        await lane.run(time.sleep, 60, timeout_s=0.5)


async def test_jobs_of_a_group_run_in_one_call_and_each_gets_its_own_result(lane: Lane) -> None:
    await lane.run(_return, 0, timeout_s=30)
    group = [JobGroup("level", _run_group, (n,)) for n in range(4)]
    jobs = [lane.run(_run_single, n, timeout_s=30, group=group[n]) for n in range(4)]
    answers: list[object] = [*await asyncio.gather(*jobs, return_exceptions=True)]
    assert answers[:3] == [(0, 4), (1, 4), (2, 4)]
    assert isinstance(answers[3], Unprocessable)  # its own error only


async def test_a_group_whose_call_ends_the_worker_is_retried_one_by_one(lane: Lane) -> None:
    jobs = [
        lane.run(_run_single, n, timeout_s=30, group=JobGroup("k", _kill_worker_of_group))
        for n in range(3)
    ]
    assert await asyncio.gather(*jobs) == [0, 1, 2]


async def test_tiles_rendered_together_equal_tiles_rendered_alone(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = pictures.jp2_untiled(tmp_path / "a", 2050, 1030)
    facts = await pool.probe(path)
    recipes = [
        a_recipe(path, facts, region=(x, y, 512, 512), size=(512, 512))
        for x, y in ((0, 0), (512, 0), (1024, 0), (0, 512), (512, 512), (1024, 512))
    ]
    together = await asyncio.gather(*map(pool.render, recipes))
    copy = tmp_path / "b"
    copy.write_bytes(path.read_bytes())
    for recipe, body in zip(recipes, together, strict=True):
        assert await pool.render(replace(recipe, path=str(copy))) == body


async def test_libvips_has_one_thread_here_and_in_a_worker_also_after_a_conversion(
    pool: ImagingPool, tmp_path: Path
) -> None:
    path = pictures.jpeg(tmp_path / "a.jpg", 300, 200)
    await pool.convert(path, tmp_path / "a.tif", FASTEST)
    assert await pool._heavy.run(concurrency_get, timeout_s=30) == 1
    assert await pool._tiles.run(concurrency_get, timeout_s=30) == 1
    assert concurrency_get() == 1


async def test_a_large_result_arrives_whole_and_its_memory_is_freed(lane: Lane) -> None:
    for size in (LARGE_BYTES - 1, LARGE_BYTES, 40 * LARGE_BYTES + 1):
        assert await lane.run(_count_up, size, timeout_s=30) == _count_up(size)
    files = [file for file in Path(f"/proc/{lane.pids[0]}/fd").iterdir() if _is_in_memory(file)]
    assert [file.stat().st_size for file in files] == [0]


async def test_a_result_that_is_lost_with_its_worker_is_made_again(
    lane: Lane, tmp_path: Path
) -> None:
    mark = str(tmp_path / "mark")
    assert await lane.run(_lose_result_of_first_run, mark, timeout_s=30) == b"second run"


async def test_large_results_take_the_pipe_where_files_of_a_worker_cannot_be_opened(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LargeResult, "take", _refuse)
    assert await lane.run(_count_up, LARGE_BYTES, timeout_s=30) == _count_up(LARGE_BYTES)


async def test_a_full_queue_refuses_a_call_and_says_when_to_retry(lane: Lane) -> None:
    running = [asyncio.ensure_future(lane.run(_return, n, timeout_s=30)) for n in range(8)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await lane.run(_return, "too many", timeout_s=30)
    assert refused.value.retry_after_s >= 1
    assert await asyncio.gather(*running) == list(range(8))


async def test_a_caller_that_leaves_does_not_stop_a_running_call(
    lane: Lane, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    await lane.run(_return, 1, timeout_s=30)
    pids = lane.pids
    running = asyncio.ensure_future(lane.run(_touch_after_half_a_second, str(mark), timeout_s=30))
    await asyncio.sleep(0.05)
    running.cancel()
    await _wait_until(mark.exists)
    assert await lane.run(_return, 2, timeout_s=30) == 2
    assert lane.pids == pids


async def test_a_caller_that_leaves_the_queue_makes_room(lane: Lane) -> None:
    running = [asyncio.ensure_future(lane.run(_return, n, timeout_s=30)) for n in range(8)]
    await asyncio.sleep(0)
    running[-1].cancel()
    await asyncio.sleep(0)
    assert await lane.run(_return, "room", timeout_s=30) == "room"
    await asyncio.gather(*running, return_exceptions=True)


async def test_closing_ends_the_workers_and_fails_the_calls_that_wait() -> None:
    pool = ImagingPool(Imaging(processes=1, threads=1))
    running = asyncio.ensure_future(pool._tiles.run(time.sleep, 60, timeout_s=90))
    await _wait_until(lambda: bool(pool.pids))
    await asyncio.sleep(0.1)
    pids = pool.pids
    await pool.close()
    with pytest.raises(Unavailable):
        await running
    await _wait_until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
    with pytest.raises(Unavailable):
        await pool._tiles.run(_return, 1, timeout_s=1)


async def test_the_event_loop_is_not_blocked_while_workers_start(
    pool: ImagingPool, lane: Lane
) -> None:
    running = asyncio.ensure_future(lane.run(_return, 1, timeout_s=30))
    longest, began = 0.0, time.monotonic()
    last = began
    while not running.done():
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    # A start takes half a second or more, on a busy machine seconds: so may a pause of the loop.
    assert longest < max(0.25, (last - began) / 2)


async def test_a_deleted_source_is_reported_as_missing(pool: ImagingPool, tmp_path: Path) -> None:
    for maker in (pictures.jp2_untiled, pictures.pyramid_tiff):
        path = maker(tmp_path / "a", 300, 200)
        recipe = a_recipe(path, await pool.probe(path))
        await pool.render(recipe)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            await pool.render(recipe)
        with pytest.raises(FileNotFoundError):
            await pool.probe(path)


async def test_a_replaced_source_is_never_served_from_the_decoder_of_the_old_one(
    pool: ImagingPool, tmp_path: Path
) -> None:
    for maker in (pictures.jp2_untiled, pictures.pyramid_tiff, pictures.png):
        path = maker(tmp_path / "a", 300, 200)
        facts = await pool.probe(path)
        before = await pool.render(a_recipe(path, facts))
        maker(tmp_path / "b", 300, 200, 7).replace(path)
        assert await pool.render(a_recipe(path, facts)) != before
        maker(tmp_path / "b", 301, 200, 7).replace(path)
        with pytest.raises(SourceChanged):
            await pool.render(a_recipe(path, facts))


async def test_a_thumbnail_is_resized_exactly(pool: ImagingPool, tmp_path: Path) -> None:
    body = pictures.jpeg(tmp_path / "t.jpg", 1000, 703).read_bytes()
    for size in ((333, 234), (1, 1), (125, 88), (1500, 1055), (999, 1)):
        out = await pool.resize(body, size, "default", "jpg", Encoder())
        path = tmp_path / "out"
        path.write_bytes(out)
        assert (await pool.probe(path)).dimensions == size
    with pytest.raises(Unprocessable):
        await pool.resize(body[:2000], (10, 10), "default", "jpg", Encoder())
    with pytest.raises(Unprocessable):
        await pool.resize(b"<html>", (10, 10), "default", "jpg", Encoder())


async def test_sandboxed_formats_are_never_decoded_in_the_serving_process(tmp_path: Path) -> None:
    pool = ImagingPool(Imaging(processes=1, threads=1))
    path = pictures.jp2_untiled(tmp_path / "a", 300, 200)
    recipe = Recipe(str(path), SourceKind.PYRAMID_TIFF, (300, 200), 0, (0, 0, 300, 200), (300, 200))
    with pytest.raises(Unprocessable):
        await pool.render(recipe)  # its kind selects a thread, where JPEG2000 is blocked
    await pool.close()


@pytest.mark.parametrize("number", [0, 1], ids=["tiles", "conversions"])
async def test_the_jpeg2000_loader_of_libvips_is_blocked_in_decode_workers(
    pool: ImagingPool, tmp_path: Path, number: int
) -> None:
    lane = (pool._tiles, pool._heavy)[number]
    path = pictures.jp2_untiled(tmp_path / "a", 300, 200)
    assert await lane.run(_refusal_of_libvips, str(path), timeout_s=30) == "blocked"


async def test_a_decode_over_the_memory_limit_fails_and_the_pool_still_works(
    tmp_path: Path,
) -> None:
    pool = ImagingPool(Imaging(processes=1, threads=1, memory_limit=600_000_000))
    path = pictures.png_bomb(tmp_path / "a.png", 25_000, 25_000)
    recipe = Recipe(
        str(path), SourceKind.ORIGINAL, (25_000, 25_000), 0, (0, 0, 25_000, 25_000), (500, 500)
    )
    with pytest.raises(Exception, match=r"image|memory"):
        await pool.render(recipe)
    assert psutil.Process().memory_info().rss < 1_000_000_000
    good = pictures.png(tmp_path / "good", 300, 200)
    assert await pool.render(a_recipe(good, await pool.probe(good)))
    await pool.close()


async def test_a_lane_that_closes_during_a_call_closes_the_sockets_of_its_workers() -> None:
    """At once: the event loop may end before it hears of the end of the worker."""
    pool, before = ImagingPool(SMALL), open_sockets()
    lane = pool._tiles
    running = asyncio.ensure_future(lane.run(time.sleep, 60, timeout_s=90))
    await _wait_until(lambda: len(lane.pids) == 1)
    lane.close()
    assert open_sockets() == before
    with pytest.raises(Unavailable):
        await running
    await pool.close()


def test_killing_the_parent_ends_its_workers(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import asyncio, time
        from orchestrator.imaging.pool import ImagingPool
        from orchestrator.settings import Imaging

        async def main():
            pool = ImagingPool(Imaging(processes=2, threads=1))
            idle = await pool._heavy.run(time.sleep, 0, timeout_s=30)
            call = pool._tiles.run
            busy = [asyncio.ensure_future(call(time.sleep, 60, timeout_s=90)) for _ in "ab"]
            while len(pool.pids) < 3:
                await asyncio.sleep(0.05)
            print(*pool.pids, flush=True)
            await asyncio.gather(*busy)

        if __name__ == "__main__":
            asyncio.run(main())
        """)
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 3
        parent.kill()
    deadline = time.monotonic() + 5 * patience()
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker still runs after its parent was killed"
        time.sleep(0.05)


async def _wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20 * patience()):
        while not condition():
            await asyncio.sleep(0.02)


def _return(value: object) -> object:
    return value


def _use_processor_for(seconds: float) -> int:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return os.getpid()


def _compute_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def _kill_worker(mark: str) -> None:
    with open(mark, "ab") as file:  # noqa: PTH123  in a worker
        file.write(b"x")
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep_on_first_run(mark: str) -> str:
    if Path(mark).exists():
        return "second run"
    Path(mark).touch()
    time.sleep(60)
    return "first run"


def _count_up(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def _is_in_memory(file: Path) -> bool:
    return "memfd:" in str(file.readlink())


def _lose_result_of_first_run(mark: str) -> bytes | LargeResult:
    if Path(mark).exists():
        return b"second run"
    Path(mark).touch()
    return LargeResult(os.getpid(), 10_000, 1)


def _refuse(_: LargeResult) -> bytes:
    raise PermissionError


def _touch_after_half_a_second(mark: str) -> None:
    time.sleep(0.5)
    Path(mark).touch()


def _run_single(value: int) -> int:
    return value


def _run_group(values: list[int]) -> list[object]:
    return [Unprocessable("x") if n == 3 else (n, len(values)) for n in values]


def _kill_worker_of_group(values: list[int]) -> list[object]:
    os.kill(os.getpid(), signal.SIGKILL)
    return list(values)


def _refusal_of_libvips(path: str) -> str:
    try:
        pyvips.Image.jp2kload(path).avg()
    except pyvips.Error as error:
        return "blocked" if "blocked" in str(error) else str(error)
    return "decoded"
