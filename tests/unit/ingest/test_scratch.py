"""Scratch space is private and bounded, and that of killed processes is removed."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import Fault, NoRoom, StorageUnavailable, fault_of
from orchestrator.ingest.scratch import Scratch, sweep
from tests.support.patience import patience

HOLD = """
import asyncio, sys, time
from pathlib import Path
from orchestrator.ingest.scratch import Scratch, sweep
async def main():
    scratch = await Scratch.open(Path(sys.argv[1]))
    async with scratch.folder() as folder:
        (folder / "half").write_bytes(b"x" * 1000)
        print(folder, flush=True)
        time.sleep(60)
asyncio.run(main())
"""


@contextmanager
def one_busy_thread() -> Iterator[None]:
    """The event loop has one thread, which is busy until the end of the block."""
    loop, done = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    loop.run_in_executor(None, done.wait)
    try:
        yield
    finally:
        done.set()


async def test_a_scratch_folder_is_removed_after_its_work_and_all_scratch_at_the_end(
    tmp_path: Path,
) -> None:
    scratch = await Scratch.open(tmp_path / "scratch")
    async with scratch.folder() as folder:
        (folder / "original").write_bytes(b"1")
    assert not folder.exists()
    async with scratch.folder() as other:
        assert other.parent == folder.parent
    await scratch.close()
    assert list((tmp_path / "scratch").iterdir()) == []


async def test_a_folder_is_removed_although_its_task_is_cancelled_again_meanwhile(
    tmp_path: Path,
) -> None:
    scratch, folders = await Scratch.open(tmp_path / "scratch"), []

    async def work() -> None:
        async with scratch.folder() as folder:
            (folder / "original").write_bytes(b"1")
            folders.append(folder)
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    while not folders:
        await asyncio.sleep(0.01)
    with one_busy_thread():
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(int)  # after the removal: there is one thread
    assert folders[0].parent.is_dir()
    assert not folders[0].exists()


async def test_a_folder_that_is_created_after_its_task_was_cancelled_is_removed(
    tmp_path: Path,
) -> None:
    scratch = await Scratch.open(tmp_path / "scratch")
    home = scratch.home
    assert home is not None
    before = home.stat().st_mtime_ns

    async def work() -> None:
        async with scratch.folder():
            pytest.fail("cancelled before")

    with scratch._opening:  # what the thread that creates the folder waits for
        task = asyncio.create_task(work())
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    deadline = time.monotonic() + 10 * patience()
    while home.stat().st_mtime_ns == before or any(home.iterdir()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_scratch_of_a_killed_process_is_swept_and_that_of_a_running_one_is_not(
    tmp_path: Path,
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    left = Path(process.stdout.readline().strip())
    await (await Scratch.open(tmp_path)).close()
    assert (left / "half").exists()

    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert (left / "half").exists()
    await (await Scratch.open(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []


async def test_no_scratch_folder_is_created_below_the_free_space_floor(tmp_path: Path) -> None:
    scratch = await Scratch.open(tmp_path, floor_bytes=1)
    with pytest.raises(NoRoom):
        async with scratch.folder(expected_bytes=2**62):
            pass
    await scratch.close()


async def test_a_disk_that_fills_up_during_the_work_is_no_room(tmp_path: Path) -> None:
    scratch = await Scratch.open(tmp_path)
    for number in (errno.ENOSPC, errno.EDQUOT):
        with pytest.raises(NoRoom) as caught:
            async with scratch.folder():
                raise OSError(number, "full", "original")
        assert fault_of(caught.value, "fetch") == Fault(
            "no_room", "fetch", retryable=True, detail=caught.value.public
        )
    with pytest.raises(PermissionError):
        async with scratch.folder():
            raise PermissionError(errno.EACCES, "denied")
    await scratch.close()


async def test_a_folder_that_cannot_be_made_is_not_called_a_full_disk(tmp_path: Path) -> None:
    place = tmp_path / "scratch"
    place.write_bytes(b"a file")
    scratch = await Scratch.open(place)
    with pytest.raises(StorageUnavailable, match="may write"):
        async with scratch.folder():
            pass
    place.unlink()
    async with scratch.folder() as folder:
        assert folder.is_dir()
    await scratch.close()


async def test_folders_of_other_programs_are_not_swept(tmp_path: Path) -> None:
    for name in ("pictures", "partial-uploads", "1234", "12-34"):
        (tmp_path / name).mkdir()
    assert sweep(tmp_path) == 0
    assert len(list(tmp_path.iterdir())) == 4
